//! Sandboxes are kept within the `disk` of their tasks: each back end by itself, and tasks of an agent. Volumes too, which stay.

mod back_ends;
#[path = "../support/mod.rs"]
mod support;
mod tasks;
mod volumes;
