//! Frameworks: subscription, failover with its replicated deadline, change of their description, removal.
//!
//! ```text
//! (new) --SUBSCRIBE, PutFramework committed--> Connected <--SUBSCRIBE with the id-- Away (also after an election)
//! Connected --stream ends, FrameworkDisconnected committed--> Away --deadline, RemoveFramework committed--> (completed)
//! any --teardown, RemoveFramework committed--> (completed)
//! ```
//!
//! A framework has one claim on the allocator for each of its roles.

mod demand;
mod description;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proffer_proto::registry as wire;
use proffer_proto::registry::change::Body;
use proffer_proto::v1::framework_info::capability::Type as Capability;
use proffer_proto::v1::scheduler::Call;
use proffer_proto::v1::scheduler::call::Type;
use proffer_proto::v1::{self, scheduler};
use proffer_proto::{Rejection, link};

use crate::completed::Completed;
use crate::effect::{Answer, Effect};
use crate::hoarding::Trust;
use crate::input::{RequestId, StreamId};
use crate::master::{Leading, Step};
use crate::offers::{self, OfferNumber};
use crate::operations::{self, feedback};
use crate::proposals::{self, Proposal, Removal, propose};
use crate::retelling::{self, Retelling};
use crate::revocable;
use crate::slots::{AgentSlot, ClaimSlot, FrameworkSlot, TaskSlot};
use crate::time::Timestamp;
use crate::timers::Timer;
use crate::{events, executors, gangs, hoarding, optimistic, tasks};

use demand::Demand;
pub(crate) use demand::{forget_agent, met, request, wanted};
use description::Terms;
pub(crate) use description::roles_of;

/// When something that could not be proposed is proposed again.
const RETRY: Duration = Duration::from_secs(1);

/// A framework of the registry.
#[derive(Debug)]
pub(crate) struct Framework {
    pub(crate) id: v1::FrameworkId,
    pub(crate) info: v1::FrameworkInfo,
    pub(crate) phase: Phase,
    /// Its removal is proposed: it is offered nothing more.
    pub(crate) removing: bool,
    /// A change of it is proposed; what comes meanwhile waits in the queue.
    pub(crate) in_flight: bool,
    pub(crate) queue: VecDeque<Deferred>,
    /// By role; a role that it left stays here without being offered to.
    pub(crate) claims: BTreeMap<String, ClaimSlot>,
    pub(crate) tasks: BTreeMap<v1::TaskId, TaskSlot>,
    pub(crate) offers: BTreeSet<OfferNumber>,
    pub(crate) trust: Trust,
    terms: Terms,
    /// What it asked for by REQUEST; unset where it did not.
    demand: Option<Demand>,
    pub(crate) completed: Completed,
    /// What it is to be told of its tasks when it has read what it was told before.
    pub(crate) retelling: Retelling,
    pub(crate) registered: Timestamp,
    pub(crate) reregistered: Option<Timestamp>,
    /// When its stream last ended here.
    pub(crate) left: Timestamp,
}

/// Where a framework stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Connected(StreamId),
    /// Without a stream; the registry knows until when. `recovered` when it was so since the election.
    Away {
        recovered: bool,
    },
}

/// One role of one framework.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) framework: FrameworkSlot,
    pub(crate) role: String,
    /// The framework's description names the role.
    pub(crate) subscribed: bool,
    pub(crate) suppressed: bool,
}

/// What is known of a scheduler's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamState {
    /// Its SUBSCRIBE is not answered yet; `ended` when the stream is gone already.
    Opening {
        ended: bool,
    },
    Open(FrameworkSlot),
}

/// A checked SUBSCRIBE.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) request: RequestId,
    pub(crate) stream: StreamId,
    info: v1::FrameworkInfo,
    terms: Terms,
}

/// A checked UPDATE_FRAMEWORK.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) request: RequestId,
    info: v1::FrameworkInfo,
    terms: Terms,
}

/// What waits until the change of the framework that is on its way is settled.
#[derive(Debug)]
pub(crate) enum Deferred {
    Subscribe(Box<Subscription>),
    Update(Box<Update>),
    Remove(Removal),
}

