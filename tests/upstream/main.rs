//! Token endpoints over real sockets: what is accepted, what is refused, and what a
//! broken, lying or hostile endpoint can do.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod answers;
mod bodies;
mod refusals;
mod requests;
mod secrets;
mod standin;
mod support;
mod tls;
