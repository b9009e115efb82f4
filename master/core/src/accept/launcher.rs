//! Launches tasks and task groups on what is left of the offers.

use std::collections::BTreeMap;

use proffer_proto::resources::Resources;
use proffer_proto::v1::offer::operation;
use proffer_proto::v1::task_status::Reason;
use proffer_proto::v1::{self, TaskState};
use proffer_proto::{Rejection, link, secrets};

use super::{executor, validate};
use crate::gangs::{Loan, check_loan};
use crate::master::{Leading, Step};
use crate::slots::{AgentSlot, ClaimSlot, FrameworkSlot};
use crate::tasks::{self, Lent};
use crate::time::Timestamp;
use crate::{events, executors, frameworks, updates};

/// The offers of an ACCEPT, and who it is that accepts them.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub(crate) framework: FrameworkSlot,
    pub(crate) agent: AgentSlot,
    pub(crate) claim: ClaimSlot,
    pub(crate) role: String,
    /// Without allocation role.
    pub(crate) left: Resources,
    /// Whether anything was, or was made of the resources.
    pub(crate) launched: bool,
    /// The offers are of what is lent, and when they were accepted.
    pub(super) loan: Option<(Loan, Timestamp)>,
}

/// A task that may be launched, and what it takes from the offers.
struct Fit {
    resources: Resources,
    /// The executor that runs it, complete.
    executor: Option<Box<v1::ExecutorInfo>>,
    /// What that takes, where it is not there yet.
    executor_resources: Option<Resources>,
}

impl Launcher {
    pub(super) fn new(
        leading: &Leading,
        framework: FrameworkSlot,
        agent: AgentSlot,
        claim: ClaimSlot,
        left: Resources,
    ) -> Self {
        Launcher {
            framework,
            agent,
            claim,
            role: leading.claims[claim].role.clone(),
            left,
            launched: false,
            loan: None,
        }
    }

    /// Launches members of a gang that were checked, on resources of the agent that are free.
    pub(crate) fn launch_members(
        leading: &mut Leading,
        step: &mut Step<'_>,
        (framework, agent, claim): (FrameworkSlot, AgentSlot, ClaimSlot),
        infos: Vec<v1::TaskInfo>,
    ) {
        let mut launcher = Launcher::new(leading, framework, agent, claim, Resources::new());
        let mut batch = link::Launch::default();
        for info in infos {
            let resources = Resources::from_wire(&info.resources).unwrap_or_default();
            batch.tasks.push(launcher.launch_task(leading, info, resources, None));
        }
        launcher.send(leading, step, batch);
    }

    /// Launches each task that may be, one message to the agent for all of one executor that follow each other.
    pub(super) fn launch(
        &mut self,
        leading: &mut Leading,
        step: &mut Step<'_>,
        operation: usize,
        launch: operation::Launch,
    ) {
        let mut batch = link::Launch::default();
        for (index, info) in launch.task_infos.into_iter().enumerate() {
            let fit = match self.check(leading, &info) {
                Ok(fit) => fit,
                Err(rejection) => {
                    let field = format!("accept.operations[{operation}].launch.task_infos[{index}]");
                    let message = rejection.within(field).to_string();
                    self.turn_away(leading, step, &info, Reason::TaskInvalid, &message);
                    continue;
                }
            };
            let of = |executor: &Option<Box<v1::ExecutorInfo>>| executor.as_ref().map(|own| own.executor_id.clone());
            if of(&batch.executor) != of(&fit.executor) {
                self.send(leading, step, std::mem::take(&mut batch));
            }
            if let Some(info) = &fit.executor {
                batch.start_executor = Some(batch.start_executor() || fit.executor_resources.is_some());
                self.take_executor(leading, info, fit.executor_resources);
            }
            batch.executor = fit.executor;
            let executor_id = batch.executor.as_ref().map(|own| own.executor_id.clone());
            batch
                .tasks
                .push(self.launch_task(leading, info, fit.resources, executor_id));
        }
        self.send(leading, step, batch);
    }