impl Deferred {
    pub(crate) fn request(&self) -> Option<RequestId> {
        match self {
            Deferred::Subscribe(subscription) => Some(subscription.request),
            Deferred::Update(update) => Some(update.request),
            Deferred::Remove(removal) => removal.request(),
        }
    }
}

impl Framework {
    fn new(id: v1::FrameworkId, info: v1::FrameworkInfo, recovered: bool, registered: Timestamp) -> Self {
        Framework {
            id,
            info,
            phase: Phase::Away { recovered },
            removing: false,
            in_flight: false,
            queue: VecDeque::new(),
            claims: BTreeMap::new(),
            tasks: BTreeMap::new(),
            offers: BTreeSet::new(),
            trust: Trust::default(),
            terms: Terms::default(),
            demand: None,
            completed: Completed::default(),
            retelling: Retelling::default(),
            registered,
            reregistered: None,
            left: Timestamp::default(),
        }
    }

    /// Its stream, while it has one.
    pub(crate) fn stream(&self) -> Option<StreamId> {
        match self.phase {
            Phase::Connected(stream) => Some(stream),
            Phase::Away { .. } => None,
        }
    }

    pub(crate) fn has(&self, capability: Capability) -> bool {
        self.info
            .capabilities
            .iter()
            .any(|own| own.r#type == Some(capability as i32))
    }

    pub(crate) fn partition_aware(&self) -> bool {
        self.has(Capability::PartitionAware)
    }

    /// The offer constraints that it stated.
    pub(crate) fn constraints(&self) -> Option<&scheduler::OfferConstraints> {
        self.terms.stated.as_ref()
    }

    fn failover_timeout(&self) -> Duration {
        Duration::try_from_secs_f64(self.info.failover_timeout()).unwrap_or(Duration::MAX)
    }
}

/// Takes the frameworks over from the registry at an election. None is removed before it could come back.
pub(crate) fn recover(leading: &mut Leading, step: &mut Step<'_>) {
    let grace = step.now.plus(step.config.framework_resubscribe_timeout);
    for (id, known) in step.registry.frameworks.iter() {
        let registered = Timestamp::from_millis_i64(known.registered_ms);
        let framework = Framework::new(id.clone(), known.info.clone(), true, registered);
        let slot = leading.frameworks.insert(framework);
        leading.framework_ids.insert(id.clone(), slot);
        describe(leading, slot, known.info.clone(), Terms::default());
        match known.failover_deadline_ms {
            Some(deadline) => {
                let at = Timestamp::from_millis_i64(deadline).max(grace);
                leading.timers.set(Timer::FrameworkAway(slot), at);
            }
            None => propose_deadline(leading, step, slot, grace),
        }
    }
}

/// A scheduler's SUBSCRIBE.
pub(crate) fn subscribe(leading: &mut Leading, step: &mut Step<'_>, request: RequestId, stream: StreamId, call: Call) {
    match check_subscribe(request, stream, call) {
        Ok(_) if leading.streams.contains_key(&stream) => {
            let rejection = Rejection::new("type", "is SUBSCRIBE on an open stream", "SUBSCRIBE on a new stream");
            step.effects.answer(request, Answer::Rejected(rejection));
        }
        Ok(subscription) => {
            leading.streams.insert(stream, StreamState::Opening { ended: false });
            dispatch(leading, step, Box::new(subscription));
        }
        Err(rejection) => step.effects.answer(request, Answer::Rejected(rejection)),
    }
}

fn check_subscribe(request: RequestId, stream: StreamId, call: Call) -> Result<Subscription, Rejection> {
    if call.r#type != Some(Type::Subscribe as i32) {
        return Err(Rejection::new("type", "is not SUBSCRIBE", "SUBSCRIBE"));
    }
    let Some(subscribe) = call.subscribe else {
        return Err(Rejection::missing("subscribe"));
    };
    let mut info = subscribe.framework_info;
    // An empty id is how some clients write none.
    info.id = info.id.filter(|id| !id.value.is_empty());
    let outer = call.framework_id.filter(|id| !id.value.is_empty());
    match (&outer, &info.id) {
        (None, None) => {}
        (Some(outer), Some(inner)) if outer == inner => {}
        (Some(_), None) => return Err(Rejection::missing("subscribe.framework_info.id")),
        (None, Some(_)) => return Err(Rejection::missing("framework_id")),
        (Some(outer), Some(inner)) => {
            let problem = format!(
                "is {:?}, but `subscribe.framework_info.id` is {:?}",
                outer.value, inner.value
            );
            return Err(Rejection::new(
                "framework_id",
                problem,
                "the same id in both, or none in both",
            ));
        }
    }
    let terms = description::check(&info, subscribe.suppressed_roles, subscribe.offer_constraints)
        .map_err(|rejection| rejection.within("subscribe"))?;
    Ok(Subscription {
        request,
        stream,
        info,
        terms,
    })
}

