//! What the broker sees to itself: the last look before a token leaves, and readiness.

use futures_util::future::{BoxFuture, FutureExt as _};

use super::*;
use crate::{
    cache::Host,
    clock::Moment,
    destination::TokenKey,
    metrics::Metrics,
    secret::Secret,
    token::{LifetimeRule, Minted, SecretName},
    upstream::{FetchError, Rotation, TokenSource},
};

/// Mints at once, or never ends.
struct Endpoint {
    answers: bool,
}

impl TokenSource for Endpoint {
    fn mint(&self) -> BoxFuture<'_, Result<Minted, FetchError>> {
        if !self.answers {
            return std::future::pending().boxed();
        }
        let minted = Minted {
            access_token: Secret::new("token".to_owned()),
            expires_in: None,
        };
        std::future::ready(Ok(minted)).boxed()
    }
}

fn registration(destination: &str, edition: Edition, answers: bool) -> Arc<Registration> {
    Arc::new(Registration {
        edition,
        key: Arc::new(TokenKey::sample(destination)),
        rotation: Rotation::of(Arc::new(Endpoint { answers })),
        host: Arc::new(Host::new("upstream.example:443".to_owned(), 16)),
        lifetimes: LifetimeRule {
            default: Duration::from_secs(3600),
            max: Duration::from_secs(86_400),
        },
        expiry_margin: Duration::from_secs(60),
        timeout: Duration::from_secs(5),
        warm: true,
    })
}

fn catalogue(edition: Edition, registrations: &[Arc<Registration>]) -> Catalogue {
    let mut catalogue = Catalogue::new(edition, Arc::default());
    for registration in registrations {
        let listing = Listing {
            id: registration.key.destination.clone(),
            name: None,
            grants: crate::policy::Grants::new([]),
            registrations: vec![Arc::clone(registration)],
        };
        catalogue.add(listing);
    }
    catalogue
}

#[test]
fn a_token_of_another_key_does_not_leave() {
    let [one, other] = ["one", "other"].map(|name| registration(name, Edition::default(), true));
    let token = Arc::new(Token {
        key: Arc::clone(&other.key),
        access_token: Arc::new(Secret::new("token".to_owned())),
        id: TokenId::random(),
        requested_at: Moment::now(),
        lifetime: Duration::from_secs(3600),
        secret: SecretName::sample(),
    });
    assert!(hand_out(&other, Ok(Arc::clone(&token))).is_ok());
    let refused = hand_out(&one, Ok(token)).unwrap_err();
    assert_eq!(refused.code(), "UPSTREAM_UNAVAILABLE");
}

#[tokio::test(start_paused = true)]
async fn one_more_warm_destination_does_not_make_a_ready_broker_unready() {
    let first = Edition::default();
    let (cache, _schedule) = Cache::new(Arc::new(Metrics::new()));
    let good = registration("good", first, true);
    let broker = Broker::new(catalogue(first, &[good]), cache);
    broker.warm();
    assert!(!broker.is_ready(), "nothing was tried yet");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(broker.is_ready());

    let next = first.next();
    let both = [
        registration("good", next, true),
        registration("hangs", next, false),
    ];
    broker.replace(catalogue(next, &both));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(
        broker.is_ready(),
        "the new one hangs, the other has its token"
    );
}
