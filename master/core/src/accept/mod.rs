//! ACCEPT: offers become tasks; what is left over is declined.
//!
//! A call that is malformed is rejected whole and changes nothing. In a call that is well-formed every task stands for
//! itself: one that is invalid gets TASK_ERROR, and the others are launched.

pub(crate) mod validate;

use proffer_proto::resources::Resources;
use proffer_proto::v1::offer::{Operation, operation};
use proffer_proto::v1::scheduler::call::Accept;
use proffer_proto::v1::task_status::Reason;
use proffer_proto::v1::{self, TaskState};
use proffer_proto::{Rejection, link};

use crate::effect::Answer;
use crate::input::RequestId;
use crate::master::{Leading, Step};
use crate::offers::{self, Found, Offer, OfferNumber};
use crate::slots::{AgentSlot, ClaimSlot, FrameworkSlot};
use crate::{events, frameworks, tasks, updates};

/// What a well-formed ACCEPT is about.
struct Checked {
    refusal: std::time::Duration,
    offers: Vec<OfferNumber>,
    /// The first offer that is not open, if there is one: then nothing is launched.
    stale: Option<String>,
}

/// A scheduler's ACCEPT.
pub(crate) fn accept(
    leading: &mut Leading,
    step: &mut Step<'_>,
    slot: FrameworkSlot,
    request: RequestId,
    call: Accept,
) {
    let checked = match check(leading, slot, &call) {
        Ok(checked) => checked,
        Err(rejection) => {
            let rejection = rejection.within("accept");
            return step.effects.answer(request, Answer::Rejected(rejection));
        }
    };
    step.effects.answer(request, Answer::Accepted);
    let taken: Vec<Offer> = checked
        .offers
        .iter()
        .filter_map(|number| offers::take(leading, *number))
        .collect();
    for offer in &taken {
        offers::give_back(leading, offer);
    }
    if let Some(stale) = checked.stale {
        drop_tasks(leading, step, slot, &call.operations, &stale);
        let until = step.now.plus(checked.refusal);
        for offer in taken {
            leading
                .allocator
                .refuse(offer.claim, offer.agent, offer.resources, until);
        }
        return;
    }
    let Some(first) = taken.first() else { return };
    let mut launcher = Launcher {
        framework: slot,
        agent: first.agent,
        claim: first.claim,
        role: leading.claims[first.claim].role.clone(),
        left: taken.iter().map(|offer| &offer.resources).sum(),
        launched: false,
    };
    for (index, operation) in call.operations.into_iter().enumerate() {
        if let Some(launch) = operation.launch {
            launcher.launch(leading, step, index, launch);
        }
    }
    // Who launched nothing has declined, and is not asked again at once.
    let refusal = if launcher.launched {
        checked.refusal
    } else {
        checked.refusal.max(step.config.decline_pause)
    };
    if !launcher.left.is_empty() && !refusal.is_zero() {
        let until = step.now.plus(refusal);
        leading
            .allocator
            .refuse(launcher.claim, launcher.agent, launcher.left, until);
    }
}

fn check(leading: &Leading, slot: FrameworkSlot, call: &Accept) -> Result<Checked, Rejection> {
    let refusal = offers::refusal(call.filters.as_ref())?;
    if call.offer_ids.is_empty() {
        return Err(Rejection::new("offer_ids", "is empty", "the ids of one or more offers"));
    }
    for (index, operation) in call.operations.iter().enumerate() {
        check_operation(operation).map_err(|rejection| rejection.at(index).within("operations"))?;
    }
    let launches = call.operations.iter().filter_map(|operation| operation.launch.as_ref());
    let tasks = launches.map(|launch| launch.task_infos.len()).sum::<usize>();
    let mut open = Vec::new();
    let mut stale = None;
    for (index, id) in call.offer_ids.iter().enumerate() {
        match offers::find(leading, slot, id) {
            Found::Open(number) if open.contains(&number) => {
                let problem = format!("is {:?} again", id.value);
                return Err(Rejection::new(
                    format!("offer_ids[{index}]"),
                    problem,
                    "each offer once",
                ));
            }
            Found::Open(number) => open.push(number),
            Found::Unknown if tasks == 0 => return Err(offers::unknown(index, id)),
            Found::Stale | Found::Unknown => {
                stale.get_or_insert_with(|| {
                    format!("`accept.offer_ids[{index}]` is {:?}, which is no open offer", id.value)
                });
            }
        }
    }
    for (index, number) in open.iter().enumerate() {
        let (first, offer) = (&leading.offers[&open[0]], &leading.offers[number]);
        if first.agent != offer.agent || first.claim != offer.claim {
            let field = format!("offer_ids[{index}]");
            let problem = "is an offer of another agent, or to another role, than the first";
            return Err(Rejection::new(field, problem, "offers of one agent to one role"));
        }
    }
    Ok(Checked {
        refusal,
        offers: open,
        stale,
    })
}

