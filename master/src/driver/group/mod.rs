//! Changes of the group of masters, each in several steps that wait for one another.
//!
//! ```text
//! join      record the newcomer · make it a learner
//! add       make the learner a voter, once it has caught up · forget the member that it replaces
//! remove    take it out of the group · forget it; a leader that is to go hands its leadership over instead
//! transfer  ask raft · wait for another leader
//! ```
//! A step waits for a proposal, for a change of raft's configuration, for another leader, or is tried again at the next tick.
//! What is interrupted by a loss of the leadership can be asked for again: every step that was done is found done.

mod change;
mod join;
mod list;
mod transfer;
mod upkeep;

use std::time::Duration;

use proffer_proto::masters::MastersList;
use proffer_proto::raft::JoinAnswer;
use proffer_proto::registry::change::Body;
use proffer_proto::registry::{Change, Member};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Driver, MastersCall, MastersError, entry};
use upkeep::Upkeep;

/// How long a learner may take to catch up before it is not made a voter.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);
/// How long every other change may take.
const CHANGE_MAX: Duration = Duration::from_secs(15);
/// How long another master may take to lead.
const TRANSFER_MAX: Duration = Duration::from_secs(3);

/// Marks the numbers of the driver's own proposals; those of the core do not reach it.
const OWN: u64 = 1 << 63;

/// The number of a proposal of the driver itself.
pub(super) fn own(proposal: u64) -> Option<u64> {
    (proposal & OWN != 0).then_some(proposal & !OWN)
}

type MastersReply = oneshot::Sender<Result<MastersList, MastersError>>;

/// What is under way.
#[derive(Default)]
pub(super) struct Group {
    /// The last number that was given to a proposal or a change.
    number: u64,
    operations: Vec<Operation>,
    upkeep: Upkeep,
}

/// A change that somebody asked for.
struct Operation {
    goal: Goal,
    waits: Waits,
    deadline: Instant,
}

enum Goal {
    Join {
        newcomer: Member,
        reply: oneshot::Sender<JoinAnswer>,
    },
    Add {
        id: u64,
        replaces: Option<u64>,
        reply: MastersReply,
    },
    Remove {
        id: u64,
        reply: MastersReply,
    },
    Transfer {
        reply: MastersReply,
    },
    /// The leader is to be removed, and somebody else must do it.
    HandOver {
        reply: MastersReply,
    },
}

#[derive(Debug, PartialEq, Eq)]
enum Waits {
    Proposal(u64),
    Change(u64),
    Leader,
    /// For the next attempt; this stood in the way of the last one.
    Attempt(String),
}

/// What an operation has waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// Its time has come, for the first time or again.
    Attempt,
    Committed,
    Changed,
}

impl Group {
    /// True while ticks are needed.
    pub(super) fn is_busy(&self) -> bool {
        !self.operations.is_empty() || self.upkeep.is_due()
    }

