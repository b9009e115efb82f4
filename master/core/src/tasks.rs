//! Tasks: what the master knows of each, and when its resources are free again.
//!
//! Agents are the truth about tasks. A task is known from its launch, or from an agent that lists it, until its terminal
//! update is acknowledged; then it is remembered for people, up to a bound. Its resources are free with the first
//! terminal state that is heard of, also where its framework is removed before.

use std::collections::BTreeSet;

use proffer_proto::resources::Resources;
use proffer_proto::v1::task_status::Reason;
use proffer_proto::v1::{self, TaskState, TaskStatus};
use proffer_proto::{link, v1::KillPolicy};

use crate::gangs::GangNumber;
use crate::master::{Leading, Step};
use crate::record::Record;
use crate::slots::{AgentSlot, ClaimSlot, FrameworkSlot, TaskSlot};
use crate::time::Timestamp;
use crate::{books, events, frameworks, gangs, maintenance, remnants, updates};

/// A task that is not forgotten.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) framework: FrameworkSlot,
    pub(crate) agent: AgentSlot,
    pub(crate) claim: ClaimSlot,
    /// Without allocation role.
    pub(crate) resources: Resources,
    /// The resources are counted as in use.
    pub(crate) held: bool,
    /// Its state is UNREACHABLE while its agent is, whatever the framework is told.
    pub(crate) record: Record,
    /// The agent has told of it.
    pub(crate) reported: bool,
    /// The update that waits for its acknowledgement.
    pub(crate) pending: Option<Box<TaskStatus>>,
    /// The uuid that was acknowledged last.
    pub(crate) acknowledged: Option<[u8; 16]>,
    /// It was to be killed while its agent was away.
    pub(crate) kill: Option<Box<Option<KillPolicy>>>,
    /// What it uses is lent by a gang.
    pub(crate) lent: Option<Lent>,
    /// It was killed because what it uses was lent and is wanted back.
    pub(crate) preempted: bool,
    /// It is to run together with the others of this gang.
    pub(crate) gang: Option<GangNumber>,
}

/// How it stands with a task on what a gang lends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lent {
    /// The gang has what it needs but for this: the task is being killed.
    CalledBack,
    Out,
}

/// How tasks end that no agent will tell of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    /// For frameworks that are PARTITION_AWARE; others hear TASK_LOST.
    pub(crate) state: TaskState,
    pub(crate) reason: Reason,
    pub(crate) message: &'static str,
}

/// Whether no other state can follow.
pub(crate) fn is_terminal(state: TaskState) -> bool {
    state.is_terminal()
}

/// What a framework hears instead of a state that only PARTITION_AWARE ones know.
pub(crate) fn told(state: TaskState, partition_aware: bool) -> TaskState {
    match state {
        TaskState::TaskUnreachable
        | TaskState::TaskDropped
        | TaskState::TaskGone
        | TaskState::TaskGoneByOperator
        | TaskState::TaskUnknown
            if !partition_aware =>
        {
            TaskState::TaskLost
        }
        state => state,
    }
}

impl Task {
    pub(crate) fn state(&self) -> TaskState {
        self.record.state()
    }

    /// Takes a newer state over. Nothing follows a terminal state.
    pub(crate) fn advance(&mut self, state: TaskState) {
        if !is_terminal(self.state()) {
            self.record.set_state(state);
        }
    }

    /// Remembers a status for people.
    pub(crate) fn record(&mut self, status: &TaskStatus) {
        self.record.add(status);
    }

    /// Whether this uuid was acknowledged last.
    pub(crate) fn is_acknowledged(&self, uuid: &[u8]) -> bool {
        self.acknowledged.as_ref().is_some_and(|own| own == uuid)
    }
}

/// A task is launched on an agent. Its resources are no longer the offer's.
pub(crate) fn launch(
    leading: &mut Leading,
    slot: FrameworkSlot,
    agent: AgentSlot,
    claim: ClaimSlot,
    wire: v1::Task,
    lent: Option<Lent>,
) {
    let resources = Resources::from_wire(&wire.resources).unwrap_or_default().unallocate();
    frameworks::met(leading, claim, agent, &resources);
    let task = insert(leading, slot, agent, claim, resources, wire, false);
    leading.tasks[task].lent = lent;
    hold(leading, agent, &[task]);
}

fn insert(
    leading: &mut Leading,
    framework: FrameworkSlot,
    agent: AgentSlot,
    claim: ClaimSlot,
    resources: Resources,
    wire: v1::Task,
    reported: bool,
) -> TaskSlot {
    let id = wire.task_id.clone();
    let task = leading.tasks.insert(Task {
        framework,
        agent,
        claim,
        resources,
        held: false,
        record: Record::new(wire),
        reported,
        pending: None,
        acknowledged: None,
        kill: None,
        lent: None,
        preempted: false,
        gang: None,
    });
    leading.frameworks[framework].tasks.insert(id, task);
    leading.agents[agent].tasks.insert(task);
    task
}

