//! What a service mesh asks for: which destination a request goes to, and who it comes
//! from when a trusted proxy says so.

mod path;
mod route;

use arc_swap::ArcSwap;

pub use self::route::{Route, RouteError, Routes};
use crate::{identity::CallerId, policy::CallerPattern};

/// How requests of proxies are read. It is replaced as a whole when the configuration is.
#[derive(Default)]
pub struct Mesh {
    /// Where requests go, by host and path.
    pub routes: Routes,
    /// Whose word about the caller is taken.
    pub trusted_proxies: Vec<CallerPattern>,
    /// The only SPIFFE trust domains whose callers are known; all of them if empty.
    pub trust_domains: Vec<String>,
}

/// The mesh in force.
pub type LiveMesh = ArcSwap<Mesh>;

impl Mesh {
    /// Who a request comes from: the peer itself, or whom a trusted proxy names. `None` if
    /// the proxy names nobody: it is never taken for the caller.
    pub fn caller(&self, peer: &CallerId, principal: &str) -> Option<CallerId> {
        if !self.trusted_proxies.iter().any(|proxy| proxy.matches(peer)) {
            return Some(peer.clone());
        }
        let caller = CallerId::parse(principal).ok()?;
        self.knows(&caller).then_some(caller)
    }

    /// Whether a caller with a certificate of its own would be known.
    fn knows(&self, caller: &CallerId) -> bool {
        let Some(trust_domain) = caller.trust_domain() else {
            return true;
        };
        let mut known = self.trust_domains.iter();
        self.trust_domains.is_empty() || known.any(|domain| domain == trust_domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_counts_from_a_trusted_proxy_only() {
        let gateway = "spiffe://corp.example/ns/mesh/sa/gateway";
        let cart = "spiffe://corp.example/ns/shop/sa/cart";
        let long = format!("spiffe://corp.example/{}", "x".repeat(3000));
        let mesh = Mesh {
            trusted_proxies: vec![
                CallerPattern::parse(gateway).unwrap(),
                CallerPattern::parse("spiffe://corp.example/ns/edge/*").unwrap(),
            ],
            trust_domains: vec!["corp.example".to_owned()],
            ..Mesh::default()
        };
        for (peer, principal, expected) in [
            (cart, "", Some(cart)),
            (cart, gateway, Some(cart)),
            (cart, "spiffe://corp.example/ns/shop/sa/till", Some(cart)),
            (gateway, cart, Some(cart)),
            ("spiffe://corp.example/ns/edge/a", cart, Some(cart)),
            (
                "spiffe://corp.example/ns/edge/a/b",
                gateway,
                Some("spiffe://corp.example/ns/edge/a/b"),
            ),
            (gateway, "till.corp.example", Some("till.corp.example")),
            (gateway, "", None),
            (gateway, "spiffe://corp.example", None),
            (gateway, "spiffe://CORP.example/ns/shop/sa/cart", None),
            (gateway, "spiffe://other.example/ns/shop/sa/cart", None),
            (gateway, "spiffe://corp.example/ns/shop/../sa/cart", None),
            (
                gateway,
                "spiffe://corp.example/ns/shop/sa/cart,spiffe://corp.example/x",
                None,
            ),
            (gateway, "https://corp.example/cart", None),
            (gateway, "CN=cart,O=Corp", None),
            (gateway, "*.corp.example", None),
            (gateway, "Till.corp.example", None),
            (gateway, " till.corp.example", None),
            (gateway, &long, None),
        ] {
            let peer = CallerId::parse(peer).unwrap();
            let caller = mesh.caller(&peer, principal);
            assert_eq!(
                caller.as_ref().map(CallerId::as_str),
                expected,
                "{peer} {principal}"
            );
        }
    }
}
