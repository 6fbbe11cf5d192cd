//! Requests of callers, as bytes.

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{fuzz::Target, slot::Slot};

#[test]
fn a_wanted_validity_is_read_exactly_or_refused() {
    let seconds = prop_oneof![
        any::<i64>(),
        -2..100_000_i64,
        Just(i64::MAX),
        Just(i64::MIN)
    ];
    let nanos = prop_oneof![any::<i32>(), -2..1_000_000_001_i32, Just(999_999_999)];
    let request = ("\\PC{0,20}", proptest::option::of((seconds, nanos)));
    let request = request.prop_map(|(destination_id, wanted)| GetTokenRequest {
        destination_id,
        min_validity: wanted.map(|(seconds, nanos)| prost_types::Duration { seconds, nanos }),
    });
    Target::new("get-token")
        .inventing(request.prop_map(|request| request.encode_to_vec()))
        .holds(|bytes| {
            let Ok(request) = GetTokenRequest::decode(bytes) else {
                return false;
            };
            let found = validity(request.min_validity.as_ref());
            let wanted = request.min_validity.unwrap_or_default();
            // More than a second's worth of nanoseconds is no duration (duration.proto of
            // Protocol Buffers), and a negative one is no validity.
            let expected = (wanted.seconds >= 0 && (0..1_000_000_000).contains(&wanted.nanos))
                .then(|| i128::from(wanted.seconds) * 1_000_000_000 + i128::from(wanted.nanos));
            let nanos = |read: &Duration| i128::try_from(read.as_nanos()).unwrap();
            assert_eq!(found.as_ref().ok().map(nanos), expected);
            let Ok(min_validity) = found else {
                return false;
            };
            // However long, it is only compared.
            let slot = Slot::new(Duration::from_secs(60));
            assert!(slot.decide(Instant::now(), min_validity).launches());
            true
        });
}
