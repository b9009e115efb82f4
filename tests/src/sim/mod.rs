//! The deterministic simulator: the real master core among model agents and frameworks, under a seeded network and clock.
//!
//! Everything runs on one thread over one queue of events ordered by virtual time. A seed decides every delay, fault and
//! choice, so a failure is replayed by its seed. Links behave as TCP streams do: messages of one direction arrive in
//! order or the link breaks, and what was in flight is lost. A crashed master comes back with the registry that was
//! committed; a crashed agent with its checkpoint and its containers; a crashed framework with what it wrote down.

mod agent;
pub mod checkers;
mod framework;
mod master;
mod rng;
mod trace;
mod wire;
mod world;

pub use world::{Options, Report, SimFailure, run};
