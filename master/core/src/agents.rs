//! Agents: from the first message of a link stream to the mark in the registry that an agent is unreachable or gone.
//!
//! ```text
//! (new) --Register, AdmitAgent committed--> Attached <--Register-- Recovered (known from the registry at an election)
//! Attached --stream ends, pings unanswered--> Disconnected --timeout, MarkUnreachable committed--> Unreachable
//! Disconnected, Unreachable --Register (MarkReachable committed)--> Attached
//! any --MarkGone or RemoveAgent committed--> (removed)
//! ```
//!
//! The tasks that an agent lists when it registers are the whole truth about its tasks.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use proffer_proto::registry as wire;
use proffer_proto::registry::change::Body;
use proffer_proto::resources::Resources;
use proffer_proto::v1::task_status::Reason;
use proffer_proto::v1::{self, TaskState};
use proffer_proto::{Rejection, ids, link};

use crate::accept::Acceptance;
use crate::allocator::Description;
use crate::effect::{Answer, Effect};
use crate::executors::{self, Executors};
use crate::input::{ConnectionId, RequestId};
use crate::inverse::{self, About};
use crate::known::Known;
use crate::master::{Leading, Step};
use crate::offers::{self, OfferNumber};
use crate::operations::{self, ParkedNumber, feedback};
use crate::proposals::{self, Proposal, propose};
use crate::remnants::{self, Remnants};
use crate::slots::{AgentSlot, TaskSlot};
use crate::time::Timestamp;
use crate::timers::Timer;
use crate::{books, drain, events, frameworks, gangs, maintenance, roles, tasks};

/// The version of the link protocol that is spoken here.
const PROTOCOL: u32 = 1;

/// When something that could not be proposed is proposed again.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// An agent of the registry.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) id: v1::AgentId,
    pub(crate) info: Known,
    pub(crate) phase: Phase,
    /// It was unreachable until it began to come back.
    was_unreachable: bool,
    /// A change of it is proposed; what comes meanwhile waits in the queue.
    pub(crate) in_flight: bool,
    pub(crate) queue: VecDeque<Deferred>,
    pub(crate) total: Resources,
    /// The sum of its offers, of its tasks that hold resources, of its executors, of its remnants and of what is parked.
    pub(crate) used: Resources,
    /// What stands behind the revocable part of that.
    pub(crate) backing: Resources,
    pub(crate) tangled: bool,
    pub(crate) tasks: BTreeSet<TaskSlot>,
    pub(crate) remnants: Remnants,
    pub(crate) offers: BTreeSet<OfferNumber>,
    pub(crate) executors: Executors,
    pub(crate) version: String,
    pub(crate) address: String,
    pub(crate) capabilities: Vec<v1::agent_info::Capability>,
    pub(crate) registered: Timestamp,
    pub(crate) reregistered: Option<Timestamp>,
    /// What operators want of it, as the registry has it.
    pub(crate) standing: wire::Standing,
    /// When it was admitted, which tells its layouts from those of another agent of the same id.
    pub(crate) lineage: i64,
    /// What operations made of it, as the registry has it.
    pub(crate) layout: wire::Layout,
    /// The resources of the layout.
    pub(crate) converted: Resources,
    /// The layout that it has applied, and what it could not do of it.
    pub(crate) applied: u64,
    pub(crate) failures: Vec<link::VolumeFailure>,
    /// What is held while an operation on it is on its way.
    pub(crate) parked: BTreeSet<ParkedNumber>,
}

/// Where an agent stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Known from the registry; not heard of since the election.
    Recovered,
    Attached(Link),
    Disconnected,
    Unreachable {
        since: Timestamp,
    },
}

/// The link stream of an attached agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) connection: ConnectionId,
    sequence: u64,
    /// Pings since the agent was last heard.
    unanswered: u32,
}

/// What an agent says of itself, checked.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) connection: ConnectionId,
    register: link::Register,
    address: String,
}

