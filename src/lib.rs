//! A token broker.

pub mod api;
pub mod app;
pub mod backoff;
pub mod broker;
pub mod cache;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod credential;
pub mod destination;
#[cfg(test)]
mod fuzz;
pub mod grpc;
pub mod http;
pub mod identity;
pub mod listener;
pub mod metrics;
pub mod policy;
pub mod secret;
pub mod slot;
pub mod small_file;
pub mod telemetry;
pub mod token;
pub mod upstream;
