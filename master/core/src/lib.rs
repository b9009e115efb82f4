//! The deterministic heart of the master: registry, agents, frameworks, offers, tasks and the allocator.
//!
//! `Master::step` takes the time and one [`Input`] and appends what must be done to [`Effects`]. There is no I/O, clock,
//! thread or random source in this crate or below it: the same inputs give the same effects.
//!
//! Life of a master: `new`, `restore` from the last snapshot, then `step` with every committed change; while it leads,
//! with everything else too. A follower answers every call with `Answer::NotLeader`.
//!
//! *Durable before visible*: what the registry holds changes only by `Input::Committed`, and nobody outside hears of a
//! change that was only proposed.

mod config;
mod effect;
mod input;
mod rejection;
mod time;

pub use config::Config;
pub use effect::{Answer, Effect, Effects};
pub use input::{ConnectionId, Input, ProposalId, RequestId, StreamId};
pub use rejection::Rejection;
pub use time::Timestamp;

/// A master's state machine.
#[derive(Debug)]
pub struct Master {
    config: Config,
}

impl Master {
    /// A follower with an empty registry.
    pub fn new(config: Config) -> Self {
        Master { config }
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Replaces the registry by a snapshot. Only for followers.
    pub fn restore(&mut self, registry: proffer_proto::registry::Registry) {
        drop(registry);
    }

    /// The whole registry, for a snapshot.
    pub fn registry(&self) -> proffer_proto::registry::Registry {
        Default::default()
    }

    /// True while this master leads.
    pub fn is_leader(&self) -> bool {
        false
    }

    /// Applies one input. What must be done about it is appended to `effects`, in the order in which it must be done.
    pub fn step(&mut self, now: Timestamp, input: Input, effects: &mut Effects) {
        let (_, _, _) = (now, input, effects);
    }
}