/// What waits until the change of the agent that is on its way is settled.
#[derive(Debug)]
pub(crate) enum Deferred {
    Register(Box<Registration>),
    Resize(ConnectionId, Vec<v1::Resource>),
    Leave(ConnectionId),
    Gone(Option<RequestId>),
    Order(drain::Order, RequestId),
    /// What is left of an ACCEPT, whose resources are held.
    Accept(ParkedNumber, Box<Acceptance>),
    Convert(Box<operations::Order>),
    /// The status of an operation is acknowledged.
    Forget(Vec<u8>),
}

impl Deferred {
    pub(crate) fn request(&self) -> Option<RequestId> {
        match self {
            Deferred::Gone(request) => *request,
            Deferred::Order(_, request) => Some(*request),
            Deferred::Convert(order) => Some(order.request),
            _ => None,
        }
    }
}

impl Agent {
    fn new(id: v1::AgentId, info: Known, phase: Phase, registered: Timestamp) -> Self {
        let total = Resources::from_wire(&info.resources).unwrap_or_default();
        Agent {
            id,
            info,
            phase,
            was_unreachable: false,
            in_flight: false,
            queue: VecDeque::new(),
            total,
            used: Resources::new(),
            backing: Resources::new(),
            tangled: false,
            tasks: BTreeSet::new(),
            remnants: Remnants::new(),
            offers: BTreeSet::new(),
            executors: Executors::new(),
            version: String::new(),
            address: String::new(),
            capabilities: Vec::new(),
            registered,
            reregistered: None,
            standing: wire::Standing::default(),
            lineage: registered.as_millis_i64(),
            layout: wire::Layout::default(),
            converted: Resources::new(),
            applied: 0,
            failures: Vec::new(),
            parked: BTreeSet::new(),
        }
    }

    /// Its stream, while it has one.
    pub(crate) fn connection(&self) -> Option<ConnectionId> {
        match &self.phase {
            Phase::Attached(link) => Some(link.connection),
            _ => None,
        }
    }

    /// Whether its operators let it be offered.
    pub(crate) fn is_offered(&self) -> bool {
        !self.standing.deactivated()
    }
}

/// Takes the agents over from the registry at an election.
pub(crate) fn recover(leading: &mut Leading, step: &mut Step<'_>) {
    for (id, known) in step.registry.agents.iter() {
        let phase = match known.unreachable_ms {
            Some(since) => Phase::Unreachable {
                since: Timestamp::from_millis_i64(since),
            },
            None => Phase::Recovered,
        };
        let away = phase == Phase::Recovered;
        let admitted = Timestamp::from_millis_i64(known.admitted_ms);
        let mut agent = Agent::new(id.clone(), Known::from(known.clone()), phase, admitted);
        agent.standing = known.standing.unwrap_or_default();
        agent.set_layout(known.layout.as_ref());
        let slot = leading.agents.insert(agent);
        leading.agent_ids.insert(id.clone(), slot);
        if away {
            // It counts in what the cluster has, so that shares do not change with every agent that comes back.
            describe(leading, slot);
            books::refresh(leading, slot);
            let at = step.now.plus(step.config.agent_reregister_timeout);
            leading.timers.set(Timer::AgentAway(slot), at);
        }
        drain::resume(leading, step, slot);
    }
}

/// An agent's first message.
pub(crate) fn register(
    leading: &mut Leading,
    step: &mut Step<'_>,
    connection: ConnectionId,
    mut register: link::Register,
    address: String,
) {
    if let Some(known) = leading.connections.get(&connection) {
        // A second Register on one stream breaks the protocol: the stream ends.
        if let Some(slot) = *known {
            detach(leading, step, slot);
        }
        let rejection = Rejection::new("register", "was sent twice on one stream", "one Register, first");
        refuse(leading, step, connection, rejection.to_string(), false);
        return;
    }
    leading.connections.insert(connection, None);
    // An empty id is how some clients write none.
    register.agent.id = register.agent.id.filter(|id| !id.value.is_empty());
    match check(&register) {
        Ok(()) => {
            let registration = Registration {
                connection,
                register,
                address,
            };
            dispatch(leading, step, Box::new(registration));
        }
        Err(rejection) => refuse(
            leading,
            step,
            connection,
            rejection.within("register").to_string(),
            false,
        ),
    }
}