/// Counts the resources of an agent's tasks that have not ended as in use.
fn hold(leading: &mut Leading, agent: AgentSlot, tasks: &[TaskSlot]) {
    for slot in tasks {
        let task = &mut leading.tasks[*slot];
        if task.held || is_terminal(task.state()) {
            continue;
        }
        task.held = true;
        leading.allocator.charge(task.claim, &task.resources);
        leading.agents[agent].hold(&task.resources);
    }
    maintenance::touch(leading, agent);
    books::refresh(leading, agent);
}

/// Counts the resources of a task as free.
pub(crate) fn release(leading: &mut Leading, slot: TaskSlot) {
    let task = &mut leading.tasks[slot];
    if !task.held {
        return;
    }
    task.held = false;
    let (agent, resources) = (task.agent, task.resources.clone());
    leading.allocator.credit(task.claim, &resources);
    books::unhold(leading, agent, &resources);
    maintenance::touch(leading, agent);
}

/// Forgets a task; it is remembered for people among the ended ones.
pub(crate) fn complete(leading: &mut Leading, step: &Step<'_>, slot: TaskSlot) {
    release(leading, slot);
    let Some(task) = leading.tasks.remove(slot) else { return };
    leading.agents[task.agent].tasks.remove(&slot);
    let framework = &mut leading.frameworks[task.framework];
    let id = task.record.id();
    framework.tasks.remove(&id);
    framework
        .completed
        .push(id, task.record, step.config.completed_tasks_max);
}

/// Forgets all tasks of a framework that is removed. What they hold stays in use until they have ended.
pub(crate) fn forget_framework(leading: &mut Leading, framework: FrameworkSlot) {
    for (_, slot) in std::mem::take(&mut leading.frameworks[framework].tasks) {
        if let Some(task) = leading.tasks.remove(slot) {
            leading.agents[task.agent].tasks.remove(&slot);
            remnants::leave(leading, task);
        }
    }
}

/// Ends a task that no agent will tell of, and says so.
fn end(leading: &mut Leading, step: &mut Step<'_>, slot: TaskSlot, end: End) {
    let task = &mut leading.tasks[slot];
    let (framework, agent) = (task.framework, task.agent);
    let ended = is_terminal(task.state());
    let state = told(end.state, leading.frameworks[framework].partition_aware());
    task.advance(state);
    if !ended {
        let mut status = updates::by_master(step.now, &task.record.id(), state, Some(end.reason), end.message);
        status.agent_id = Some(leading.agents[agent].id.clone());
        task.record(&status);
        frameworks::send(leading, step, framework, events::update(status));
        gangs::advanced(leading, step, slot);
    }
    complete(leading, step, slot);
}

/// Ends all tasks of an agent that is removed.
pub(crate) fn end_all(leading: &mut Leading, step: &mut Step<'_>, agent: AgentSlot, how: End) {
    for slot in leading.agents[agent].tasks.clone() {
        end(leading, step, slot, how);
    }
}

/// The registry knows that an agent is unreachable: its tasks are, and hold nothing.
pub(crate) fn agent_unreachable(leading: &mut Leading, step: &mut Step<'_>, agent: AgentSlot, since: Timestamp) {
    for slot in leading.agents[agent].tasks.clone() {
        release(leading, slot);
        let task = &mut leading.tasks[slot];
        if is_terminal(task.state()) {
            continue;
        }
        task.advance(TaskState::TaskUnreachable);
        let framework = task.framework;
        let mut status = unreachable_status(leading, step.now, slot, since);
        status.reason = Some(Reason::AgentRemoved as i32);
        leading.tasks[slot].record(&status);
        frameworks::send(leading, step, framework, events::update(status));
        gangs::advanced(leading, step, slot);
    }
}

/// What a framework hears of a task on an unreachable agent.
pub(crate) fn unreachable_status(leading: &Leading, now: Timestamp, slot: TaskSlot, since: Timestamp) -> TaskStatus {
    let task = &leading.tasks[slot];
    let aware = leading.frameworks[task.framework].partition_aware();
    let state = told(TaskState::TaskUnreachable, aware);
    TaskStatus {
        agent_id: Some(leading.agents[task.agent].id.clone()),
        unreachable_time: Some(v1::TimeInfo {
            nanoseconds: since.as_nanos_i64(),
        }),
        ..updates::by_master(now, &task.record.id(), state, None, "the agent is unreachable")
    }
}

