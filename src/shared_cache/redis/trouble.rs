//! What an error means.

use ::redis::{ErrorKind, RedisError, ServerErrorKind as Server};

use super::Trouble;

/// What an error of the library means for whoever asked. Its text is dropped: it may quote
/// what was sent.
pub(super) fn trouble(error: &RedisError) -> Trouble {
    match error.kind() {
        ErrorKind::Server(
            Server::BusyLoading | Server::ClusterDown | Server::MasterDown | Server::TryAgain,
        ) => Trouble::Loading,
        ErrorKind::Server(Server::Moved | Server::Ask) => Trouble::Moved,
        ErrorKind::Server(Server::ReadOnly) => Trouble::ReadOnly,
        ErrorKind::Server(Server::NoPerm) | ErrorKind::AuthenticationFailed => Trouble::Denied,
        ErrorKind::Server(_) | ErrorKind::Extension => {
            said(error.code().unwrap_or_default(), error.detail())
        }
        ErrorKind::Io if error.is_timeout() => Trouble::Slow,
        ErrorKind::Io
        | ErrorKind::Client
        | ErrorKind::InvalidClientConfig
        | ErrorKind::ClusterConnectionNotFound => Trouble::Unreachable,
        _ => Trouble::Garbage,
    }
}

/// What a server means by this first word of an error.
fn said(code: &str, detail: Option<&str>) -> Trouble {
    match code {
        "OOM" => Trouble::Full,
        "READONLY" => Trouble::ReadOnly,
        // Another connection would lead to the same server.
        "MISCONF" | "NOREPLICAS" => Trouble::Unsafe,
        "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" => Trouble::Denied,
        "LOADING" | "CLUSTERDOWN" | "MASTERDOWN" | "TRYAGAIN" => Trouble::Loading,
        "MOVED" | "ASK" => Trouble::Moved,
        "BUSY" => Trouble::Slow,
        "ERR" => within_script(detail.unwrap_or_default()),
        _ => Trouble::Garbage,
    }
}

/// What a step of a script failed with, which servers before 7.0 say in the middle of a text:
/// `Error running script (call to f_…): @user_script:1: -OOM command not allowed …`.
fn within_script(detail: &str) -> Trouble {
    if detail.contains("can't run this command") || detail.contains("max number of clients") {
        return Trouble::Denied;
    }
    let (_, rest) = detail.split_once("@user_script").unwrap_or_default();
    let code = rest
        .split_whitespace()
        .find_map(|word| word.strip_prefix('-'));
    match code {
        Some(code) if code != "ERR" => said(code, None),
        _ => Trouble::Garbage,
    }
}
