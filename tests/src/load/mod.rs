//! Load on masters: many simulated agents over the real protocol, and a framework that keeps them busy.
//!
//! [`Fleet`] plays the agents, all in one process: each has a stream of its own (many streams share a connection), keeps its
//! tasks and their unacknowledged updates, and looks for the leader by the rules of a real agent. [`Flood`] is the
//! framework: it launches tasks, acknowledges updates, and counts what it heard. Together they tell what was lost. [`Churn`]
//! is many lean frameworks, which tell how fast it goes.
//! [`puts`] writes into a store as fast as it takes it.

mod agent;
mod churn;
mod fleet;
mod flood;
mod freed;
mod link;
pub mod puts;

pub use churn::{Churn, ChurnOptions, Counts};
pub use fleet::{Fleet, FleetOptions};
pub use flood::{Flood, FloodOptions};
pub use freed::Freed;