fn check(register: &link::Register) -> Result<(), Rejection> {
    if register.protocol != PROTOCOL {
        let problem = format!("is {}", register.protocol);
        return Err(Rejection::new("protocol", problem, PROTOCOL.to_string()));
    }
    if register.agent.hostname.is_empty() {
        return Err(Rejection::new("agent.hostname", "is empty", "the agent's host name"));
    }
    if let Some(id) = &register.agent.id {
        ids::check_chosen(&id.value, "agent.id.value")?;
    }
    declared(&register.agent.resources).map_err(|rejection| rejection.within("agent.resources"))
}

/// Checks what an agent says that it has.
fn declared(resources: &[v1::Resource]) -> Result<(), Rejection> {
    let declared = Resources::from_wire(resources)?;
    if declared.converted().is_empty() {
        return Ok(());
    }
    let problem = format!("hold {}, which only operations make", declared.converted());
    let accepted = "resources without dynamic reservations and persistent volumes: the masters know these";
    Err(Rejection::new("", problem, accepted))
}

fn refuse(leading: &mut Leading, step: &mut Step<'_>, connection: ConnectionId, message: String, gone: bool) {
    let rejected = link::Rejected {
        message,
        gone: Some(gone),
    };
    step.effects
        .send_agent(connection, link::master_message::Body::Rejected(rejected));
    close(leading, step, connection);
}

/// Closes a stream that no agent is attached to.
pub(crate) fn close(leading: &mut Leading, step: &mut Step<'_>, connection: ConnectionId) {
    if leading.connections.remove(&connection).is_some() {
        step.effects.push(Effect::CloseAgent { connection });
    }
}

/// Finds out who it is that registers.
fn dispatch(leading: &mut Leading, step: &mut Step<'_>, mut registration: Box<Registration>) {
    let connection = registration.connection;
    if !leading.connections.contains_key(&connection) {
        return;
    }
    if maintenance::is_down(
        &step.registry.maintenance,
        &registration.register.agent.hostname,
        &registration.address,
    ) {
        // Whatever it runs is not counted on any more.
        let gone = registration.register.agent.id.is_some();
        let message = "its machine is down for maintenance; STOP_MAINTENANCE lets its agent register".to_owned();
        refuse(leading, step, connection, message, gone);
        return;
    }
    let Some(id) = registration.register.agent.id.clone() else {
        leading.made.agents += 1;
        let id = v1::AgentId::from(format!("{}-A{:04}", leading.incarnation, leading.made.agents));
        registration.register.agent.id = Some(id.clone());
        admit(leading, step, id, registration);
        return;
    };
    if step.registry.is_gone(&id) {
        let message = format!("agent {id} was marked gone and can never register again");
        refuse(leading, step, connection, message, true);
        return;
    }
    match leading.agent_ids.get(&id).copied() {
        Some(slot) => come_back(leading, step, slot, registration),
        None if leading.admitting.contains(&id) => {
            let message = format!("agent {id} is being admitted on another stream; try again");
            refuse(leading, step, connection, message, false);
        }
        None => admit(leading, step, id, registration),
    }
}

fn admit(leading: &mut Leading, step: &mut Step<'_>, id: v1::AgentId, registration: Box<Registration>) {
    leading.admitting.insert(id);
    let info = registration.register.agent.clone();
    let change = wire::AdmitAgent {
        agent: info.clone(),
        at_ms: step.now.as_millis_i64(),
    };
    propose(
        leading,
        step,
        Body::AdmitAgent(change),
        Proposal::Admit(registration, info),
    );
}

