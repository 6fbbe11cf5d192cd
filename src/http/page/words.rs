//! What is wrong and what to do, in few words.

use crate::{slot::FailureReason, upstream::Trial};

/// What a reason means.
pub(super) fn meaning(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::CredentialMissing => "there is no credential",
        FailureReason::CredentialRejected => "the token endpoint rejects the credential",
        FailureReason::Unavailable => "the token endpoint cannot be reached, or is out of order",
        FailureReason::Throttled => "the token endpoint asks to be left alone for a while",
        FailureReason::Malformed => "the token endpoint answers with no usable token",
    }
}

/// What somebody can do about it.
pub(super) fn advice(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::CredentialMissing => {
            "Put them where the configuration says; they are taken in at once."
        }
        FailureReason::CredentialRejected => {
            "Get a new secret from the provider and put it in place; it is taken in at once."
        }
        FailureReason::Unavailable => {
            "Look at the provider’s status page and the way there; the broker goes on trying."
        }
        FailureReason::Throttled => {
            "Wait, or have the provider raise the limit; the broker goes on trying."
        }
        FailureReason::Malformed => {
            "Compare upstream and endpoint in the configuration with the provider’s documentation."
        }
    }
}

/// How the next secret has done.
pub(super) fn rotation(trial: Trial) -> &'static str {
    match trial {
        Trial::Pending => "a next secret is there, and was not tried yet",
        Trial::Promoted => "the next secret works and goes on minting: make it the current one",
        Trial::RolledBack { .. } => {
            "the next secret was rejected, and the current one goes on minting"
        }
    }
}
