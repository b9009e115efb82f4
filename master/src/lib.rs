//! The master: transport, raft driver, storage around the core.
