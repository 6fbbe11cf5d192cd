//! What the store does, with servers that behave and with others.

mod contract;
mod fixture;
mod server;
