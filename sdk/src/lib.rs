//! Writes frameworks: scheduler drivers, offer matching, reconciliation, a fake master for tests.

mod calls;
mod connection;
mod driver;
mod framework;
mod masters;
pub mod offers;
pub mod operator;
mod reconcile;
mod scheduler;
pub mod task;
mod tasks;
pub mod testing;

pub use calls::{CallError, Calls, STREAM_ID_METADATA};
pub use connection::{Disconnected, Events, SubscribeRejected, connect};
pub use driver::{Driver, RunError, run};
pub use framework::Framework;
pub use masters::{DEFAULT_PORT, InvalidMasters, LEADER_METADATA, Masters};
pub use proffer_proto as proto;
pub use scheduler::{Context, Offers, Options, Scheduler, Sender};
pub use task::Task;
pub use tasks::{KnownTask, TaskTable, is_terminal};
