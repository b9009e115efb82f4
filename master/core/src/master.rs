//! The state of a master, and the one function that changes it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proffer_proto::registry as wire;
use proffer_proto::{domain, v1};

use crate::agents::{self, Agent};
use crate::allocator::{Allocator, Decision, Hierarchical};
use crate::config::Config;
use crate::drain;
use crate::effect::{Answer, Effect, Effects};
use crate::frameworks::{self, Claim, Framework, StreamState};
use crate::gangs::{self, Gangs};
use crate::hoarding::{self, Hoarding};
use crate::input::{ConnectionId, Input, ProposalId, StreamId};
use crate::inverse::InverseOffers;
use crate::maintenance::{self, Maintenance};
use crate::offers::{self, Offer, OfferNumber};
use crate::operations::{Parked, ParkedNumber};
use crate::operator;
use crate::optimistic::Optimistic;
use crate::proposals::{self, Proposal};
use crate::registry::{Image, Registry};
use crate::retelling;
use crate::revocable::{self, Revocable};
use crate::roles::{self, Roles};
use crate::scheduler;
use crate::slots::{AgentSlot, ClaimSlot, FrameworkSlot, Slots, TaskSlot};
use crate::state::{self, State};
use crate::tasks::Task;
use crate::time::Timestamp;
use crate::timers::{Timer, Timers};
use crate::updates;

/// A master's state machine.
#[derive(Debug)]
pub struct Master {
    pub(crate) config: Config,
    pub(crate) registry: Registry,
    applied: u64,
    /// The latest time that was told: time never goes back here.
    now: Timestamp,
    /// How many proposals this core has made.
    proposed: u64,
    /// How often this core has asked whether it leads.
    asked: u64,
    /// Everything that only a leader knows; `None` on followers.
    pub(crate) leading: Option<Box<Leading>>,
}

/// What a leader knows beside the registry. Built from the registry at the election, and from what agents and schedulers
/// then say.
#[derive(Debug)]
pub(crate) struct Leading {
    pub(crate) incarnation: String,
    pub(crate) elected: Timestamp,
    pub(crate) made: Counters,
    pub(crate) agents: Slots<AgentSlot, Agent>,
    pub(crate) agent_ids: BTreeMap<v1::AgentId, AgentSlot>,
    /// The ids of agents whose admission is proposed.
    pub(crate) admitting: BTreeSet<v1::AgentId>,
    /// The open link streams; `None` for one whose registration is still under way.
    pub(crate) connections: BTreeMap<ConnectionId, Option<AgentSlot>>,
    pub(crate) frameworks: Slots<FrameworkSlot, Framework>,
    pub(crate) framework_ids: BTreeMap<v1::FrameworkId, FrameworkSlot>,
    pub(crate) streams: BTreeMap<StreamId, StreamState>,
    pub(crate) claims: Slots<ClaimSlot, Claim>,
    pub(crate) tasks: Slots<TaskSlot, Task>,
    pub(crate) offers: BTreeMap<OfferNumber, Offer>,
    /// What is held while an operation on it is on its way.
    pub(crate) parked: BTreeMap<ParkedNumber, Parked>,
    pub(crate) proposals: BTreeMap<ProposalId, Proposal>,
    pub(crate) allocator: Box<dyn Allocator>,
    pub(crate) timers: Timers,
    /// Agents whose tasks are to end and have not all ended, and those that are then to be gone.
    pub(crate) draining: BTreeMap<AgentSlot, drain::Draining>,
    pub(crate) gangs: Gangs,
    pub(crate) maintenance: Maintenance,
    pub(crate) inverse: InverseOffers,
    pub(crate) hoarding: Hoarding,
    pub(crate) revocable: Revocable,
    pub(crate) optimistic: Optimistic,
    pub(crate) roles: Roles,
    pub(crate) state: State,
    /// What the driver's timer is set to.
    armed: Option<Timestamp>,
    /// A reused buffer.
    pub(crate) decisions: Vec<Decision>,
}

/// How many ids of each kind were made in this incarnation.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) frameworks: u64,
    pub(crate) agents: u64,
    pub(crate) offers: u64,
    pub(crate) parked: u64,
}

/// What a handler works on: the master while it leads, the time, and where effects go.
pub(crate) struct Step<'a> {
    pub(crate) config: &'a Config,
    pub(crate) registry: &'a Registry,
    pub(crate) proposed: &'a mut u64,
    pub(crate) asked: &'a mut u64,
    pub(crate) now: Timestamp,
    pub(crate) effects: &'a mut Effects,
}

