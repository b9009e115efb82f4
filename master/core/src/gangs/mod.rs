//! Gangs: tasks on one or many agents that are launched whole or not at all.
//!
//! ```text
//! ACCEPT with a gang --room for enough members--> (launched: all in one step)
//! ACCEPT with a gang --room for fewer--> waiting --room for enough--> (launched)
//! waiting --deadline; a member is killed; the framework goes away--> (ended: none is launched, each member is told)
//! ```
//!
//! *Launched* means: in one step every member that is launched becomes a task, and the messages to all agents are given to
//! the driver together; in no other step is any member launched. What comes after (an agent that is lost before its message
//! arrives, a task that fails) is the life of tasks, where `together` ends the rest.
//!
//! While a gang waits, what has room for its members is *held* for it: free for nobody else, and counted as its role's. What becomes
//! free anywhere goes to the gangs first, the oldest before the younger, so that two gangs which each hold half cannot wait
//! for each other. What is held is *lent* meanwhile to tasks that end in time, see [`lend`].
//!
//! Nothing of this is in the registry: a new leader knows no gangs. Frameworks hear by reconciliation that the members do not
//! run, and send the gang again.

mod arrive;
mod check;
mod end;
mod gather;
mod hoarded;
mod launch;
mod lend;
mod place;
mod review;
mod starting;
mod told;

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::resources::Resources;
use proffer_proto::v1;

use crate::master::Leading;
use crate::operations::ParkedNumber;
use crate::slots::{AgentSlot, ClaimSlot, FrameworkSlot};
use crate::time::Timestamp;

pub(crate) use arrive::accept;
pub(crate) use end::{deadline, end_framework, leave_roles, withdraw};
pub(crate) use lend::{Loan, check_loan};
pub(crate) use place::leave_agent;
pub(crate) use review::{look_everywhere, review};
pub(crate) use starting::{advanced, forget_framework};
pub(crate) use told::{holders, status};

use starting::Starting;

/// Numbers the gangs of one incarnation, in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GangNumber(u64);

/// All gangs.
#[derive(Debug, Default)]
pub(crate) struct Gangs {
    made: u64,
    /// Those that wait, the oldest first.
    pub(crate) waiting: BTreeMap<GangNumber, Gang>,
    /// The members of those, by their frameworks.
    members: BTreeMap<FrameworkSlot, BTreeMap<v1::TaskId, GangNumber>>,
    /// Those that were launched and are to run together, until all members do.
    starting: BTreeMap<GangNumber, Starting>,
    /// Agents on which what is free may have changed.
    changed: BTreeSet<AgentSlot>,
    /// All agents are to be looked at.
    everywhere: bool,
    /// What changes meanwhile changes by the gangs themselves.
    looking: bool,
    /// Frameworks of which a gang held something in vain: until then their gangs hold nothing.
    rests: BTreeMap<FrameworkSlot, Timestamp>,
}

/// A gang that waits.
#[derive(Debug)]
pub(crate) struct Gang {
    pub(crate) id: String,
    pub(crate) framework: FrameworkSlot,
    pub(crate) claim: ClaimSlot,
    /// The most demanding first.
    pub(crate) members: Vec<Member>,
    pub(crate) minimum: usize,
    arrived: Timestamp,
    pub(crate) deadline: Timestamp,
    together: bool,
    /// What is held for it.
    parked: BTreeMap<AgentSlot, ParkedNumber>,
    /// It has held something.
    has_held: bool,
    /// The most members that it had places for.
    best: usize,
}

/// A task that is to be launched with others.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) info: v1::TaskInfo,
    shape: Shape,
    /// Members of the same shape have the same number.
    alike: usize,
    pub(crate) place: Option<Place>,
    /// Without a place it holds here what is free of what it needs.
    gathers: Option<AgentSlot>,
}