/// Finds out who it is that subscribes.
fn dispatch(leading: &mut Leading, step: &mut Step<'_>, mut subscription: Box<Subscription>) {
    let Some(id) = subscription.info.id.clone() else {
        leading.made.frameworks += 1;
        let id = format!("{}-F{:04}", leading.incarnation, leading.made.frameworks);
        subscription.info.id = Some(v1::FrameworkId::from(id));
        let info = subscription.info.clone();
        let change = put(&info, step.now);
        propose(leading, step, change, Proposal::Found(subscription, info));
        return;
    };
    let slot = match find(leading, step, &id) {
        Ok(slot) => slot,
        Err(rejection) => return refuse(leading, step, &subscription, rejection),
    };
    let framework = &mut leading.frameworks[slot];
    if framework.in_flight {
        framework.queue.push_back(Deferred::Subscribe(subscription));
        return;
    }
    if let Err(rejection) = description::check_change(&framework.info, &subscription.info) {
        let rejection = rejection.within("subscribe.framework_info");
        return refuse(leading, step, &subscription, rejection);
    }
    let known = step.registry.frameworks.get(&id);
    let changed = known.is_none_or(|known| known.info != subscription.info);
    let away = known.is_some_and(|known| known.failover_deadline_ms.is_some());
    let change = if changed {
        put(&subscription.info, step.now)
    } else if away {
        Body::FrameworkConnected(wire::FrameworkConnected { framework_id: id })
    } else {
        return connect(leading, step, slot, *subscription);
    };
    framework.in_flight = true;
    propose(leading, step, change, Proposal::Resubscribe(slot, subscription));
}

fn put(info: &v1::FrameworkInfo, now: Timestamp) -> Body {
    Body::PutFramework(wire::PutFramework {
        framework: info.clone(),
        at_ms: now.as_millis_i64(),
    })
}

/// The framework of an id from outside.
pub(crate) fn find(leading: &Leading, step: &Step<'_>, id: &v1::FrameworkId) -> Result<FrameworkSlot, Rejection> {
    if let Some(slot) = leading.framework_ids.get(id) {
        return Ok(*slot);
    }
    let problem = if step.registry.is_completed(id) {
        format!("is {:?}: Framework has been removed", id.value)
    } else {
        format!("is {:?}, which names no framework of this cluster", id.value)
    };
    let accepted = "the id of a framework that is not removed; subscribing without an id gives a new one";
    Err(Rejection::new("framework_id", problem, accepted))
}

fn refuse(leading: &mut Leading, step: &mut Step<'_>, subscription: &Subscription, rejection: Rejection) {
    leading.streams.remove(&subscription.stream);
    step.effects.answer(subscription.request, Answer::Rejected(rejection));
}

/// A new framework is in the registry.
pub(crate) fn founded(leading: &mut Leading, step: &mut Step<'_>, subscription: Subscription, info: v1::FrameworkInfo) {
    let Some(id) = info.id.clone() else { return };
    let framework = Framework::new(id.clone(), info, false, step.now);
    let slot = leading.frameworks.insert(framework);
    leading.framework_ids.insert(id, slot);
    connect(leading, step, slot, subscription);
}

