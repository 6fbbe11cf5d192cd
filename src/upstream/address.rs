//! Which addresses a token endpoint may have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where clouds serve the credentials of a machine, outside the link-local range.
const METADATA_V4: [Ipv4Addr; 2] = [
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba Cloud
    Ipv4Addr::new(168, 63, 129, 16),   // Azure
];
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), // AWS
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),  // Google Cloud
];

/// Decides which IP addresses may be connected to.
///
/// Public unicast addresses always may. Link-local, unspecified, multicast,
/// broadcast, documentation and reserved addresses never may, nor may those of the
/// clouds' metadata services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressRule {
    /// Whether the machine itself may be asked: 127.0.0.0/8 and `::1`.
    pub loopback: bool,
    /// Whether private networks may be asked: RFC 1918, 100.64.0.0/10 (RFC 6598)
    /// and `fc00::/7` (RFC 4193).
    pub private: bool,
}

/// A name has no address that the rule permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreachable {
    /// DNS knows no address.
    #[error("the name has no address")]
    NoAddress,
    /// Every address that DNS knows is refused.
    #[error("the address is not allowed")]
    Refused,
}

impl AddressRule {
    /// Whether an address may be connected to. An IPv6 address that carries an IPv4
    /// address is judged by the latter, because that is where packets end up.
    pub fn permits(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.permits_v4(v4),
            IpAddr::V6(v6) => match embedded(v6) {
                Some(v4) => self.permits_v4(v4),
                None => self.permits_v6(v6),
            },
        }
    }

    /// Resolves a name and keeps only permitted addresses; their port is 0.
    pub(super) async fn resolve(self, name: &str) -> Result<Vec<SocketAddr>, Unreachable> {
        let known: Vec<_> = tokio::net::lookup_host((name, 0))
            .await
            .map_err(|_| Unreachable::NoAddress)?
            .collect();
        if known.is_empty() {
            return Err(Unreachable::NoAddress);
        }
        // RFC 6761 §6.3: the name may be spoken to in plain HTTP, so it must not lead elsewhere.
        let must_be_loopback = is_localhost(name);
        let permitted: Vec<_> = known
            .into_iter()
            .filter(|address| self.permits(address.ip()))
            .filter(|address| !must_be_loopback || address.ip().is_loopback())
            .collect();
        if permitted.is_empty() {
            return Err(Unreachable::Refused);
        }
        Ok(permitted)
    }

    fn permits_v4(self, address: Ipv4Addr) -> bool {
        match address.octets() {
            [127, ..] => self.loopback,
            _ if METADATA_V4.contains(&address) => false,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => self.private,
            // "This network", multicast, reserved and broadcast, link-local, IETF protocols,
            // documentation (three nets), the 6to4 relays, benchmarking (RFC 6890).
            [0 | 224..=255, ..]
            | [169, 254, ..]
            | [192, 0, 0 | 2, _]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
            | [192, 88, 99, _]
            | [198, 18..=19, ..] => false,
            _ => true,
        }
    }

    fn permits_v6(self, address: Ipv6Addr) -> bool {
        match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 1] => self.loopback,
            _ if METADATA_V6.contains(&address) => false,
            [0xfc00..=0xfdff, ..] => self.private,
            // IETF protocols with Teredo (2001::/23), and documentation (RFC 3849, RFC 9637).
            [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
            // Only 2000::/3 is global unicast; all else is link-local, multicast or unassigned.
            [first, ..] => first & 0xe000 == 0x2000,
        }
    }
}

/// Whether a host name means the machine itself: `localhost` and all names below it.
pub(super) fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let top = name.rsplit_once('.').map_or(name, |(_, top)| top);
    top.eq_ignore_ascii_case("localhost")
}

/// The IPv4 address inside an IPv6 address, if it has one of the forms that some
/// router, resolver or socket translates.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let (high, low) = match address.segments() {
        // `::` and `::1` look compatible, but mean themselves.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => return None,
        // Compatible and mapped (RFC 4291 §2.5.5), translated (RFC 2765), NAT64 (RFC 6052)
        // and 6to4 (RFC 3056).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: AddressRule = AddressRule {
        loopback: false,
        private: false,
    };
    const LOOPBACK: AddressRule = AddressRule {
        loopback: true,
        private: false,
    };
    const PRIVATE: AddressRule = AddressRule {
        loopback: false,
        private: true,
    };
    const BOTH: AddressRule = AddressRule {
        loopback: true,
        private: true,
    };

    #[test]
    fn each_address_is_permitted_by_exactly_the_rules_that_name_it() {
        let always = [STRICT, LOOPBACK, PRIVATE, BOTH].as_slice();
        let loopback = [LOOPBACK, BOTH].as_slice();
        let private = [PRIVATE, BOTH].as_slice();
        let never = [].as_slice();
        for (permitted_by, addresses) in [
            (
                always,
                "1.1.1.1 20.50.2.1 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 192.0.1.1 \
                 198.17.0.1 198.20.0.1 223.255.255.255 2606:4700::1111 2a00::1 2001:200::1 \
                 ::ffff:1.1.1.1 ::1.1.1.1 64:ff9b::101:101 2002:101:101::",
            ),
            (
                loopback,
                "127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1 ::127.0.0.1 ::ffff:0:7f00:1 \
                 64:ff9b::7f00:1 2002:7f00:1::1",
            ),
            (
                private,
                "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 100.127.255.255 \
                 fc00::1 fd12:3456::1 ::ffff:10.0.0.1 64:ff9b::c0a8:101 2002:a00:1::1",
            ),
            (
                never,
                "0.0.0.0 0.1.2.3 169.254.0.1 169.254.169.254 192.0.0.8 192.0.2.1 198.51.100.1 \
                 203.0.113.1 192.88.99.1 198.18.0.1 198.19.255.255 224.0.0.1 239.1.1.1 240.0.0.1 \
                 255.255.255.255 100.100.100.200 168.63.129.16 :: fe80::1 febf::1 fec0::1 ff02::1 \
                 2001:db8::1 3fff::1 2001::1 2001:2::1 100::1 5f00::1 64:ff9b:1::1 4000::1 \
                 fd00:ec2::254 fd20:ce::254 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe \
                 2002:a9fe:a9fe:: ::ffff:0.0.0.0 ::ffff:255.255.255.255",
            ),
        ] {
            for address in addresses.split_whitespace() {
                for rule in [STRICT, LOOPBACK, PRIVATE, BOTH] {
                    assert_eq!(
                        rule.permits(address.parse().unwrap()),
                        permitted_by.contains(&rule),
                        "{address} under {rule:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn localhost_is_a_name_and_all_names_below_it() {
        for name in [
            "localhost",
            "LocalHost",
            "localhost.",
            "a.localhost",
            "b.a.localhost.",
        ] {
            assert!(is_localhost(name), "{name}");
        }
        for name in ["", ".", "localhost.example", "notlocalhost", "a.example"] {
            assert!(!is_localhost(name), "{name}");
        }
    }

    #[tokio::test]
    async fn a_name_keeps_only_permitted_addresses() {
        assert_eq!(STRICT.resolve("localhost").await, Err(Unreachable::Refused));
        assert_eq!(
            PRIVATE.resolve("localhost").await,
            Err(Unreachable::Refused)
        );
        let found = LOOPBACK.resolve("localhost").await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()));
    }
}
