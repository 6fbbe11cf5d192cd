//! How many peers of one address are in their handshake: so that one host that connects
//! and says nothing cannot take the places of all others.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// One address may have this part of all places in handshakes.
const SHARE: usize = 4;
/// However few places there are, one address may have so many.
const AT_LEAST: usize = 8;

/// The peers that are in their handshake, by address.
pub(super) struct Crowd(Mutex<HashMap<IpAddr, usize>>);

/// A peer in its handshake.
pub(super) struct Entered {
    crowd: Arc<Crowd>,
    address: IpAddr,
}

impl Crowd {
    /// Nobody yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    /// Lets a peer begin its handshake, unless too many of its address are in theirs, where
    /// there are so many places in all.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, places: usize) -> Option<Entered> {
        let (address, most) = (host(address), (places / SHARE).max(AT_LEAST));
        let mut by_address = self.by_address();
        let count = by_address.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Entered {
            crowd: Arc::clone(self),
            address,
        })
    }

    fn by_address(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut by_address = self.crowd.by_address();
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// An IPv6 host has a whole /64 to itself (RFC 4291 §2.5.4).
fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_takes_a_quarter_of_the_places_and_leaves_the_others() {
        let crowd = Crowd::new();
        let address = |text: &str| text.parse().unwrap();
        let mut silent: Vec<_> = (0..25)
            .map(|_| crowd.enter(address("192.0.2.1"), 100).unwrap())
            .collect();
        assert!(crowd.enter(address("192.0.2.1"), 100).is_none());
        assert!(crowd.enter(address("::ffff:192.0.2.1"), 100).is_none());
        assert!(crowd.enter(address("192.0.2.2"), 100).is_some());
        silent.pop();
        assert!(crowd.enter(address("192.0.2.1"), 100).is_some());

        let _many: Vec<_> = (1..=25)
            .map(|n| {
                crowd
                    .enter(address(&format!("2001:db8::{n:x}")), 100)
                    .unwrap()
            })
            .collect();
        assert!(crowd.enter(address("2001:db8::ffff"), 100).is_none());
        assert!(crowd.enter(address("2001:db8:0:1::1"), 100).is_some());
    }

    #[test]
    fn an_address_that_has_gone_is_forgotten() {
        let crowd = Crowd::new();
        drop(crowd.enter([192, 0, 2, 1].into(), 1));
        assert!(crowd.by_address().is_empty());
        let peers: Vec<_> = (0..10)
            .map_while(|_| crowd.enter([192, 0, 2, 1].into(), 1))
            .collect();
        assert_eq!(peers.len(), AT_LEAST);
    }
}