/// The registry knows that the framework is back.
pub(crate) fn resubscribed(
    leading: &mut Leading,
    step: &mut Step<'_>,
    slot: FrameworkSlot,
    subscription: Subscription,
) {
    connect(leading, step, slot, subscription);
    settled(leading, step, slot);
}

/// From here on the framework hears of everything on the new stream.
fn connect(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot, subscription: Subscription) {
    let Subscription {
        request,
        stream,
        info,
        terms,
    } = subscription;
    if let Some(old) = leading.frameworks[slot].stream() {
        gangs::end_framework(leading, step, slot);
        step.effects.send_event(old, events::error("Framework failed over"));
        step.effects.push(Effect::CloseStream { stream: old });
        leading.streams.remove(&old);
    }
    offers::withdraw_framework(leading, step, slot);
    let framework = &mut leading.frameworks[slot];
    if framework.registered != step.now {
        framework.reregistered = Some(step.now);
    }
    framework.phase = Phase::Connected(stream);
    let id = framework.id.clone();
    let before = leading.streams.insert(stream, StreamState::Open(slot));
    leading.timers.cancel(Timer::FrameworkAway(slot));
    let heartbeat_at = step.now.plus(step.config.heartbeat_interval);
    leading.timers.set(Timer::Heartbeat(slot), heartbeat_at);
    step.effects.answer(request, Answer::Accepted);
    let interval = step.config.heartbeat_interval.as_secs_f64();
    let subscribed = events::subscribed(&id, interval, step.config.master_info.as_ref());
    step.effects.send_event(stream, subscribed);
    leading.frameworks[slot].demand = None;
    describe(leading, slot, info, terms);
    revive_all(leading, slot);
    retelling::begin(leading, step, slot);
    feedback::send_pending(leading, step, slot);
    if before == Some(StreamState::Opening { ended: true }) {
        disconnected(leading, step, stream);
    }
}

fn revive_all(leading: &mut Leading, slot: FrameworkSlot) {
    for claim in leading.frameworks[slot].claims.values() {
        leading.allocator.revive(*claim);
    }
}

/// Takes a new description over. Roles that are left keep what they hold, and get nothing more.
fn describe(leading: &mut Leading, slot: FrameworkSlot, info: v1::FrameworkInfo, terms: Terms) {
    let roles = description::roles_of(&info);
    let suppressed = terms.suppressed.clone();
    leading.frameworks[slot].info = info;
    leading.frameworks[slot].terms = terms;
    for claim in leading.frameworks[slot].claims.values() {
        leading.claims[*claim].subscribed = false;
    }
    for role in roles {
        let claim = claim(leading, slot, &role);
        let state = &mut leading.claims[claim];
        state.subscribed = true;
        state.suppressed = suppressed.contains(&role);
        let wishes = description::wishes(&leading.frameworks[slot], &role);
        leading.allocator.put_claim(claim, wishes);
    }
    refresh_claims(leading, slot);
}

/// The claim of a role, which is made if there is none.
pub(crate) fn claim(leading: &mut Leading, slot: FrameworkSlot, role: &str) -> ClaimSlot {
    if let Some(claim) = leading.frameworks[slot].claims.get(role) {
        return *claim;
    }
    let claim = leading.claims.insert(Claim {
        framework: slot,
        role: role.to_owned(),
        subscribed: false,
        suppressed: false,
    });
    leading.frameworks[slot].claims.insert(role.to_owned(), claim);
    let wishes = description::wishes(&leading.frameworks[slot], role);
    leading.allocator.put_claim(claim, wishes);
    claim
}

/// Tells the allocator anew what the framework's roles want.
fn refresh_wishes(leading: &mut Leading, slot: FrameworkSlot) {
    let framework = &leading.frameworks[slot];
    for (role, claim) in &framework.claims {
        leading
            .allocator
            .put_claim(*claim, description::wishes(framework, role));
    }
}

