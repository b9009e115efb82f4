//! One member of the raft group, as a state machine without I/O.
//!
//! [`Member`] owns raft-rs's `RawNode`. Ticks, messages, proposals and finished writes go in; [`Outcome`]s come out of
//! [`Member::drive`], in the order in which they must be carried out. Time is counted in ticks, and chance comes from a seed,
//! so that a run can be replayed.
//!
//! The disk is asynchronous: a [`Write`] is handed out, the member goes on, and what depends on it follows once
//! [`Member::written`] says that it is durable:
//!
//! - A leader's entries leave for the others beside its own write, and are committed as soon as any majority has them. They
//!   are told as committed when this member's own disk has them too, so that what an application builds on what it was told is
//!   never ahead of the log beneath it.
//! - Votes, acknowledgements and everything else a follower says wait for the writes before them.
//! - A leader's messages wait for the write of its term, where it leads before that is durable: who votes alone does.
//! - A snapshot of the leader is told ([`Outcome::Restored`]) when it is durable; until then the member stands for no election.
//! - Nothing waits for a write that need not be synced.

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
pub use snapshot::{Mark, Position, bootstrap, position};
pub use status::{Progress, Role, Status};
pub use wire::{Refusal, decode, encode};

pub use raft::eraftpb;

#[cfg(test)]
mod tests;
