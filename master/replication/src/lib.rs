//! One member of the raft group, as a state machine without I/O.
//!
//! [`Member`] owns raft-rs's `RawNode`. Ticks, messages, proposals and finished writes go in; [`Outcome`]s come out of
//! [`Member::drive`], in the order in which they must be carried out. The disk is asynchronous: a [`Write`] is handed out,
//! the member goes on, and what depends on it (votes, acknowledgements, commits) follows once [`Member::written`] says
//! that it is durable. Time is counted in ticks, and chance comes from a seed, so that a run can be replayed.

mod config;
mod group;
#[allow(dead_code)]
mod logger;
mod member;
#[allow(dead_code)]
mod memory;
mod outcome;
mod reads;
mod snapshot;
mod status;
mod wire;

pub use config::Settings;
#[cfg(feature = "planted-bugs")]
pub use config::PlantedBug;
pub use group::{GroupChange, GroupRefusal};
pub use member::{Error, Member, Start};
pub use outcome::{Outcome, Write};
pub use snapshot::{Position, bootstrap, position};
pub use status::{Progress, Role, Status};
pub use wire::{Refusal, decode, encode};

pub use raft::eraftpb;
