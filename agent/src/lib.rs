//! The agent: containerizer, isolators, checkpoint, status updates, sandbox.