/// A new agent is in the registry.
pub(crate) fn admitted(leading: &mut Leading, step: &mut Step<'_>, registration: Registration, info: v1::AgentInfo) {
    let Some(id) = info.id.clone() else { return };
    leading.admitting.remove(&id);
    let mut agent = Agent::new(id.clone(), Known::of(step, info), Phase::Disconnected, step.now);
    if let Some(known) = step.registry.agents.get(&id) {
        agent.lineage = known.admitted_ms;
    }
    let slot = leading.agents.insert(agent);
    leading.agent_ids.insert(id, slot);
    if leading.connections.contains_key(&registration.connection) {
        attach(leading, step, slot, registration);
    } else {
        // It never heard of its id: it will register as a new agent.
        propose_leave(leading, step, slot);
    }
}

/// A known agent registers.
fn come_back(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot, registration: Box<Registration>) {
    if leading.agents[slot].in_flight {
        let queue = &mut leading.agents[slot].queue;
        let older = queue
            .iter()
            .position(|deferred| matches!(deferred, Deferred::Register(_)));
        let older = older.and_then(|at| queue.remove(at));
        queue.push_back(Deferred::Register(registration));
        if let Some(Deferred::Register(older)) = older {
            close(leading, step, older.connection);
        }
        return;
    }
    if let Some(old) = leading.agents[slot].connection() {
        detach(leading, step, slot);
        close(leading, step, old);
    }
    let agent = &mut leading.agents[slot];
    let unreachable = unreachable_since(agent).is_some();
    let known = step.registry.agents.get(&agent.id).map(|known| &known.info);
    let changed = known != Some(&registration.register.agent);
    let change = if unreachable {
        Body::MarkReachable(wire::MarkReachable {
            agent_id: agent.id.clone(),
        })
    } else if changed {
        Body::UpdateAgent(wire::UpdateAgent {
            agent: registration.register.agent.clone(),
        })
    } else {
        return attach(leading, step, slot, *registration);
    };
    agent.in_flight = true;
    propose(leading, step, change, Proposal::Return(slot, registration));
}

/// The registry knows something new of an agent that registers; there may be more that it has to know.
pub(crate) fn returned(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot, registration: Registration) {
    let agent = &mut leading.agents[slot];
    agent.in_flight = false;
    if let Some(known) = step.registry.agents.get(&agent.id) {
        agent.info = Known::from(known.clone());
        if known.unreachable_ms.is_none() && unreachable_since(agent).is_some() {
            agent.phase = Phase::Disconnected;
            agent.was_unreachable = true;
        }
    }
    if leading.connections.contains_key(&registration.connection) {
        come_back(leading, step, slot, Box::new(registration));
    } else {
        await_return(leading, step, slot);
    }
    if !leading.agents[slot].in_flight {
        settled(leading, step, slot);
    }
}

/// Since when an agent is unreachable, if it is.
pub(crate) fn unreachable_since(agent: &Agent) -> Option<Timestamp> {
    match agent.phase {
        Phase::Unreachable { since } => Some(since),
        _ => None,
    }
}

fn await_return(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot) {
    let at = step.now.plus(step.config.agent_timeout);
    leading.timers.set(Timer::AgentAway(slot), at);
}

/// From here on the agent is spoken to and offered.
fn attach(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot, registration: Registration) {
    let Registration {
        connection,
        register,
        address,
    } = registration;
    leading.connections.insert(connection, Some(slot));
    leading.timers.cancel(Timer::AgentAway(slot));
    let ping_at = step.now.plus(step.config.ping_interval);
    leading.timers.set(Timer::Ping(slot), ping_at);
    let agent = &mut leading.agents[slot];
    agent.info = Known::of(step, register.agent);
    agent.count_total();
    let agent = &mut leading.agents[slot];
    if agent.registered != step.now {
        agent.reregistered = Some(step.now);
    }
    let was_unreachable = std::mem::take(&mut agent.was_unreachable);
    agent.phase = Phase::Attached(Link {
        connection,
        sequence: 0,
        unanswered: 0,
    });
    agent.version = register.version;
    agent.address = address;
    agent.capabilities = register.capabilities;
    describe(leading, slot);
    roles::heard(leading, slot);
    let registered = link::Registered {
        agent_id: leading.agents[slot].id.clone(),
        ping_interval_seconds: step.config.ping_interval.as_secs_f64(),
    };
    step.effects
        .send_agent(connection, link::master_message::Body::Registered(registered));
    operations::send(leading, step, slot);
    let unknown = executors::relist(leading, slot, register.executors);
    tasks::relist(leading, step, slot, register.tasks, was_unreachable, unknown);
    roles::weigh(leading, step, slot);
    books::refresh(leading, slot);
    let offered = leading.agents[slot].is_offered();
    leading.allocator.set_agent_active(slot, offered);
    drain::resume(leading, step, slot);
    maintenance::place(leading, step, slot);
    maintenance::touch(leading, slot);
}

