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
pub(super) struct Crowd {
    most: usize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// A peer in its handshake.
pub(super) struct Entered {
    crowd: Arc<Crowd>,
    address: IpAddr,
}

impl Crowd {
    /// Nobody yet, for a listener with so many places.
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            most: (places / SHARE).max(AT_LEAST),
            by_address: Mutex::default(),
        })
    }

    /// Lets a peer begin its handshake, unless too many of its address are in theirs.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Entered> {
        let address = host(address);
        let mut by_address = self.by_address();
        let count = by_address.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Entered {
            crowd: Arc::clone(self),
            address,
        })
    }

    fn by_address(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
        let crowd = Crowd::new(100);
        let address = |text: &str| text.parse().unwrap();
        let mut silent: Vec<_> = (0..25)
            .map(|_| crowd.enter(address("192.0.2.1")).unwrap())
            .collect();
        assert!(crowd.enter(address("192.0.2.1")).is_none());
        assert!(crowd.enter(address("::ffff:192.0.2.1")).is_none());
        assert!(crowd.enter(address("192.0.2.2")).is_some());
        silent.pop();
        assert!(crowd.enter(address("192.0.2.1")).is_some());

        let _many: Vec<_> = (1..=25)
            .map(|n| crowd.enter(address(&format!("2001:db8::{n:x}"))).unwrap())
            .collect();
        assert!(crowd.enter(address("2001:db8::ffff")).is_none());
        assert!(crowd.enter(address("2001:db8:0:1::1")).is_some());
    }

    #[test]
    fn an_address_that_has_gone_is_forgotten() {
        let crowd = Crowd::new(1);
        drop(crowd.enter([192, 0, 2, 1].into()));
        assert!(crowd.by_address().is_empty());
        let peers: Vec<_> = (0..10)
            .map_while(|_| crowd.enter([192, 0, 2, 1].into()))
            .collect();
        assert_eq!(peers.len(), AT_LEAST);
    }
}