    /// Launches all tasks of a group on one executor, or none: then each is told why.
    pub(super) fn launch_group(
        &mut self,
        leading: &mut Leading,
        step: &mut Step<'_>,
        operation: usize,
        group: operation::LaunchGroup,
    ) {
        let infos = group.task_group.tasks;
        let (info, own, each) = match self.check_group(leading, group.executor, &infos) {
            Ok(checked) => checked,
            Err(rejection) => {
                let field = format!("accept.operations[{operation}].launch_group");
                let message = format!("the task group is refused: {}", rejection.within(field));
                for info in &infos {
                    self.turn_away(leading, step, info, Reason::TaskGroupInvalid, &message);
                }
                return;
            }
        };
        let start_executor = Some(own.is_some());
        self.take_executor(leading, &info, own);
        let tasks = infos.into_iter().zip(each);
        let tasks = tasks
            .map(|(task, resources)| self.launch_task(leading, task, resources, Some(info.executor_id.clone())))
            .collect();
        let launch = link::Launch {
            executor: Some(Box::new(info)),
            tasks,
            group: Some(true),
            start_executor,
            ..link::Launch::default()
        };
        self.send(leading, step, launch);
    }

    fn send(&mut self, leading: &Leading, step: &mut Step<'_>, launch: link::Launch) {
        if launch.tasks.is_empty() {
            return;
        }
        self.launched = true;
        if let Some(connection) = leading.agents[self.agent].connection() {
            let launch = link::Launch {
                framework: leading.frameworks[self.framework].info.clone(),
                ..launch
            };
            step.effects
                .send_agent(connection, link::master_message::Body::Launch(launch));
        }
    }

    fn target<'a>(&'a self, leading: &'a Leading) -> validate::Target<'a> {
        validate::Target {
            agent: &leading.agents[self.agent].id,
            role: &self.role,
            left: &self.left,
        }
    }

    /// What a task of a LAUNCH takes.
    fn check(&self, leading: &Leading, info: &v1::TaskInfo) -> Result<Fit, Rejection> {
        check_new(leading, self.framework, info)?;
        if let Some((loan, now)) = self.loan {
            check_loan(loan, now, info)?;
        }
        validate::what_runs(info)?;
        let resources = validate::task(info, &self.target(leading))?;
        let Some(own) = &info.executor else {
            return Ok(Fit {
                resources,
                executor: None,
                executor_resources: None,
            });
        };
        let within = |rejection: Rejection| rejection.within("executor");
        executor::of_task(own).map_err(within)?;
        let (executor, new) = self.check_executor(leading, own).map_err(within)?;
        if let Some(new) = &new {
            let mut both = resources.clone();
            both += new;
            if !self.left.contains(&both) {
                let problem = format!("are {new}, which is more than what the task leaves of the offers");
                return Err(Rejection::new(
                    "executor.resources",
                    problem,
                    format!("with the task at most {}", self.left),
                ));
            }
        }
        Ok(Fit {
            resources,
            executor: Some(Box::new(executor)),
            executor_resources: new,
        })
    }

    /// The executor of a group as it is launched, what it takes where it is new, and what each task takes.
    fn check_group(
        &self,
        leading: &Leading,
        own: v1::ExecutorInfo,
        infos: &[v1::TaskInfo],
    ) -> Result<(v1::ExecutorInfo, Option<Resources>, Vec<Resources>), Rejection> {
        let within = |rejection: Rejection| rejection.within("executor");
        executor::of_group(&own).map_err(within)?;
        let (checked, new) = self.check_executor(leading, &own).map_err(within)?;
        let mut ids = BTreeMap::new();
        let (mut each, mut sum) = (Vec::new(), new.clone().unwrap_or_default());
        for (index, info) in infos.iter().enumerate() {
            let at = |rejection: Rejection| rejection.at(index).within("task_group.tasks");
            check_new(leading, self.framework, info).map_err(at)?;
            if let Some(first) = ids.insert(&info.task_id, index) {
                let problem = format!("is {:?}, like that of `tasks[{first}]`", info.task_id.value);
                let rejection = Rejection::new("task_id", problem, "an id that is new within the group");
                return Err(at(rejection));
            }
            executor::grouped_task(info, &own).map_err(at)?;
            let resources = validate::task(info, &self.target(leading)).map_err(at)?;
            sum += &resources;
            each.push(resources);
        }
        if !self.left.contains(&sum) {
            let problem = format!("asks for {sum} with its executor, which is more than what is left of the offers");
            return Err(Rejection::new("task_group", problem, format!("at most {}", self.left)));
        }
        Ok((checked, new, each))
    }