/// An agent listed its tasks: the whole truth about them. Frameworks may take tasks for unreachable that this master does
/// not know, where the agent was unreachable before an election. The frameworks of `shut_down` are not known, but have
/// executors there.
pub(crate) fn relist(
    leading: &mut Leading,
    step: &mut Step<'_>,
    agent: AgentSlot,
    listed: Vec<v1::Task>,
    was_unreachable: bool,
    mut shut_down: BTreeSet<v1::FrameworkId>,
) {
    remnants::forget(leading, agent);
    let mut unlisted = leading.agents[agent].tasks.clone();
    let mut held = Vec::new();
    for wire in listed {
        let Some(&framework) = leading.framework_ids.get(&wire.framework_id) else {
            shut_down.insert(wire.framework_id.clone());
            remnants::list(leading, agent, wire);
            continue;
        };
        // Launched when the agent had another id, which was given up with all that was on it.
        let former = !wire.agent_id.value.is_empty() && wire.agent_id != leading.agents[agent].id;
        match leading.frameworks[framework].tasks.get(&wire.task_id).copied() {
            Some(slot) if leading.tasks[slot].agent == agent => {
                unlisted.remove(&slot);
                resume(leading, step, slot, wire);
                held.push(slot);
            }
            None if !former => {
                let slot = adopt(leading, framework, agent, wire);
                if was_unreachable && !is_terminal(leading.tasks[slot].state()) {
                    tell_back(leading, step, slot);
                }
                held.push(slot);
            }
            _ => {
                kill_remnant(leading, step, agent, &wire);
                remnants::list(leading, agent, wire);
            }
        }
    }
    hold(leading, agent, &held);
    for id in shut_down {
        frameworks::shut_down(leading, step, agent, &id);
    }
    for slot in unlisted {
        let state = if leading.tasks[slot].reported {
            TaskState::TaskGone
        } else {
            TaskState::TaskDropped
        };
        let how = End {
            state,
            reason: Reason::Reconciliation,
            message: "the agent does not know the task",
        };
        end(leading, step, slot, how);
    }
    send_kills(leading, step, agent);
}

/// The agent listed a task that is known.
fn resume(leading: &mut Leading, step: &mut Step<'_>, slot: TaskSlot, wire: v1::Task) {
    let task = &mut leading.tasks[slot];
    let was_unreachable = task.state() == TaskState::TaskUnreachable;
    let state = wire.state();
    task.advance(state);
    task.reported = true;
    task.record.tell(wire.status_update_state, wire.status_update_uuid);
    if is_terminal(task.state()) {
        release(leading, slot);
        return;
    }
    if was_unreachable {
        tell_back(leading, step, slot);
    }
}

/// Tells a framework that a task's agent is back.
fn tell_back(leading: &mut Leading, step: &mut Step<'_>, slot: TaskSlot) {
    let task = &mut leading.tasks[slot];
    let reason = Some(Reason::AgentReregistered);
    let mut status = updates::by_master(step.now, &task.record.id(), task.state(), reason, "the agent is back");
    status.agent_id = Some(leading.agents[task.agent].id.clone());
    task.record(&status);
    let framework = task.framework;
    frameworks::send(leading, step, framework, events::update(status));
}

/// The role that resources are allocated to.
pub(crate) fn allocation_role(resources: &Resources) -> Option<String> {
    let mut roles = resources.iter().filter_map(|entry| entry.key().allocation_role());
    roles.next().map(str::to_owned)
}

/// The role that counts for what an agent lists: that of its resources, or else one of the framework's.
pub(crate) fn role_of(leading: &Leading, framework: FrameworkSlot, allocated: Option<String>) -> String {
    allocated
        .or_else(|| frameworks::roles_of(&leading.frameworks[framework].info).pop_first())
        .unwrap_or_else(|| proffer_proto::roles::ANY.to_owned())
}

/// The agent listed a task that this master did not know: it is a new leader.
fn adopt(leading: &mut Leading, framework: FrameworkSlot, agent: AgentSlot, mut wire: v1::Task) -> TaskSlot {
    let resources = Resources::from_wire(&wire.resources).unwrap_or_default();
    let role = role_of(leading, framework, allocation_role(&resources));
    let claim = frameworks::claim(leading, framework, &role);
    wire.agent_id = leading.agents[agent].id.clone();
    insert(leading, framework, agent, claim, resources.unallocate(), wire, true)
}

/// The same task id is known on another agent, or ended with the agent's former id: what is listed here has to go.
fn kill_remnant(leading: &Leading, step: &mut Step<'_>, agent: AgentSlot, wire: &v1::Task) {
    if let Some(connection) = leading.agents[agent].connection() {
        let kill = link::Kill {
            framework_id: wire.framework_id.clone(),
            task_id: wire.task_id.clone(),
            kill_policy: None,
            drain: None,
        };
        step.effects
            .send_agent(connection, link::master_message::Body::Kill(kill));
    }
}

/// Kills what was to be killed while the agent was away.
fn send_kills(leading: &mut Leading, step: &mut Step<'_>, agent: AgentSlot) {
    let Some(connection) = leading.agents[agent].connection() else {
        return;
    };
    for slot in &leading.agents[agent].tasks {
        let task = &mut leading.tasks[*slot];
        if let Some(kill_policy) = task.kill.take() {
            let kill = link::Kill {
                framework_id: leading.frameworks[task.framework].id.clone(),
                task_id: task.record.id(),
                kill_policy: *kill_policy,
                drain: None,
            };
            step.effects
                .send_agent(connection, link::master_message::Body::Kill(kill));
        }
    }
}

/// Sends the update that waits for its acknowledgement again: the scheduler is new, or may have missed it.
pub(crate) fn send_pending(leading: &Leading, step: &mut Step<'_>, slot: TaskSlot) {
    let task = &leading.tasks[slot];
    if let Some(status) = &task.pending {
        frameworks::send(leading, step, task.framework, events::update(TaskStatus::clone(status)));
    }
}
