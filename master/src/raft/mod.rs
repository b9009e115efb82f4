//! Names that moved.

pub use proffer_replication::bootstrap;

pub use crate::snapshots::{Error, Snapshots};
