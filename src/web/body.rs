//! Reading the body of a request: little of it, and wiped afterwards, since programs of
//! others send their secrets in it.

use axum::body::{Body, HttpBody as _};
use http_body_util::BodyExt as _;
use zeroize::Zeroizing;

use super::refusal::Fault;

/// No request needs more, in bytes.
const LIMIT: usize = 8 * 1024;
/// So much is read all the same: a connection that is closed with bytes unread is reset,
/// and its peer may never see why.
const READ: usize = 8 * LIMIT;

/// Reads a body to its end.
///
/// # Errors
/// [`Fault::TooLarge`], and [`Fault::Torn`] for one without an end.
pub(super) async fn read(mut body: Body) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let declared = body.size_hint();
    if declared.lower() > READ as u64 {
        return Err(Fault::TooLarge);
    }
    // Allocated once: a buffer that grows leaves copies behind.
    let most = declared.upper().and_then(|most| usize::try_from(most).ok());
    let most = most.map_or(LIMIT, |most| most.min(LIMIT));
    let mut kept = Zeroizing::new(Vec::with_capacity(most));
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Fault::Torn)?.into_data() else {
            continue;
        };
        length += data.len();
        if length > READ {
            break;
        }
        if length <= most {
            kept.extend_from_slice(&data);
        }
    }
    if length > most {
        return Err(Fault::TooLarge);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_are_read_up_to_the_limit() {
        for length in [0, 1, LIMIT] {
            let body = read(Body::from(vec![b'a'; length])).await.unwrap();
            assert_eq!(body.len(), length);
            assert_eq!(body.capacity(), length, "allocated once");
        }
        for length in [LIMIT + 1, READ, READ + 1, 10 * READ] {
            let refused = read(Body::from(vec![b'a'; length])).await;
            assert_eq!(refused.err(), Some(Fault::TooLarge), "{length}");
        }
    }
}
