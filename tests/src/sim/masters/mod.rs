//! The group of masters: machines with disks and clocks, the processes on them, and the network between them.

pub(crate) mod disk;
mod entries;
mod machine;
mod network;
mod process;

pub(crate) use entries::decode;
pub(crate) use machine::Machine;
pub(crate) use network::Network;
pub(crate) use process::{Ask, Door, Output, Process};
