//! The master: transport, raft driver and storage around the core.
//!
//! [`driver`] is the loop; it owns the core and the raft member. [`log`] and [`snapshots`] are what a master may not forget,
//! [`applied`] what saves it work at the next start. [`peers`] are the other masters. [`transport`] decodes, enqueues and
//! encodes. [`server`] puts them together; [`config`] says how.

pub mod answers;
pub mod applied;
pub mod clock;
pub mod config;
pub mod driver;
mod fatal;
pub mod faults;
pub mod formation;
pub mod home;
pub mod log;
pub mod outbox;
pub mod peers;
pub mod server;
pub mod snapshots;
pub mod transport;

pub use config::{Args, Config};
pub use server::{Server, main_with};