impl Master {
    /// A follower with an empty registry.
    pub fn new(config: Config) -> Self {
        Master {
            config,
            registry: Registry::default(),
            applied: 0,
            now: Timestamp::default(),
            proposed: 0,
            asked: 0,
            leading: None,
        }
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Replaces the registry by a snapshot. Only for followers: what a leader knows beside it is dropped.
    pub fn restore(&mut self, registry: wire::Registry) {
        self.registry = Registry::from_wire(registry);
        self.applied = 0;
        self.leading = None;
    }

    /// The whole registry, for a snapshot. Costs next to nothing, however large it is.
    pub fn image(&self) -> Image {
        self.registry.image()
    }

    /// The whole registry as a message.
    pub fn registry(&self) -> wire::Registry {
        self.registry.image().to_wire()
    }

    /// The masters of the group, by their ids.
    pub fn members(&self) -> &BTreeMap<u64, wire::Member> {
        self.registry.members.present()
    }

    /// The ids of masters that left, oldest first: of the last [`REMOVED_MEMBERS_MAX`](crate::REMOVED_MEMBERS_MAX).
    pub fn removed_members(&self) -> &VecDeque<u64> {
        self.registry.members.removed()
    }

    /// The registry's level: what a later level introduced must not be proposed.
    pub fn level(&self) -> u32 {
        self.registry.level()
    }

    /// True while this master leads.
    pub fn is_leader(&self) -> bool {
        self.leading.is_some()
    }

    /// Applies one input. What must be done about it is appended to `effects`, in the order in which it must be done.
    pub fn step(&mut self, now: Timestamp, input: Input, effects: &mut Effects) {
        self.now = self.now.max(now);
        match input {
            Input::Committed {
                index,
                proposal,
                change,
            } => self.committed(index, proposal, &change, effects),
            Input::BecameLeader { incarnation } => self.become_leader(incarnation, Counters::default(), effects),
            Input::LostLeadership => self.lost_leadership(effects),
            input => match self.parts(effects) {
                Some((leading, mut step)) => handle(leading, &mut step, input),
                None => refuse(input, effects),
            },
        }
        if let Some((leading, mut step)) = self.parts(effects) {
            drain::review(leading, &mut step);
            maintenance::review(leading, &mut step);
            roles::review(leading, &mut step);
            revocable::prepare(leading, &mut step);
            gangs::review(leading, &mut step);
            offers::allocate(leading, &mut step);
            leading.arm(&mut step);
        }
    }

    /// The parts that handlers work on; `None` on followers.
    fn parts<'a>(&'a mut self, effects: &'a mut Effects) -> Option<(&'a mut Leading, Step<'a>)> {
        let leading = self.leading.as_deref_mut()?;
        let step = Step {
            config: &self.config,
            registry: &self.registry,
            proposed: &mut self.proposed,
            asked: &mut self.asked,
            now: self.now,
            effects,
        };
        Some((leading, step))
    }

    fn committed(&mut self, index: u64, proposal: Option<ProposalId>, change: &wire::Change, effects: &mut Effects) {
        if index <= self.applied {
            return;
        }
        self.applied = index;
        let applied = self.registry.apply(index, change);
        let Some((leading, mut step)) = self.parts(effects) else {
            return;
        };
        state::applied(leading, &mut step, index, change, &applied);
        match proposal.and_then(|id| leading.proposals.remove(&id)) {
            Some(Proposal::Write(write)) => state::written(leading, &mut step, &write, index, &applied),
            Some(proposal) => proposals::committed(leading, &mut step, proposal),
            None if state::is_apart(change) => {}
            None => self.start_over(effects),
        }
    }

    /// The registry changed behind the leader's back (a change that it took for dropped, or one of an earlier term): what
    /// it knows beside the registry may be wrong, so it lets everyone come anew.
    fn start_over(&mut self, effects: &mut Effects) {
        let Some(leading) = &mut self.leading else { return };
        let (incarnation, made) = (leading.incarnation.clone(), std::mem::take(&mut leading.made));
        self.become_leader(incarnation, made, effects);
    }

    /// Ids are made from the incarnation and how many were made in it.
    fn become_leader(&mut self, incarnation: String, made: Counters, effects: &mut Effects) {
        self.lost_leadership(effects);
        let leading = Leading {
            made,
            ..Leading::new(incarnation, self.now, &self.config)
        };
        self.leading = Some(Box::new(leading));
        if let Some((leading, mut step)) = self.parts(effects) {
            let domain = step.config.master_info.as_ref().and_then(|info| info.domain.as_ref());
            leading.allocator.set_region(domain.and_then(domain::region));
            agents::recover(leading, &mut step);
            roles::recover(leading, &mut step);
            frameworks::recover(leading, &mut step);
            maintenance::replan(leading, &mut step);
        }
    }

    /// Forgets what only a leader knows, and sends everyone to the new one.
    fn lost_leadership(&mut self, effects: &mut Effects) {
        let Some(leading) = self.leading.take() else { return };
        for request in proposals::waiting(&leading) {
            effects.answer(request, Answer::NotLeader);
        }
        for connection in leading.connections.into_keys() {
            effects.push(Effect::CloseAgent { connection });
        }
        for (stream, state) in leading.streams {
            if let StreamState::Open(_) = state {
                effects.push(Effect::CloseStream { stream });
            }
        }
        leading.state.close(effects);
    }
}