/// Tells the allocator what the agent is.
pub(crate) fn describe(leading: &mut Leading, slot: AgentSlot) {
    let agent = &leading.agents[slot];
    let description = Description {
        total: &agent.total,
        hostname: &agent.info.hostname,
        attributes: &agent.info.attributes,
        domain: agent.info.domain.as_ref(),
    };
    leading.allocator.put_agent(slot, &description);
}

/// A stream ended.
pub(crate) fn disconnected(leading: &mut Leading, step: &mut Step<'_>, connection: ConnectionId) {
    if let Some(Some(slot)) = leading.connections.remove(&connection) {
        detach(leading, step, slot);
    }
}

/// The agent has no stream any more: its offers end at once, its tasks do not.
fn detach(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot) {
    leading.agents[slot].phase = Phase::Disconnected;
    leading.timers.cancel(Timer::Ping(slot));
    await_return(leading, step, slot);
    leading.allocator.set_agent_active(slot, false);
    gangs::leave_agent(leading, slot);
    offers::rescind_agent(leading, step, slot);
    operations::give_up_waiting(leading, step, slot);
}

/// The next ping of an agent is due.
pub(crate) fn ping(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot) {
    let Some(Agent {
        phase: Phase::Attached(link),
        ..
    }) = leading.agents.get_mut(slot)
    else {
        return;
    };
    let connection = link.connection;
    if link.unanswered >= step.config.ping_misses {
        detach(leading, step, slot);
        close(leading, step, connection);
        leading.timers.cancel(Timer::AgentAway(slot));
        away_too_long(leading, step, slot);
        return;
    }
    link.sequence += 1;
    link.unanswered += 1;
    let ping = link::Ping {
        sequence: link.sequence,
    };
    step.effects
        .send_agent(connection, link::master_message::Body::Ping(ping));
    let at = step.now.plus(step.config.ping_interval);
    leading.timers.set(Timer::Ping(slot), at);
}

/// Any message of an agent shows that it lives.
pub(crate) fn heard(leading: &mut Leading, slot: AgentSlot) {
    if let Phase::Attached(link) = &mut leading.agents[slot].phase {
        link.unanswered = 0;
    }
}

/// An agent did not come back in time: the registry is the first to hear that it is unreachable.
pub(crate) fn away_too_long(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot) {
    let Some(agent) = leading.agents.get_mut(slot) else {
        return;
    };
    if !matches!(agent.phase, Phase::Recovered | Phase::Disconnected) {
        return;
    }
    if agent.in_flight {
        leading.timers.set(Timer::AgentAway(slot), step.now.plus(RETRY));
        return;
    }
    agent.in_flight = true;
    let change = wire::MarkUnreachable {
        agent_id: agent.id.clone(),
        at_ms: step.now.as_millis_i64(),
    };
    propose(
        leading,
        step,
        Body::MarkUnreachable(change),
        Proposal::Unreachable(slot),
    );
}

/// The registry knows that the agent is unreachable; now its frameworks hear it.
pub(crate) fn unreachable(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot) {
    let agent = &mut leading.agents[slot];
    let since = step
        .registry
        .agents
        .get(&agent.id)
        .and_then(|known| known.unreachable_ms);
    let since = since.map_or(step.now, Timestamp::from_millis_i64);
    agent.phase = Phase::Unreachable { since };
    roles::heard(leading, slot);
    let agent = &leading.agents[slot];
    let id = agent.id.clone();
    leading.timers.cancel(Timer::AgentAway(slot));
    tasks::agent_unreachable(leading, step, slot, since);
    remnants::forget(leading, slot);
    executors::forget(leading, slot);
    leading.allocator.remove_agent(slot);
    frameworks::broadcast(leading, step, &events::failure(id, None));
    settled(leading, step, slot);
}

