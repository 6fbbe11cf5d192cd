//! Who may have what: a policy of any size, with names as long as real ones.

use std::fmt::Write as _;

/// Each of the callers is granted each of the destinations, by a pattern of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) destinations: usize,
    pub(crate) callers: usize,
}

impl Policy {
    /// How many patterns there are in all. A hundred thousand are as many as fit the largest
    /// configuration file.
    pub(crate) fn grants(self) -> usize {
        self.destinations * self.callers
    }

    /// The id of a destination, as long as a GUID.
    pub(crate) fn destination(n: usize) -> String {
        format!("5f0c1d2e-7a3b-4c4d-8e5f-{n:012}")
    }

    /// The SPIFFE ID of a caller.
    pub(crate) fn caller(n: usize) -> String {
        format!("spiffe://cluster.local/ns/a/sa/c{n:05}")
    }

    /// The name under which the credential of a destination is kept.
    pub(super) fn credential(n: usize) -> String {
        format!("application-{n}")
    }

    /// The client id at a destination.
    pub(super) fn client_id(n: usize) -> String {
        format!("client-of-{n}")
    }

    /// The client secret at a destination.
    pub(super) fn client_secret(n: usize) -> String {
        format!("secret-of-{n:034}")
    }

    /// How the tokens of a destination begin.
    pub(crate) fn token_start(n: usize) -> String {
        format!("{}~{}~", Self::destination(n), Self::client_id(n))
    }

    /// How the upstream is asked for a token of a destination.
    pub(crate) fn token_request(n: usize) -> String {
        let body = format!(
            r#"{{"clientId":"{}","clientSecret":"{}"}}"#,
            Self::client_id(n),
            Self::client_secret(n)
        );
        format!(
            "POST /destinations/{}/token HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            Self::destination(n),
            body.len()
        )
    }

    /// Its lines in the configuration.
    pub(super) fn lines(self) -> String {
        let mut callers = String::new();
        for n in 0..self.callers {
            write!(callers, "\"{}\",", Self::caller(n)).expect("a text takes anything");
        }
        let mut lines = String::new();
        for n in 0..self.destinations {
            write!(
                lines,
                r#"
[[destination]]
id = "{id}"
upstream = "occtoo"
[[destination.application]]
name = "app"
credential = "sealed:{credential}"
[[destination.grant]]
callers = [{callers}]
"#,
                id = Self::destination(n),
                credential = Self::credential(n),
            )
            .expect("a text takes anything");
        }
        lines
    }
}
