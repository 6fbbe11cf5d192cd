//! What the store does, with servers that behave and with others.

mod broken;
mod cluster;
mod contract;
mod events;
mod fixture;
mod guarded;
mod real;
mod scripted;
mod sentinel;
mod server;
