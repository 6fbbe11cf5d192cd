//! What an operator sees of a sealed store: credentials that nobody refers to, and how the
//! rotation of one goes.

use jiff::Timestamp;
use token_broker::{
    api::admin::v1::{Destination, RotationState},
    credential::{
        Credential, CredentialRef, Proof,
        sealed::{Contents, Keys, Refusal, Store},
    },
    secret::Secret,
};

use crate::{
    desk::{ADMIN, Desk, Ops, until},
    trial::{Setup, ask, client_id},
};

async fn sealed() -> Desk {
    let setup = Setup {
        destinations: 1,
        sealed: true,
        ..Setup::default()
    };
    Desk::start(setup, ADMIN, "").await
}

fn credential(secret: &str) -> Credential {
    let reference = CredentialRef::Sealed("any".to_owned());
    let proof = Proof::ClientSecret(Secret::new(secret.to_owned()));
    Credential::new(&reference, client_id("d0"), proof)
}

fn change<T>(desk: &Desk, change: impl FnOnce(&mut Contents) -> Result<T, Refusal>) {
    let folder = desk.site.folder.path();
    let keys = Keys::read(&folder.join("broker.key")).unwrap();
    let store = Store::new(folder.join("credentials.age"), keys, false);
    store.change(change).unwrap();
}

/// Waits until the rotation of `d0` has come to this.
async fn rotated(ops: &Ops, state: RotationState) -> Destination {
    until("the rotation has come so far", async || {
        ops.destination("d0").await.rotation() == state
    })
    .await;
    ops.destination("d0").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_no_destination_refers_to_is_unused() {
    let desk = sealed().await;
    let ops = desk.ops().await;
    let credentials = async || {
        let mut unused = ops.unused(0).await;
        unused.retain(|(name, _)| name.starts_with("sealed:"));
        unused
    };
    ask(&mut desk.cart().await, "d0").await.unwrap();
    assert_eq!(credentials().await, [("sealed:d0".to_owned(), true)]);
    change(&desk, |contents| {
        contents.set("spare", &credential("secret"), Timestamp::now())
    });
    ops.reload().await.unwrap();
    let both = [
        ("sealed:d0".to_owned(), true),
        ("sealed:spare".to_owned(), false),
    ];
    assert_eq!(credentials().await, both);
    change(&desk, |contents| contents.remove("spare"));
    ops.reload().await.unwrap();
    assert_eq!(credentials().await, both[..1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_shown_and_a_secret_that_was_rolled_back_is_warned_of() {
    let desk = sealed().await;
    let ops = desk.ops().await;
    let none = ops.destination("d0").await;
    assert_eq!(none.rotation(), RotationState::None);
    assert_eq!(
        (
            none.credential.as_str(),
            none.credential_generation.as_str()
        ),
        ("sealed:d0", "1")
    );
    let next = |secret: &'static str| {
        move |contents: &mut Contents| contents.rotate("d0", &credential(secret), Timestamp::now())
    };
    change(&desk, next("wrong"));
    ops.reload().await.unwrap();
    let pending = ops.destination("d0").await;
    assert_eq!(pending.rotation(), RotationState::Pending);
    assert_eq!(pending.credential_generation, "2", "it is tried first");

    // The current secret mints in the same flight, so the caller notices nothing.
    ask(&mut desk.cart().await, "d0").await.unwrap();
    let rolled_back = rotated(&ops, RotationState::RolledBack).await;
    assert_eq!(rolled_back.credential_generation, "1");
    let [warning] = rolled_back.warnings.as_slice() else {
        panic!("{:?}", rolled_back.warnings);
    };
    assert_eq!(warning.code, "rotation_rolled_back");
    let series = r#"token_broker_warnings{destination="d0",application="shop",warning="rotation_rolled_back"} 1"#;
    assert_eq!(desk.metrics("token_broker_warnings{").await, [series]);

    change(&desk, |contents| contents.abort("d0"));
    ops.reload().await.unwrap();
    let aborted = ops.destination("d0").await;
    assert_eq!(aborted.rotation(), RotationState::None);
    assert!(aborted.warnings.is_empty());

    desk.site.upstream.register("d0", &client_id("d0"), "right");
    change(&desk, next("right"));
    ops.reload().await.unwrap();
    let promoted = rotated(&ops, RotationState::Promoted).await;
    assert_eq!(promoted.credential_generation, "3");
    assert!(promoted.warnings.is_empty());
}
