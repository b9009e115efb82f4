//! The master: transport, raft driver and storage around the core.
//!
//! [`driver`] is the loop; it owns the core, the raft member ([`raft`] over [`log`]) and the applied registry
//! ([`applied`]). [`transport`] decodes, enqueues and encodes. [`server`] puts them together; [`config`] says how.

pub mod applied;
pub mod clock;
pub mod config;
pub mod driver;
pub mod home;
pub mod log;
pub mod outbox;
pub mod raft;
pub mod server;
pub mod transport;

pub use config::{Args, Config};
pub use server::{Server, main_with};
