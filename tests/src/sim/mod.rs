//! The deterministic simulator: groups of real masters (the real core, the real raft members) among model agents,
//! frameworks, clients of the frameworks' state and operators, under a seeded network, seeded disks and clocks.
//!
//! Everything runs on one thread over one queue of events ordered by virtual time. A seed decides every delay, fault and
//! choice, so a failure is replayed by its seed.
//!
//! - `masters`: a machine with its disk and clock; the process on it, which does what the real driver does between core and
//!   member; the network between masters, whose messages are encoded and decoded as in reality, and are delayed, lost,
//!   repeated and overtaken.
//! - `agent`, `volumes`, `framework`, `state_client`, `watcher`, `operator`: the models around them. Their links behave as TCP streams do: messages of one
//!   direction arrive in order or the link breaks, and what was in flight is lost. They look for the leader as real ones
//!   do, one master after the other, and go where they are sent.
//! - `world`: the queue, the faults, and who hears what.
//! - [`checkers`]: what must hold. They see only what a member tells and what goes over the wires.
//!
//! A crashed master comes back with what its disk holds; a crashed agent with its checkpoint and its containers; a crashed
//! framework with what it wrote down.

mod agent;
mod brief;
mod campaign;
pub mod checkers;
mod framework;
mod masters;
mod operator;
mod options;
mod queue;
mod report;
mod rng;
mod state_client;
mod trace;
mod volumes;
mod watcher;
mod wire;
mod world;

pub use campaign::Campaign;
pub use options::{Options, Planted};
pub use report::{Report, SimFailure};
pub use world::run;
