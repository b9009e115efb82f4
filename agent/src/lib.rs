//! The agent: containerizer, isolators, checkpoint, status updates, sandbox.

pub mod containerizer;