impl Leading {
    fn new(incarnation: String, elected: Timestamp, config: &Config) -> Self {
        Leading {
            incarnation,
            elected,
            made: Counters::default(),
            agents: Slots::default(),
            agent_ids: BTreeMap::new(),
            admitting: BTreeSet::new(),
            connections: BTreeMap::new(),
            frameworks: Slots::default(),
            framework_ids: BTreeMap::new(),
            streams: BTreeMap::new(),
            claims: Slots::default(),
            tasks: Slots::default(),
            offers: BTreeMap::new(),
            parked: BTreeMap::new(),
            proposals: BTreeMap::new(),
            allocator: Box::new(Hierarchical::new(config.allocator, config.agent_order)),
            timers: Timers::default(),
            draining: BTreeMap::new(),
            gangs: Gangs::default(),
            maintenance: Maintenance::default(),
            inverse: InverseOffers::default(),
            hoarding: Hoarding::default(),
            revocable: Revocable::default(),
            optimistic: Optimistic::default(),
            roles: Roles::default(),
            state: State::default(),
            armed: None,
            decisions: Vec::new(),
        }
    }

    /// Sets the driver's timer if something is due before it. A timer that turns out too early is set anew at its tick.
    fn arm(&mut self, step: &mut Step<'_>) {
        match self.allocator.next_expiry() {
            Some(at) if self.timers.at(Timer::Filters) != Some(at) => self.timers.set(Timer::Filters, at),
            Some(_) => {}
            None => self.timers.cancel(Timer::Filters),
        }
        if let Some(at) = hoarding::due(self, step)
            && self.timers.at(Timer::Offers).is_none_or(|set| at < set)
        {
            self.timers.set(Timer::Offers, at);
        }
        let Some(next) = self.timers.next() else { return };
        if self.armed.is_none_or(|armed| next < armed) {
            self.armed = Some(next);
            step.effects.push(Effect::Wake { at: next });
        }
    }

    fn tick(&mut self, step: &mut Step<'_>) {
        if self.armed.is_some_and(|armed| armed <= step.now) {
            self.armed = None;
        }
        while let Some(timer) = self.timers.pop_due(step.now) {
            match timer {
                Timer::Ping(agent) => agents::ping(self, step, agent),
                Timer::AgentAway(agent) => agents::away_too_long(self, step, agent),
                Timer::Drain(agent) => drain::try_again(self, agent),
                Timer::Heartbeat(framework) => frameworks::heartbeat(self, step, framework),
                Timer::FrameworkAway(framework) => frameworks::away_too_long(self, step, framework),
                Timer::Offers => offers::expire(self, step),
                Timer::Trust(framework) => hoarding::try_again(self, step, framework),
                Timer::Gang(gang) => gangs::deadline(self, step, gang),
                Timer::GangLook => gangs::look_everywhere(self),
                Timer::Revocable => revocable::look(self),
                Timer::Recall(agent) => revocable::due(self, step, agent),
                Timer::InverseOffer(agent, framework) => maintenance::expired(self, agent, framework),
                Timer::Filters => self.allocator.expire(step.now),
            }
        }
    }
}

fn handle(leading: &mut Leading, step: &mut Step<'_>, input: Input) {
    match input {
        Input::ProposalDropped { proposal } => {
            if let Some(proposal) = leading.proposals.remove(&proposal) {
                proposals::dropped(leading, step, proposal);
            }
        }
        Input::AgentRegister {
            connection,
            register,
            address,
        } => agents::register(leading, step, connection, *register, address),
        Input::AgentMessage { connection, message } => updates::agent_message(leading, step, connection, *message),
        Input::AgentDisconnected { connection } => agents::disconnected(leading, step, connection),
        Input::Subscribe { request, stream, call } => frameworks::subscribe(leading, step, request, stream, *call),
        Input::SchedulerCall { request, stream, call } => scheduler::call(leading, step, request, stream, *call),
        Input::SchedulerDisconnected { stream } => frameworks::disconnected(leading, step, stream),
        Input::Continue { stream } => retelling::go_on(leading, step, stream),
        Input::Operator { request, call } => operator::call(leading, step, request, *call),
        Input::State { request, call } => state::call(leading, step, request, *call),
        Input::Watch { request, stream, watch } => state::watch(leading, step, request, stream, *watch),
        Input::WatchEnded { stream } => state::ended(leading, stream),
        Input::Readable { read } => state::readable(leading, step, read),
        Input::Unreadable { read } => state::unreadable(leading, step, read),
        Input::Tick => leading.tick(step),
        Input::Committed { .. } | Input::BecameLeader { .. } | Input::LostLeadership => {}
    }
}

/// A follower sends everyone to the leader.
fn refuse(input: Input, effects: &mut Effects) {
    match input {
        Input::AgentRegister { connection, .. } => effects.push(Effect::CloseAgent { connection }),
        Input::Subscribe { request, .. }
        | Input::SchedulerCall { request, .. }
        | Input::Operator { request, .. }
        | Input::State { request, .. }
        | Input::Watch { request, .. } => {
            effects.answer(request, Answer::NotLeader);
        }
        _ => {}
    }
}
