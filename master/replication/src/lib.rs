//! One member of the raft group, as a state machine without I/O.
//!
//! [`Member`] owns raft-rs's `RawNode`. Ticks, messages, proposals and finished writes go in; [`Outcome`]s come out of
//! [`Member::drive`], in the order in which they must be carried out. The disk is asynchronous: a [`Write`] is handed out,
//! the member goes on, and what depends on it (votes, acknowledgements, commits) follows once [`Member::written`] says
//! that it is durable. Time is counted in ticks, and chance comes from a seed, so that a run can be replayed.

mod chance;
mod change;
mod check;
mod config;
mod disk;
mod drive;
mod group;
mod logger;
mod member;
mod memory;
mod outcome;
mod proposals;
mod reads;
mod snapshot;
mod start;
mod status;
mod wire;

#[cfg(feature = "planted-bugs")]
pub use config::PlantedBug;
pub use config::Settings;
pub use group::{GroupChange, GroupRefusal};
pub use member::{Error, Member, Start};
pub use outcome::{Outcome, Write};
pub use snapshot::{Position, bootstrap, position};
pub use status::{Progress, Role, Status};
pub use wire::{Refusal, decode, encode};

pub use raft::eraftpb;

#[cfg(test)]
mod tests;
