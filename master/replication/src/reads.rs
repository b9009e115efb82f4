//! Linearizable reads by ReadIndex in its safe mode.
//!
//! The leader asks the group once whether it still leads, for all reads that were asked for before: a round. The reads of a
//! round are done when everything has been told that was committed when the round began. While a round is under way further
//! reads gather for the next one. Raft drops requests without a word where it has no leader or the leader has committed
//! nothing in its term, and messages get lost: a round that is not answered is repeated under another context.

use std::collections::VecDeque;

use crate::outcome::Outcome;

/// Reads on their way.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    gathering: Vec<u64>,
    round: Option<Round>,
    /// Confirmed reads, with the index that must have been told.
    confirmed: VecDeque<(u64, Vec<u64>)>,
    /// How many contexts were made.
    contexts: u64,
}

#[derive(Debug)]
struct Round {
    context: Vec<u8>,
    reads: Vec<u64>,
    ticks: usize,
    repeat: bool,
}

impl Reads {
    /// A read is asked for.
    pub(crate) fn ask(&mut self, read: u64) {
        self.gathering.push(read);
    }

    /// A tick has passed; after `patience` of them a round is to be repeated.
    pub(crate) fn tick(&mut self, patience: usize) {
        if let Some(round) = &mut self.round {
            round.ticks += 1;
            if round.ticks >= patience {
                round.repeat = true;
            }
        }
    }

    /// Whether raft is to be asked.
    pub(crate) fn wants_round(&self) -> bool {
        match &self.round {
            Some(round) => round.repeat,
            None => !self.gathering.is_empty(),
        }
    }

    /// Begins or repeats a round: gives its context, which was never used before by any member.
    pub(crate) fn begin(&mut self, id: u64, term: u64) -> Vec<u8> {
        self.contexts += 1;
        let context = [id, term, self.contexts].map(u64::to_be_bytes).concat();
        let reads = match self.round.take() {
            Some(round) => round.reads,
            None => std::mem::take(&mut self.gathering),
        };
        self.round = Some(Round {
            context: context.clone(),
            reads,
            ticks: 0,
            repeat: false,
        });
        context
    }

    /// The group has answered a round: its reads are done when `index` has been told.
    pub(crate) fn confirm(&mut self, context: &[u8], index: u64) {
        // The answer to a context that was given up says nothing new.
        if let Some(round) = self.round.take_if(|round| round.context == context) {
            self.confirmed.push_back((index, round.reads));
        }
    }

    /// Tells the reads that are done, now that everything up to `applied` has been told.
    pub(crate) fn release(&mut self, applied: u64, outcomes: &mut Vec<Outcome>) {
        while self.confirmed.front().is_some_and(|(index, _)| *index <= applied) {
            let reads = self.confirmed.pop_front().map(|(_, reads)| reads);
            let reads = reads.into_iter().flatten();
            outcomes.extend(reads.map(|read| Outcome::Readable { read }));
        }
    }

    /// Gives up every read.
    pub(crate) fn fail(&mut self, outcomes: &mut Vec<Outcome>) {
        let confirmed = self.confirmed.drain(..).flat_map(|(_, reads)| reads);
        let round = self.round.take().map(|round| round.reads);
        let reads = confirmed
            .chain(round.into_iter().flatten())
            .chain(self.gathering.drain(..));
        outcomes.extend(reads.map(|read| Outcome::Unreadable { read }));
    }
}