fn check_operation(operation: &Operation) -> Result<(), Rejection> {
    use operation::Type;
    let Some(kind) = operation.r#type else {
        return Err(Rejection::missing("type"));
    };
    match Type::try_from(kind) {
        Ok(Type::Launch) if operation.launch.is_none() => Err(Rejection::missing("launch")),
        Ok(Type::Launch) if operation.id.is_some() => {
            let problem = "is set for LAUNCH";
            Err(Rejection::new(
                "id",
                problem,
                "no id: a launch is answered by task updates",
            ))
        }
        Ok(Type::Launch) => Ok(()),
        Ok(Type::Unknown) | Err(_) => {
            let problem = format!("is {kind}, which is no operation");
            Err(Rejection::new("type", problem, "LAUNCH"))
        }
        Ok(other) => {
            let problem = format!("is {}, which is not there yet", other.as_str_name());
            Err(Rejection::new("type", problem, "LAUNCH"))
        }
    }
}

/// The offers are not open any more: nothing was launched.
fn drop_tasks(leading: &Leading, step: &mut Step<'_>, slot: FrameworkSlot, operations: &[Operation], message: &str) {
    let state = tasks::told(TaskState::TaskDropped, leading.frameworks[slot].partition_aware());
    let launches = operations.iter().filter_map(|operation| operation.launch.as_ref());
    for info in launches.flat_map(|launch| &launch.task_infos) {
        let mut status = updates::by_master(step.now, &info.task_id, state, Some(Reason::InvalidOffers), message);
        status.agent_id = Some(info.agent_id.clone());
        frameworks::send(leading, step, slot, events::update(status));
    }
}

/// Launches tasks on what is left of the offers.
struct Launcher {
    framework: FrameworkSlot,
    agent: AgentSlot,
    claim: ClaimSlot,
    role: String,
    /// Without allocation role.
    left: Resources,
    launched: bool,
}

impl Launcher {
    fn launch(&mut self, leading: &mut Leading, step: &mut Step<'_>, operation: usize, launch: operation::Launch) {
        let mut launched = Vec::new();
        for (index, info) in launch.task_infos.into_iter().enumerate() {
            match self.check(leading, &info) {
                Ok(resources) => launched.push(self.launch_task(leading, info, resources)),
                Err(rejection) => {
                    let field = format!("accept.operations[{operation}].launch.task_infos[{index}]");
                    self.turn_away(leading, step, &info, &rejection.within(field));
                }
            }
        }
        if launched.is_empty() {
            return;
        }
        self.launched = true;
        if let Some(connection) = leading.agents[self.agent].connection() {
            let launch = link::Launch {
                framework: leading.frameworks[self.framework].info.clone(),
                tasks: launched,
                ..link::Launch::default()
            };
            step.effects
                .send_agent(connection, link::master_message::Body::Launch(launch));
        }
    }

    /// The resources of a task that may be launched.
    fn check(&self, leading: &Leading, info: &v1::TaskInfo) -> Result<Resources, Rejection> {
        let framework = &leading.frameworks[self.framework];
        let known = framework.tasks.contains_key(&info.task_id);
        if known || framework.completed.iter().any(|task| task.task_id == info.task_id) {
            let problem = format!("is {:?}, which the framework has used before", info.task_id.value);
            return Err(Rejection::new(
                "task_id",
                problem,
                "an id that is new within the framework",
            ));
        }
        let target = validate::Target {
            agent: &leading.agents[self.agent].id,
            role: &self.role,
            left: &self.left,
        };
        validate::task(info, &target)
    }

    fn launch_task(&mut self, leading: &mut Leading, mut info: v1::TaskInfo, resources: Resources) -> v1::TaskInfo {
        self.left = self.left.checked_sub(&resources).unwrap_or_default();
        info.resources = resources.allocate(&self.role).to_wire();
        let framework = &leading.frameworks[self.framework];
        let command_user = info.command.as_ref().and_then(|command| command.user.clone());
        let task = v1::Task {
            name: info.name.clone(),
            task_id: info.task_id.clone(),
            framework_id: framework.id.clone(),
            agent_id: info.agent_id.clone(),
            state: TaskState::TaskStaging as i32,
            resources: info.resources.clone(),
            labels: info.labels.clone(),
            discovery: info.discovery.clone(),
            container: info.container.clone(),
            user: command_user.or_else(|| Some(framework.info.user.clone())),
            health_check: info.health_check.clone(),
            kill_policy: info.kill_policy,
            limits: info.limits.clone(),
            ..v1::Task::default()
        };
        tasks::launch(leading, self.framework, self.agent, self.claim, task);
        info
    }

    fn turn_away(&self, leading: &Leading, step: &mut Step<'_>, info: &v1::TaskInfo, rejection: &Rejection) {
        let state = TaskState::TaskError;
        let message = rejection.to_string();
        let mut status = updates::by_master(step.now, &info.task_id, state, Some(Reason::TaskInvalid), &message);
        status.agent_id = Some(info.agent_id.clone());
        frameworks::send(leading, step, self.framework, events::update(status));
    }
}
