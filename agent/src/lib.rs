//! The agent: runs the tasks of frameworks in containers, outlives its own restarts, and reports to the leading master.
//!
//! [`core`] decides; `driver` carries out; [`checkpoint`] remembers; [`containerizer`] isolates; `link` speaks with the
//! master and `server` with operators.

mod agent;
mod causes;
pub mod cgroups;
pub mod checkpoint;
mod checks;
pub mod config;
mod confinement;
pub mod containerizer;
pub mod core;
pub mod disk;
mod driver;
mod executor_api;
pub mod faults;
mod fetcher;
pub mod isolators;
mod launcher;
mod link;
mod persistent;
mod sandbox;
mod server;
mod sessions;
mod spec;
mod statistics;
mod users;
mod volumes;

pub use agent::{Error, Stop, main_with, run};
pub use config::{Args, Config};
pub use link::search;