/// Tells the allocator which roles of the framework want offers.
pub(crate) fn refresh_claims(leading: &mut Leading, slot: FrameworkSlot) {
    let framework = &leading.frameworks[slot];
    let connected = framework.stream().is_some() && !framework.removing;
    for claim in framework.claims.values() {
        let state = &leading.claims[*claim];
        let active = connected && state.subscribed && !state.suppressed;
        leading.allocator.set_claim_active(*claim, active);
    }
    hoarding::apply(leading, slot);
    optimistic::enroll(leading, slot);
}

/// A scheduler's stream ended.
pub(crate) fn disconnected(leading: &mut Leading, step: &mut Step<'_>, stream: StreamId) {
    let slot = match leading.streams.get_mut(&stream) {
        Some(StreamState::Opening { ended }) => {
            *ended = true;
            return;
        }
        Some(StreamState::Open(slot)) => *slot,
        None => return,
    };
    leading.streams.remove(&stream);
    leading.frameworks[slot].phase = Phase::Away { recovered: false };
    leading.frameworks[slot].left = step.now;
    leading.frameworks[slot].retelling = Retelling::default();
    leading.timers.cancel(Timer::Heartbeat(slot));
    offers::withdraw_framework(leading, step, slot);
    gangs::end_framework(leading, step, slot);
    refresh_claims(leading, slot);
    if !leading.frameworks[slot].in_flight {
        propose_away(leading, step, slot);
    }
}

/// A framework without a stream: the registry has to know until when it may come back.
fn propose_away(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot) {
    if leading.frameworks[slot].failover_timeout().is_zero() {
        remove(leading, step, slot, Removal::Timeout);
    } else {
        propose_deadline(leading, step, slot, step.now);
    }
}

fn propose_deadline(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot, earliest: Timestamp) {
    let framework = &mut leading.frameworks[slot];
    framework.in_flight = true;
    let deadline = step.now.plus(framework.failover_timeout()).max(earliest);
    let change = wire::FrameworkDisconnected {
        framework_id: framework.id.clone(),
        deadline_ms: deadline.as_millis_i64(),
    };
    propose(
        leading,
        step,
        Body::FrameworkDisconnected(change),
        Proposal::Deadline(slot),
    );
}

/// The registry knows until when the framework may come back.
pub(crate) fn deadline_set(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot) {
    if let Some(deadline) = deadline(leading, step, slot) {
        leading.timers.set(Timer::FrameworkAway(slot), deadline);
    }
    settled(leading, step, slot);
}

fn deadline(leading: &Leading, step: &Step<'_>, slot: FrameworkSlot) -> Option<Timestamp> {
    let known = step.registry.frameworks.get(&leading.frameworks[slot].id)?;
    known.failover_deadline_ms.map(Timestamp::from_millis_i64)
}

/// A framework did not come back in time.
pub(crate) fn away_too_long(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot) {
    let Some(framework) = leading.frameworks.get(slot) else {
        return;
    };
    if framework.stream().is_some() {
        return;
    }
    if framework.in_flight {
        leading.timers.set(Timer::FrameworkAway(slot), step.now.plus(RETRY));
        return;
    }
    let recovered = framework.phase == Phase::Away { recovered: true };
    match deadline(leading, step, slot) {
        None => propose_away(leading, step, slot),
        Some(deadline) => {
            // A framework that lost its master is given time to find the new one.
            let grace = leading.elected.plus(step.config.framework_resubscribe_timeout);
            let at = if recovered { deadline.max(grace) } else { deadline };
            if at <= step.now {
                remove(leading, step, slot, Removal::Timeout);
            } else {
                leading.timers.set(Timer::FrameworkAway(slot), at);
            }
        }
    }
}

/// A framework is to be removed, for one of the reasons.
pub(crate) fn remove(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot, removal: Removal) {
    let framework = &mut leading.frameworks[slot];
    if framework.in_flight {
        framework.queue.push_back(Deferred::Remove(removal));
        return;
    }
    framework.in_flight = true;
    framework.removing = true;
    let change = wire::RemoveFramework {
        framework_id: framework.id.clone(),
        at_ms: step.now.as_millis_i64(),
    };
    refresh_claims(leading, slot);
    offers::rescind_framework(leading, step, slot);
    gangs::end_framework(leading, step, slot);
    propose(
        leading,
        step,
        Body::RemoveFramework(change),
        Proposal::Remove(slot, removal),
    );
}

