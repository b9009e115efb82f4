//! Sandboxes are kept within the `disk` of their tasks and executors: each back end by itself, and those of an agent. Volumes too, which stay.

mod back_ends;
mod executors;
#[path = "../support/mod.rs"]
mod support;
mod tasks;
mod volumes;