/// An operator says that an agent is gone for good, or said so when it began to drain it.
pub(crate) fn mark_gone(leading: &mut Leading, step: &mut Step<'_>, id: &v1::AgentId, request: Option<RequestId>) {
    let Some(&slot) = leading.agent_ids.get(id) else {
        let answer = if step.registry.is_gone(id) {
            Answer::Accepted
        } else {
            let problem = format!("is {:?}, which names no agent", id.value);
            Answer::Rejected(Rejection::new(
                "mark_agent_gone.agent_id",
                problem,
                "the id of an admitted agent",
            ))
        };
        if let Some(request) = request {
            step.effects.answer(request, answer);
        }
        return;
    };
    let agent = &mut leading.agents[slot];
    if agent.in_flight {
        agent.queue.push_back(Deferred::Gone(request));
        return;
    }
    agent.in_flight = true;
    let change = wire::MarkGone {
        agent_id: agent.id.clone(),
        at_ms: step.now.as_millis_i64(),
    };
    propose(leading, step, Body::MarkGone(change), Proposal::Gone(slot, request));
}

/// The registry knows that the agent is gone.
pub(crate) fn gone(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot, request: Option<RequestId>) {
    if let Some(request) = request {
        step.effects.answer(request, Answer::Accepted);
    }
    if let Some(connection) = leading.agents[slot].connection() {
        let id = &leading.agents[slot].id;
        let message = format!("agent {id} was marked gone by an operator");
        refuse(leading, step, connection, message, true);
    }
    feedback::agent_gone(leading, step, slot);
    let end = tasks::End {
        state: TaskState::TaskGoneByOperator,
        reason: Reason::AgentRemovedByOperator,
        message: "the agent was marked gone by an operator",
    };
    remove(leading, step, slot, end);
    proposals::forget_excess(leading, step);
}

/// An attached agent says that it leaves in order.
pub(crate) fn leave(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot, connection: ConnectionId) {
    if leading.agents[slot].in_flight {
        leading.agents[slot].queue.push_back(Deferred::Leave(connection));
    } else if leading.agents[slot].connection() == Some(connection) {
        propose_leave(leading, step, slot);
    }
}

fn propose_leave(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot) {
    let agent = &mut leading.agents[slot];
    agent.in_flight = true;
    let change = wire::RemoveAgent {
        agent_id: agent.id.clone(),
    };
    leading.allocator.set_agent_active(slot, false);
    gangs::leave_agent(leading, slot);
    offers::rescind_agent(leading, step, slot);
    propose(leading, step, Body::RemoveAgent(change), Proposal::Leave(slot));
}

/// The registry has forgotten the agent.
pub(crate) fn left(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot) {
    if let Some(connection) = leading.agents[slot].connection() {
        close(leading, step, connection);
    }
    feedback::agent_gone(leading, step, slot);
    let end = tasks::End {
        state: TaskState::TaskGone,
        reason: Reason::AgentRemoved,
        message: "the agent has left",
    };
    remove(leading, step, slot, end);
}