/// The registry knows that the framework is removed: its tasks are killed and its id never subscribes again.
pub(crate) fn removed(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot, removal: Removal) {
    answer_removal(step, removal);
    offers::withdraw_framework(leading, step, slot);
    gangs::end_framework(leading, step, slot);
    if let Some(stream) = leading.frameworks[slot].stream() {
        if !matches!(removal, Removal::Teardown(_)) {
            step.effects
                .send_event(stream, events::error("Framework has been removed"));
        }
        step.effects.push(Effect::CloseStream { stream });
        leading.streams.remove(&stream);
    }
    let agents: BTreeSet<AgentSlot> = leading.frameworks[slot]
        .tasks
        .values()
        .map(|task| leading.tasks[*task].agent)
        .chain(executors::agents_of(leading, slot))
        .collect();
    for agent in agents {
        shut_down(leading, step, agent, &leading.frameworks[slot].id.clone());
    }
    operations::disown(leading, slot);
    gangs::forget_framework(leading, slot);
    tasks::forget_framework(leading, slot);
    executors::forget_framework(leading, slot);
    leading.timers.cancel(Timer::Heartbeat(slot));
    leading.timers.cancel(Timer::FrameworkAway(slot));
    leading.timers.cancel(Timer::Trust(slot));
    optimistic::forget(leading, slot);
    let Some(framework) = leading.frameworks.remove(slot) else {
        return;
    };
    leading.framework_ids.remove(&framework.id);
    for claim in framework.claims.into_values() {
        revocable::forget_claim(leading, claim);
        leading.allocator.remove_claim(claim);
        leading.claims.remove(claim);
    }
    for deferred in framework.queue {
        match deferred {
            Deferred::Subscribe(subscription) => dispatch(leading, step, subscription),
            Deferred::Update(update) => {
                if let Err(rejection) = find(leading, step, &framework.id) {
                    step.effects.answer(update.request, Answer::Rejected(rejection));
                }
            }
            Deferred::Remove(removal) => answer_removal(step, removal),
        }
    }
    proposals::forget_excess(leading, step);
}

fn answer_removal(step: &mut Step<'_>, removal: Removal) {
    if let Some(request) = removal.request() {
        step.effects.answer(request, Answer::Accepted);
    }
}

/// Tells an agent to kill all tasks of a framework.
pub(crate) fn shut_down(leading: &Leading, step: &mut Step<'_>, agent: AgentSlot, id: &v1::FrameworkId) {
    if let Some(connection) = leading.agents[agent].connection() {
        let shutdown = link::ShutdownFramework {
            framework_id: id.clone(),
        };
        step.effects
            .send_agent(connection, link::master_message::Body::ShutdownFramework(shutdown));
    }
}

/// A scheduler's UPDATE_FRAMEWORK; the call's framework is found already.
pub(crate) fn update(
    leading: &mut Leading,
    step: &mut Step<'_>,
    slot: FrameworkSlot,
    request: RequestId,
    call: scheduler::call::UpdateFramework,
) {
    let info = call.framework_info;
    let id = &leading.frameworks[slot].id;
    let checked = match &info.id {
        Some(inner) if inner == id => description::check(&info, call.suppressed_roles, call.offer_constraints),
        _ => {
            let accepted = format!("{:?}, the call's `framework_id`", id.value);
            Err(Rejection::new("framework_info.id", "is another id, or none", accepted))
        }
    };
    match checked {
        Ok(terms) => {
            let update = Update { request, info, terms };
            dispatch_update(leading, step, slot, Box::new(update));
        }
        Err(rejection) => {
            let rejection = rejection.within("update_framework");
            step.effects.answer(request, Answer::Rejected(rejection));
        }
    }
}

