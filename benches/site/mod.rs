//! What a broker that is measured needs: its files, its upstream, its process and its core.

mod broker;
mod cores;
mod folder;
mod machine;
mod policy;
mod process;

pub(crate) use self::{
    broker::Broker,
    cores::Cores,
    folder::Site,
    machine::Machine,
    policy::Policy,
    process::{Process, processor_time},
};
