//! The deterministic heart of the master: registry, agents, frameworks, offers, tasks, the allocator, and the frameworks'
//! replicated state.
//!
//! `Master::step` takes the time and one [`Input`] and appends what must be done to [`Effects`]. There is no I/O, clock,
//! thread or random source in this crate or below it: the same inputs give the same effects.
//!
//! Life of a master: `new`, `restore` from the last snapshot, then `step` with every committed change; while it leads,
//! with everything else too. A follower answers every call with `Answer::NotLeader`.
//!
//! *Durable before visible*: what the registry holds changes only by `Input::Committed`, and nobody outside hears of a
//! change that was only proposed.

mod accept;
mod agents;
pub mod allocator;
mod books;
mod completed;
mod config;
mod drain;
mod effect;
mod events;
mod executors;
mod explain;
mod frameworks;
mod gangs;
mod hoarding;
mod input;
pub mod invariants;
mod inverse;
mod kill;
mod known;
mod level;
mod maintenance;
mod master;
mod offers;
mod operations;
mod operator;
mod optimistic;
mod proposals;
mod reconcile;
mod record;
mod registry;
mod remnants;
mod retelling;
mod revocable;
mod roles;
mod scheduler;
mod slots;
mod state;
mod tasks;
#[cfg(test)]
mod tests;
mod time;
mod timers;
mod updates;

pub use config::{Config, LEVEL};
pub use effect::{Answer, Effect, Effects};
pub use input::{ConnectionId, Input, ProposalId, ReadId, RequestId, StreamId};
pub use master::Master;
pub use proffer_proto::Rejection;
pub use registry::{Image, OWNED_PREFIX, REMOVED_MEMBERS_MAX, WEIGHT_DEFAULT};
pub use time::Timestamp;