fn dispatch_update(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot, update: Box<Update>) {
    let framework = &mut leading.frameworks[slot];
    if framework.in_flight {
        framework.queue.push_back(Deferred::Update(update));
        return;
    }
    if framework.stream().is_none() {
        let answer = Answer::NotSubscribed("the framework is not subscribed".to_owned());
        return step.effects.answer(update.request, answer);
    }
    if let Err(rejection) = description::check_change(&framework.info, &update.info) {
        let rejection = rejection.within("update_framework.framework_info");
        return step.effects.answer(update.request, Answer::Rejected(rejection));
    }
    if framework.info == update.info {
        return take_update(leading, step, slot, *update);
    }
    framework.in_flight = true;
    let change = put(&update.info, step.now);
    propose(leading, step, change, Proposal::UpdateFramework(slot, update));
}

/// The registry has the new description.
pub(crate) fn updated(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot, update: Update) {
    take_update(leading, step, slot, update);
    settled(leading, step, slot);
}

fn take_update(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot, update: Update) {
    step.effects.answer(update.request, Answer::Accepted);
    describe(leading, slot, update.info, update.terms);
    gangs::leave_roles(leading, step, slot);
    let left: Vec<OfferNumber> = leading.frameworks[slot]
        .offers
        .iter()
        .filter(|offer| !leading.claims[leading.offers[*offer].claim].subscribed)
        .copied()
        .collect();
    for offer in left {
        offers::rescind(leading, step, offer);
    }
    let framework = &leading.frameworks[slot];
    let agents: BTreeSet<AgentSlot> = framework
        .tasks
        .values()
        .map(|task| leading.tasks[*task].agent)
        .collect();
    for agent in agents {
        if let Some(connection) = leading.agents[agent].connection() {
            let update = link::UpdateFramework {
                framework: framework.info.clone(),
            };
            step.effects
                .send_agent(connection, link::master_message::Body::UpdateFramework(update));
        }
    }
}

/// No change of the framework is on its way any more: what waited is next.
pub(crate) fn settled(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot) {
    drain(leading, step, slot);
    let Some(framework) = leading.frameworks.get(slot) else {
        return;
    };
    let away = framework.stream().is_none() && !framework.in_flight;
    if away && deadline(leading, step, slot).is_none() {
        // Its stream broke while something else was on its way.
        propose_away(leading, step, slot);
    }
}

fn drain(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot) {
    leading.frameworks[slot].in_flight = false;
    while let Some(framework) = leading.frameworks.get_mut(slot)
        && !framework.in_flight
    {
        let Some(deferred) = framework.queue.pop_front() else {
            return;
        };
        match deferred {
            Deferred::Subscribe(subscription) => dispatch(leading, step, subscription),
            Deferred::Update(update) => dispatch_update(leading, step, slot, update),
            Deferred::Remove(removal) => remove(leading, step, slot, removal),
        }
    }
}

/// A deadline or a removal was refused by the log.
pub(crate) fn try_again(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot) {
    leading.frameworks[slot].removing = false;
    if leading.frameworks[slot].stream().is_none() {
        leading.timers.set(Timer::FrameworkAway(slot), step.now.plus(RETRY));
    }
    refresh_claims(leading, slot);
    drain(leading, step, slot);
}

/// The next heartbeat is due.
pub(crate) fn heartbeat(leading: &mut Leading, step: &mut Step<'_>, slot: FrameworkSlot) {
    if leading
        .frameworks
        .get(slot)
        .is_some_and(|framework| framework.stream().is_some())
    {
        send(leading, step, slot, events::heartbeat());
        let at = step.now.plus(step.config.heartbeat_interval);
        leading.timers.set(Timer::Heartbeat(slot), at);
    }
}

/// Sends to a framework if it is connected.
pub(crate) fn send(leading: &Leading, step: &mut Step<'_>, slot: FrameworkSlot, event: scheduler::Event) {
    if let Some(stream) = leading.frameworks[slot].stream() {
        step.effects.send_event(stream, event);
    }
}

/// Sends to every connected framework.
pub(crate) fn broadcast(leading: &Leading, step: &mut Step<'_>, event: &scheduler::Event) {
    for (_, framework) in leading.frameworks.iter() {
        if let Some(stream) = framework.stream() {
            step.effects.send_event(stream, event.clone());
        }
    }
}