/// What a member needs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shape {
    /// Here and nowhere else.
    agent: Option<AgentSlot>,
    /// Without allocation role.
    resources: Resources,
    /// So many more, whichever are free.
    ports: u64,
}

/// Where a member is to be launched.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) agent: AgentSlot,
    resources: Resources,
    /// All of it is held; else a part is lent.
    pub(crate) held: bool,
}

impl Gangs {
    /// What is free on an agent has changed.
    pub(crate) fn touch(&mut self, agent: AgentSlot) {
        if !self.looking && !self.waiting.is_empty() {
            self.changed.insert(agent);
        }
    }

    /// The gangs of a framework that wait.
    fn of(&self, framework: FrameworkSlot) -> Vec<GangNumber> {
        let own = self.waiting.iter().filter(|(_, gang)| gang.framework == framework);
        own.map(|(number, _)| *number).collect()
    }

    /// The gang that a task waits in.
    pub(crate) fn with_member(&self, framework: FrameworkSlot, task: &v1::TaskId) -> Option<GangNumber> {
        self.members.get(&framework)?.get(task).copied()
    }

    /// Says what is inconsistent.
    ///
    /// # Errors
    /// A sentence about the first thing that does not hold.
    pub(crate) fn check(&self, leading: &Leading) -> Result<(), String> {
        let mut parked = 0;
        for gang in self.waiting.values() {
            if gang.placed().1 >= gang.minimum {
                return Err(format!("the gang {} waits, but has room", gang.id));
            }
            parked += gang.parked.len();
            for (agent, number) in &gang.parked {
                let Some(held) = leading.parked.get(number).filter(|parked| parked.agent == *agent) else {
                    return Err(format!("the gang {} holds what is free", gang.id));
                };
                let places = gang.members.iter().filter_map(|member| member.place.as_ref());
                let places = places.filter(|place| place.agent == *agent && place.held);
                let used: Resources = places.map(|place| &place.resources).sum();
                if !held.resources.contains(&used) || leading.agents[*agent].connection().is_none() {
                    return Err(format!("the gang {} has a place that is not held", gang.id));
                }
            }
            for place in gang.members.iter().filter_map(|member| member.place.as_ref()) {
                if place.held && !gang.parked.contains_key(&place.agent) {
                    return Err(format!("the gang {} has a place, and holds nothing there", gang.id));
                }
            }
            let listed = self.members.get(&gang.framework);
            if gang
                .members
                .iter()
                .any(|member| listed.is_none_or(|listed| !listed.contains_key(&member.info.task_id)))
            {
                return Err(format!("a member of the gang {} is not listed", gang.id));
            }
        }
        let for_gangs = leading.parked.values().filter(|parked| parked.is_for_gang).count();
        if for_gangs != parked {
            return Err("something is held for a gang that does not wait".to_owned());
        }
        Ok(())
    }

    fn insert(&mut self, gang: Gang) -> GangNumber {
        self.made += 1;
        let number = GangNumber(self.made);
        let members = self.members.entry(gang.framework).or_default();
        members.extend(gang.members.iter().map(|member| (member.info.task_id.clone(), number)));
        self.waiting.insert(number, gang);
        number
    }

    fn remove(&mut self, number: GangNumber) -> Option<Gang> {
        let gang = self.waiting.remove(&number)?;
        for member in &gang.members {
            self.forget(gang.framework, &member.info.task_id);
        }
        Some(gang)
    }

    fn forget(&mut self, framework: FrameworkSlot, task: &v1::TaskId) {
        if let Some(members) = self.members.get_mut(&framework) {
            members.remove(task);
            if members.is_empty() {
                self.members.remove(&framework);
            }
        }
    }
}

impl Gang {
    /// How many members have a place, and how many of them one that is held.
    pub(crate) fn placed(&self) -> (usize, usize) {
        let places = self.members.iter().filter_map(|member| member.place.as_ref());
        places.fold((0, 0), |(all, held), place| (all + 1, held + usize::from(place.held)))
    }
}
