//! A token broker: it holds the credentials of token endpoints, and hands out their
//! tokens to callers that prove who they are.
//!
//! A request goes down from a door to the slot, and a token comes back up:
//! [`listener`] (who calls) → [`grpc`] or [`web`] (what they want) → [`broker`] (may they have it) →
//! [`cache`] (the slot of that key) → [`slot`] (serve, launch, join or refuse). What a
//! flight asks is in [`upstream`].
//!
//! Imports point down only. `ARCHITECTURE.md` is the map at length.
//!
//! | floor | room | holds |
//! |---|---|---|
//! | values | [`secret`] | a text that is never shown |
//! | | [`clock`] | the clock that decides, and the one that is shown |
//! | | [`identity`] | the caller that a certificate names |
//! | | [`destination`] | ids, applications, and the key of a token |
//! | | [`token`] | a token, and how long it lives |
//! | | [`request_id`] | the name of a request |
//! | | [`trace_context`] | where a call stands in a trace |
//! | | [`texts`] | texts that are kept once, however many have them |
//! | | [`small_file`] | reading files that ought to be small |
//! | | [`whole_file`] | writing files that are never half-written |
//! | | [`pem_file`] | certificates and keys from such files |
//! | rules, pure | [`policy`] | who may have which token |
//! | | [`mesh`] | which destination a proxied request is for, and whose it is |
//! | | [`backoff`] | how long to wait after a failure |
//! | | [`slot`] | the token state machine; it knows no HTTP, gRPC, moka, lock or task |
//! | parts | [`admission`] | who is let in, and how much one caller may take |
//! | | [`aside`] | work that takes a while, done where no caller waits for it |
//! | | [`process`] | descriptors, memory that stays its own, and the size of a terminal |
//! | | [`credential`] | what the broker proves itself with |
//! | | [`upstream`] | token endpoints |
//! | | [`audit`] | who was given which token, in records that hang together |
//! | | [`config`] | the configuration |
//! | | [`metrics`] | what is counted |
//! | | [`shared_cache`] | what replicas share, sealed, in a store that may fail |
//! | | [`usage`] | what was used last, by whom, and what is stopped |
//! | | [`port`] | peers that connect, come what may |
//! | | [`telemetry`] | log events, panics without their payload, and traces |
//! | | [`api`] | the protocol |
//! | core | [`cache`] | slots, flights, hosts, and the schedule |
//! | | [`broker`] | destinations, who may have what, readiness, and what operators do |
//! | doors | [`listener`] | connections and their TLS |
//! | | [`grpc`] | the services, Envoy's among them, and errors as statuses |
//! | | [`web`] | tokens without gRPC: OAuth 2, and Occtoo's call |
//! | | [`http`] | health, metrics and the status page |
//! | house | [`app`] | the whole, started, reloaded and stopped |
//! | | [`client`] | how a broker is reached, and a token that is kept at hand |
//! | | [`cli`] | the commands |
//!
//! Of the libraries that could be anywhere, each is known in one place:
//!
//! | library | is known to |
//! |---|---|
//! | moka | `cache/mod.rs` |
//! | reqwest | `upstream/http.rs` |
//! | tonic's `Status` | [`grpc`]; and [`client`] and [`telemetry`], which receive it |
//! | the rest of tonic | [`api`], [`client`], [`grpc`], [`telemetry`] for its collector; [`listener`] serves its routes, which [`app`] makes |
//! | rustls | [`listener`], [`upstream`], [`client`]; [`pem_file`] and [`credential`] read PEM with it |
//! | axum | [`http`], [`web`]; [`grpc`] has one middleware; [`app`] merges the doors |
//! | envoy-types | [`grpc`] |
//! | maud | [`http`] |
//! | governor | [`admission`] |
//! | rustix | [`process`] |
//! | aws-lc-rs itself | [`audit`], for its hashes |
//! | clap | [`cli`], and `main` |
//! | age | [`credential::sealed`] |
//! | rpassword | [`cli`] |
//! | toml | [`config`] |
//! | prometheus-client | [`metrics`] |
//! | tracing-subscriber, OpenTelemetry | [`telemetry`] |

pub mod admission;
pub mod api;
pub mod app;
pub mod aside;
pub mod audit;
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
pub mod hex;
pub mod http;
pub mod identity;
pub mod listener;
pub mod mesh;
pub mod metrics;
pub mod pem_file;
pub mod policy;
pub mod port;
pub mod process;
pub mod request_id;
pub mod secret;
pub mod shared_cache;
pub mod slot;
pub mod small_file;
pub mod telemetry;
pub mod texts;
pub mod token;
pub mod trace_context;
pub mod upstream;
pub mod usage;
pub mod web;
pub mod whole_file;
