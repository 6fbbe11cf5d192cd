//! A server's host and port, as they are written.

use std::net::{Ipv4Addr, Ipv6Addr};

use toml::de::DeValue;

use super::values;
use crate::shared_cache::HostPort;

/// The longest name and the longest part of one between dots (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// A name or an address, and a port where it is not the default one. What is wrong is never
/// repeated: people paste whole URLs, with passwords in them.
pub(super) fn host_port(default: u16) -> impl Fn(&DeValue<'_>) -> Result<HostPort, String> {
    move |value| {
        let text = values::text(value)?;
        if text.contains("://") {
            return Err("must not be a URL: write the host and the port alone, such as \"redis.example:6379\", and tls, username, password_file and database on lines of their own".to_owned());
        }
        if text.contains('@') {
            return Err("must not hold a user or a password: write the host and the port alone, and username and password_file on lines of their own".to_owned());
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(format!(
                "must have an IPv6 address in brackets, such as \"[fd00::1]:{default}\""
            ));
        }
        parse(text, default).ok_or_else(|| {
            format!("must be a host and a port from 1 to 65535, such as \"redis.example:{default}\" or \"[fd00::1]:{default}\"")
        })
    }
}

fn parse(text: &str, default: u16) -> Option<HostPort> {
    let (host, rest) = if let Some(text) = text.strip_prefix('[') {
        let (host, rest) = text.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        (host, rest)
    } else {
        let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
        is_host(host).then_some((host, rest))?
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => parse_port(port)?,
        None if rest.is_empty() => default,
        None => return None,
    };
    Some(HostPort {
        host: host.to_owned(),
        port,
    })
}

fn parse_port(text: &str) -> Option<u16> {
    // A number would also be read with a sign before it.
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = plain.then(|| text.parse().ok()).flatten();
    port.filter(|port| *port != 0)
}

/// An IPv4 address or a name. Names are those that resolvers take, underscores included,
/// since container runtimes make such names.
fn is_host(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(known)
    };
    // A name that ends with a number is an address, or a slip in one.
    let numeric = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    name.len() <= MAX_NAME && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_read_and_nothing_else() {
        for (text, host, port) in [
            ("redis.example:6379", "redis.example", 6379),
            ("redis.example", "redis.example", 6379),
            ("redis.example.:1", "redis.example.", 1),
            ("redis", "redis", 6379),
            ("shop_redis_1:65535", "shop_redis_1", 65_535),
            ("10.0.0.1:7000", "10.0.0.1", 7000),
            ("127.0.0.1", "127.0.0.1", 6379),
            ("[::1]:7000", "::1", 7000),
            ("[fd00::1]", "fd00::1", 6379),
        ] {
            let expected = HostPort {
                host: host.to_owned(),
                port,
            };
            assert_eq!(parse(text, 6379), Some(expected), "{text}");
        }
        let long = "x".repeat(64);
        let longer = "x.".repeat(127) + "example";
        for text in [
            "",
            ":6379",
            "redis.example:",
            "redis.example:0",
            "redis.example:65536",
            "redis.example:+1",
            "redis.example:6379:1",
            "redis.example:6379/0",
            "redis.example:6379,other.example:6379",
            "redis..example",
            ".example",
            ".",
            "redis example",
            "rédis.example",
            "*",
            "10.0.0.256",
            "10.0.1",
            "10.0.0.1.",
            "6379",
            "::1",
            "[::1",
            "[::1]6379",
            "[::1]:",
            "[redis.example]:6379",
            "[127.0.0.1]:6379",
            "[fe80::1%eth0]:6379",
            &long,
            &longer,
        ] {
            assert_eq!(parse(text, 6379), None, "{text}");
        }
    }
}
