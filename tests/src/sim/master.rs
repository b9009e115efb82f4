//! The master's machine: the real core, and a disk that keeps what was committed.

use proffer_master_core::{Config, Effect, Effects, Input, Master, ProposalId, Timestamp};
use proffer_proto::registry;

/// A master that may crash and come back with its committed registry.
#[derive(Debug)]
pub(crate) struct MasterHost {
    config: Config,
    pub(crate) core: Option<Master>,
    /// A follower that sees only what is committed: the disk.
    pub(crate) shadow: Master,
    index: u64,
    incarnation: u64,
    /// Proposed and not yet committed, oldest first.
    pub(crate) pending: std::collections::VecDeque<(ProposalId, registry::Change)>,
    effects: Effects,
}

impl MasterHost {
    pub(crate) fn new(config: Config) -> Self {
        MasterHost {
            shadow: Master::new(config.clone()),
            config,
            core: None,
            index: 0,
            incarnation: 0,
            pending: std::collections::VecDeque::new(),
            effects: Effects::new(),
        }
    }

    /// Starts the process: it reads its disk and leads.
    pub(crate) fn start(&mut self, now: u64) -> Vec<Effect> {
        self.incarnation += 1;
        let mut core = Master::new(self.config.clone());
        core.restore(self.shadow.registry());
        self.core = Some(core);
        self.step(
            now,
            Input::BecameLeader {
                incarnation: format!("i{}", self.incarnation),
            },
        )
    }

    /// Kills the process. Of what was being written, a prefix reached the disk.
    pub(crate) fn crash(&mut self, now: u64, survivors: usize) {
        self.core = None;
        let pending = std::mem::take(&mut self.pending);
        for (_, change) in pending.into_iter().take(survivors) {
            self.persist(now, change);
        }
    }

    /// The oldest proposal is on the disk.
    pub(crate) fn commit(&mut self, now: u64) -> Vec<Effect> {
        let Some((proposal, change)) = self.pending.pop_front() else {
            return Vec::new();
        };
        self.persist(now, change.clone());
        self.step(
            now,
            Input::Committed {
                index: self.index,
                proposal: Some(proposal),
                change,
            },
        )
    }

    pub(crate) fn step(&mut self, now: u64, input: Input) -> Vec<Effect> {
        let Some(core) = &mut self.core else { return Vec::new() };
        core.step(Timestamp(now), input, &mut self.effects);
        self.effects.drain().collect()
    }

    fn persist(&mut self, now: u64, change: registry::Change) {
        self.index += 1;
        let mut nothing = Effects::new();
        self.shadow.step(
            Timestamp(now),
            Input::Committed {
                index: self.index,
                proposal: None,
                change,
            },
            &mut nothing,
        );
        assert!(
            nothing.is_empty(),
            "a follower that applies a change asks for nothing: {nothing:?}"
        );
    }
}
