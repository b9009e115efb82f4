//! Load on masters: many simulated agents over the real protocol, and a framework that keeps them busy.
//!
//! [`Fleet`] plays the agents, all in one process: each has a stream of its own (many streams share a connection), keeps its
//! tasks and their unacknowledged updates, and looks for the leader by the rules of a real agent. [`Flood`] is the
//! framework: it launches tasks, acknowledges updates, and counts what it heard. Together they tell what was lost.
//! [`puts`] writes into a store as fast as it takes it.

mod agent;
mod fleet;
mod flood;
mod link;
pub mod puts;

pub use fleet::{Fleet, FleetOptions};
pub use flood::{Flood, FloodOptions};