/// Removes an agent that the registry does not hold any more, with all that was on it.
fn remove(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot, end: tasks::End) {
    gangs::leave_agent(leading, slot);
    offers::rescind_agent(leading, step, slot);
    operations::give_up_waiting(leading, step, slot);
    maintenance::forget_agent(leading, step, slot);
    inverse::rescind_agent(leading, step, slot, About::Recall);
    tasks::end_all(leading, step, slot, end);
    executors::forget(leading, slot);
    leading.allocator.remove_agent(slot);
    roles::heard(leading, slot);
    frameworks::forget_agent(leading, slot);
    leading.timers.cancel(Timer::Ping(slot));
    leading.timers.cancel(Timer::AgentAway(slot));
    leading.timers.cancel(Timer::Drain(slot));
    let Some(agent) = leading.agents.remove(slot) else {
        return;
    };
    leading.agent_ids.remove(&agent.id);
    frameworks::broadcast(leading, step, &events::failure(agent.id.clone(), None));
    for deferred in agent.queue {
        match deferred {
            Deferred::Register(registration) => dispatch(leading, step, registration),
            Deferred::Gone(request) => mark_gone(leading, step, &agent.id, request),
            Deferred::Order(order, request) => drain::order(leading, step, &agent.id, order, request),
            Deferred::Convert(order) => order.give(leading, step, &agent.id),
            Deferred::Resize(..) | Deferred::Leave(_) | Deferred::Accept(..) | Deferred::Forget(_) => {}
        }
    }
}

/// An attached agent says that its total has changed.
pub(crate) fn resize(
    leading: &mut Leading,
    step: &mut Step<'_>,
    slot: AgentSlot,
    connection: ConnectionId,
    resources: Vec<v1::Resource>,
) {
    let agent = &mut leading.agents[slot];
    if agent.in_flight {
        agent.queue.push_back(Deferred::Resize(connection, resources));
        return;
    }
    if agent.connection() != Some(connection) {
        return;
    }
    if let Err(rejection) = declared(&resources) {
        detach(leading, step, slot);
        let message = rejection.within("resources.total").to_string();
        refuse(leading, step, connection, message, false);
        return;
    }
    agent.in_flight = true;
    let change = wire::UpdateAgent {
        agent: v1::AgentInfo {
            resources,
            ..agent.info.clone()
        },
    };
    propose(leading, step, Body::UpdateAgent(change), Proposal::Resize(slot));
}

/// The registry knows the new total. Offers of an agent that has shrunk are taken back: they may promise too much.
pub(crate) fn resized(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot) {
    let agent = &mut leading.agents[slot];
    let before = agent.total.clone();
    if let Some(known) = step.registry.agents.get(&agent.id) {
        agent.info = Known::from(known.clone());
    }
    agent.count_total();
    let shrunk = !agent.total.contains(&before);
    if let Phase::Attached(_) = agent.phase {
        describe(leading, slot);
    }
    if shrunk {
        offers::rescind_agent(leading, step, slot);
    }
    roles::weigh(leading, step, slot);
    books::refresh(leading, slot);
    settled(leading, step, slot);
}

/// No change of the agent is on its way any more: what waited is next.
pub(crate) fn settled(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot) {
    leading.agents[slot].in_flight = false;
    while let Some(agent) = leading.agents.get_mut(slot)
        && !agent.in_flight
    {
        let Some(deferred) = agent.queue.pop_front() else {
            return;
        };
        let id = agent.id.clone();
        match deferred {
            Deferred::Register(registration) => dispatch(leading, step, registration),
            Deferred::Resize(connection, resources) => resize(leading, step, slot, connection, resources),
            Deferred::Leave(connection) => leave(leading, step, slot, connection),
            Deferred::Gone(request) => mark_gone(leading, step, &id, request),
            Deferred::Order(order, request) => drain::order(leading, step, &id, order, request),
            Deferred::Accept(parked, acceptance) => operations::resume(leading, step, parked, acceptance),
            Deferred::Convert(order) => order.give(leading, step, &id),
            Deferred::Forget(uuid) => feedback::forget(leading, step, slot, uuid),
        }
    }
}

/// A change was refused by the log. An agent that is away is looked at again soon.
pub(crate) fn try_again(leading: &mut Leading, step: &mut Step<'_>, slot: AgentSlot) {
    match leading.agents[slot].phase {
        Phase::Attached(_) => {
            let offered = leading.agents[slot].is_offered();
            leading.allocator.set_agent_active(slot, offered);
        }
        Phase::Recovered | Phase::Disconnected => {
            leading.timers.set(Timer::AgentAway(slot), step.now.plus(RETRY));
        }
        Phase::Unreachable { .. } => {}
    }
    settled(leading, step, slot);
}