    /// The executor as it is launched, and what it takes from the offers where it is not there yet.
    fn check_executor(
        &self,
        leading: &Leading,
        own: &v1::ExecutorInfo,
    ) -> Result<(v1::ExecutorInfo, Option<Resources>), Rejection> {
        let id = &leading.frameworks[self.framework].id;
        let resources = executor::check(own, id, &self.target(leading))?;
        let mut info = own.clone();
        info.framework_id = Some(id.clone());
        info.resources = resources.clone().allocate(&self.role).to_wire();
        let key = (id.clone(), info.executor_id.clone());
        match leading.agents[self.agent].executors.get(&key) {
            None => Ok((info, Some(resources))),
            Some(known) if known.info == info => Ok((info, None)),
            Some(_) => {
                let problem = format!(
                    "is {:?}, which runs on the agent, described differently",
                    info.executor_id.value
                );
                let accepted = "the description that the executor was started with, or another id";
                Err(Rejection::new("executor_id", problem, accepted))
            }
        }
    }

    fn take_executor(&mut self, leading: &mut Leading, info: &v1::ExecutorInfo, new: Option<Resources>) {
        if let Some(resources) = new {
            self.left = self.left.checked_sub(&resources).unwrap_or_default();
            let framework = leading.frameworks[self.framework].id.clone();
            executors::launch(leading, self.agent, self.claim, framework, info.clone());
        }
    }

    fn launch_task(
        &mut self,
        leading: &mut Leading,
        mut info: v1::TaskInfo,
        resources: Resources,
        executor_id: Option<v1::ExecutorId>,
    ) -> v1::TaskInfo {
        self.left = self.left.checked_sub(&resources).unwrap_or_default();
        info.resources = resources.allocate(&self.role).to_wire();
        let framework = &leading.frameworks[self.framework];
        let command_user = info.command.as_ref().and_then(|command| command.user.clone());
        let task = v1::Task {
            name: info.name.clone(),
            task_id: info.task_id.clone(),
            framework_id: framework.id.clone(),
            executor_id,
            agent_id: info.agent_id.clone(),
            state: TaskState::TaskStaging as i32,
            resources: info.resources.clone(),
            labels: info.labels.clone(),
            discovery: info.discovery.clone(),
            container: info.container.as_deref().cloned().map(secrets::hidden).map(Box::new),
            user: command_user.or_else(|| Some(framework.info.user.clone())),
            health_check: info.health_check.clone(),
            kill_policy: info.kill_policy,
            limits: info.limits.clone(),
            ..v1::Task::default()
        };
        let lent = self.loan.map(|_| Lent::Out);
        tasks::launch(leading, self.framework, self.agent, self.claim, task, lent);
        info
    }

    fn turn_away(&self, leading: &Leading, step: &mut Step<'_>, info: &v1::TaskInfo, reason: Reason, message: &str) {
        let state = TaskState::TaskError;
        let mut status = updates::by_master(step.now, &info.task_id, state, Some(reason), message);
        status.agent_id = Some(info.agent_id.clone());
        frameworks::send(leading, step, self.framework, events::update(status));
    }
}

/// What a member of a gang needs, which names no agent or its own.
pub(crate) fn check_member(
    leading: &Leading,
    framework: FrameworkSlot,
    role: &str,
    info: &v1::TaskInfo,
) -> Result<Resources, Rejection> {
    check_new(leading, framework, info)?;
    if info.executor.is_some() {
        return Err(Rejection::new(
            "executor",
            "is set for a member of a gang",
            "a task with a `command`",
        ));
    }
    validate::what_runs(info)?;
    let own = validate::allocated(&info.resources, role)?;
    let target = validate::Target {
        agent: &info.agent_id,
        role,
        left: &own,
    };
    validate::task(info, &target)
}

fn check_new(leading: &Leading, framework: FrameworkSlot, info: &v1::TaskInfo) -> Result<(), Rejection> {
    let state = &leading.frameworks[framework];
    let known = state.tasks.contains_key(&info.task_id)
        || state.completed.contains(&info.task_id)
        || leading.gangs.with_member(framework, &info.task_id).is_some();
    if known {
        let problem = format!("is {:?}, which the framework has used before", info.task_id.value);
        return Err(Rejection::new(
            "task_id",
            problem,
            "an id that is new within the framework",
        ));
    }
    Ok(())
}