    /// True while what the registry should say of the members is on its way.
    pub(super) fn is_tending(&self) -> bool {
        self.upkeep.is_busy()
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn take(&mut self, waits: &Waits) -> Option<Operation> {
        let at = self.operations.iter().position(|operation| operation.waits == *waits)?;
        Some(self.operations.swap_remove(at))
    }
}

impl Driver {
    /// An operator's call about the group.
    pub(super) fn masters_call(&mut self, call: MastersCall, reply: MastersReply) {
        let begun = match call {
            MastersCall::List => {
                // Whoever did not wait does not need the list.
                let _ = reply.send(Ok(self.masters_list()));
                return;
            }
            _ if !self.master.is_leader() => Err(MastersError::NotLeader),
            MastersCall::Add(add) => self.add_goal(&add),
            MastersCall::Remove(remove) => self.remove_goal(&remove),
            MastersCall::Transfer(transfer) => self.transfer_goal(&transfer),
        };
        match begun {
            Ok((goal, time)) => self.begin_operation(goal(reply), time),
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    fn begin_operation(&mut self, goal: Goal, time: Duration) {
        let deadline = Instant::now() + time;
        self.advance(goal, deadline, Reached::Attempt);
    }

    fn advance(&mut self, goal: Goal, deadline: Instant, reached: Reached) {
        let waiting = match goal {
            Goal::Join { newcomer, reply } => self.advance_join(newcomer, reply, reached),
            Goal::Add { id, replaces, reply } => self.advance_add(id, replaces, reply, reached),
            Goal::Remove { id, reply } => self.advance_remove(id, reply, reached),
            Goal::Transfer { .. } | Goal::HandOver { .. } => Some((goal, Waits::Leader)),
        };
        if let Some((goal, waits)) = waiting {
            self.group.operations.push(Operation { goal, waits, deadline });
        }
    }

    /// One of the driver's own proposals is committed.
    pub(super) fn group_proposal_committed(&mut self, number: u64) {
        if self.group.upkeep.has_ended(number) {
            return;
        }
        if let Some(operation) = self.group.take(&Waits::Proposal(number)) {
            self.advance(operation.goal, operation.deadline, Reached::Committed);
        }
    }

    /// One of the driver's own proposals may be committed or not.
    pub(super) fn group_proposal_dropped(&mut self, number: u64) {
        if self.group.upkeep.has_ended(number) {
            self.group.upkeep.try_again();
            return;
        }
        if let Some(operation) = self.group.take(&Waits::Proposal(number)) {
            operation.goal.interrupted();
        }
    }

    /// A change of raft's configuration is complete.
    pub(super) fn group_change_done(&mut self, number: u64) {
        if let Some(operation) = self.group.take(&Waits::Change(number)) {
            self.advance(operation.goal, operation.deadline, Reached::Changed);
        }
    }

    /// A change of raft's configuration may take place or not.
    pub(super) fn group_change_dropped(&mut self, number: u64) {
        if let Some(operation) = self.group.take(&Waits::Change(number)) {
            operation.goal.interrupted();
        }
    }

    /// Somebody else leads, or nobody.
    pub(super) fn group_leader_changed(&mut self) {
        if self.leader.is_none_or(|id| id == self.me.member) {
            return;
        }
        while let Some(operation) = self.group.take(&Waits::Leader) {
            let list = self.masters_list();
            operation.goal.handed_over(list);
        }
    }

    /// Tries again what could not be done yet, and gives up what takes too long.
    pub(super) fn tick_group(&mut self) {
        if self.group.upkeep.is_due() {
            self.tend_group();
        }
        if self.group.operations.is_empty() {
            return;
        }
        let now = Instant::now();
        let (late, in_time): (Vec<_>, Vec<_>) = std::mem::take(&mut self.group.operations)
            .into_iter()
            .partition(|operation| operation.deadline <= now);
        let (due, waiting) = in_time
            .into_iter()
            .partition(|operation| matches!(operation.waits, Waits::Attempt(_)));
        self.group.operations = waiting;
        for Operation { goal, waits, .. } in late {
            goal.gives_up(waits);
        }
        for Operation { goal, deadline, .. } in due {
            self.advance(goal, deadline, Reached::Attempt);
        }
    }

    /// Proposes a change of the registry; `None` where this master does not lead (any more).
    pub(super) fn propose_own(&mut self, body: Body) -> Option<u64> {
        let number = self.group.next_number();
        let change = Change { body: Some(body) };
        self.member
            .propose(number | OWN, entry::encode(&change))
            .then_some(number)
    }

    /// The registry knows the member, or raft does.
    fn is_known(&self, id: u64) -> bool {
        self.master.members().contains_key(&id) || self.member.status().members().any(|member| member == id)
    }
}

impl Goal {
    /// Its last step may have been done or not.
    fn interrupted(self) {
        self.fail(MastersError::Uncertain(
            "the leadership was lost meanwhile: look whether the change took place, and ask again if not".to_owned(),
        ));
    }

    fn gives_up(self, waits: Waits) {
        self.fail(match waits {
            Waits::Attempt(reason) => MastersError::Refused(reason),
            Waits::Leader => MastersError::Refused(
                "no other master took the leadership over in time; see that one has the whole log, and try again"
                    .to_owned(),
            ),
            Waits::Proposal(_) | Waits::Change(_) => MastersError::Uncertain(
                "the change is not committed in time: a majority of the masters may be down. It may still take place"
                    .to_owned(),
            ),
        });
    }

    fn handed_over(self, list: MastersList) {
        match self {
            Goal::Transfer { reply } => {
                // Whoever did not wait does not need the answer; so everywhere here.
                let _ = reply.send(Ok(list));
            }
            Goal::HandOver { reply } => {
                let _ = reply.send(Err(MastersError::NotLeader));
            }
            other => other.interrupted(),
        }
    }

    fn fail(self, error: MastersError) {
        match self {
            Goal::Join { reply, .. } => {
                let _ = reply.send(join::refusal(error.to_string()));
            }
            Goal::Add { reply, .. }
            | Goal::Remove { reply, .. }
            | Goal::Transfer { reply }
            | Goal::HandOver { reply } => {
                let _ = reply.send(Err(error));
            }
        }
    }
}
