//! The master: transport, raft driver, storage around the core.

pub mod log;
pub mod raft;
