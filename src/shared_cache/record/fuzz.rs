//! Records that nobody wrote, behind a seal that holds: each kind is read as if it were any other.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::fuzz::Target;

/// Fields as protobuf writes them, well-formed or not.
fn fields() -> impl Strategy<Value = Vec<u8>> {
    let number = any::<u64>().prop_map(varint);
    let text = "[a-f0-9]{0,40}|\\PC{0,8}".prop_map(|text: String| bytes(text.as_bytes()));
    let field = prop_oneof![
        (1..8_u8, number).prop_map(|(tag, number)| [vec![tag << 3], number].concat()),
        (1..8_u8, text).prop_map(|(tag, text)| [vec![tag << 3 | 2], text].concat()),
        vec(any::<u8>(), 0..8),
    ];
    vec(field, 0..8).prop_map(|fields| fields.concat())
}

fn varint(number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(number, &mut bytes);
    bytes
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    [varint(bytes.len() as u64), bytes.to_vec()].concat()
}

#[test]
fn what_is_read_is_written_as_it_is_read_and_a_token_of_it_never_lives_too_long() {
    const MAX: Duration = Duration::from_secs(86_400);
    let key = Arc::new(TokenKey::sample("d"));
    Target::new("shared-record")
        .words(&["CREDENTIAL_REJECTED", "00000000000000000000000000000000"])
        .inventing(fields())
        .holds(|input| {
            let mut accepted = false;
            if let Ok(failure) = SharedFailure::decode(input) {
                assert_eq!(SharedFailure::decode(&failure.encode()), Ok(failure));
                accepted = true;
            }
            if let Ok(pause) = Pause::decode(input) {
                assert_eq!(Pause::decode(&pause.encode()), Ok(pause));
            }
            if let Ok(act) = SharedQuarantine::decode(input) {
                assert_eq!(SharedQuarantine::decode(&act.encode()), Ok(act));
                accepted = true;
            }
            if let Ok(beat) = Beat::decode(input) {
                assert!(beat.name.len() <= 64 && beat.version.len() <= 64);
                assert!(beat.name.bytes().all(|byte| byte.is_ascii_graphic()));
                assert_eq!(Beat::decode(&beat.encode()).as_ref(), Ok(&beat));
                let now = Moment::now().wall;
                if let Ok((replica, left)) = beat.arrive(CLOCKS_DIFFER * 3, now) {
                    assert!(left <= CLOCKS_DIFFER * 4);
                    assert!(replica.seen <= now && replica.since <= now);
                }
                accepted = true;
            }
            if let Ok(token) = SharedToken::decode(input) {
                accepted = true;
                let now = Moment::now();
                if let Ok(token) = token.arrive(&key, MAX, now) {
                    assert!(token.lifetime <= MAX);
                    assert!(now.instant < token.expires_at().instant);
                    assert!(token.expires_at().instant <= now.instant + MAX);
                }
            }
            accepted
        });
}
