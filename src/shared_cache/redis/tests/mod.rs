//! What the store does, with servers that behave and with others.

mod broken;
mod contract;
mod fixture;
mod real;
mod scripted;
mod server;
