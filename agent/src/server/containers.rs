//! The calls about programs inside containers.
#![allow(
    deprecated,
    reason = "the calls that the v1 API has two names for are answered by both"
)]

use proffer_proto::v1;
use proffer_proto::v1::agent::call::Type;
use proffer_proto::v1::agent::{Call, Response, call, response};
use tonic::Status;

use super::Api;
use crate::containerizer::ContainerId;
use crate::core::Phase;
use crate::sessions::{self, NestedName, Outbound, Target};

const SIGKILL: i32 = 9;

impl Api {
    /// Lets only the holder of the agent's token act or look inside containers.
    pub(super) fn authorize(&self, kind: Type, authorization: Option<&[u8]>) -> Result<(), Status> {
        use Type::*;
        match kind {
            LaunchNestedContainer
            | LaunchNestedContainerSession
            | LaunchContainer
            | AttachContainerInput
            | AttachContainerOutput
            | KillNestedContainer
            | KillContainer
            | WaitNestedContainer
            | WaitContainer
            | RemoveNestedContainer
            | RemoveContainer => self.secret.check(authorization),
            _ => Ok(()),
        }
    }

    /// LAUNCH_NESTED_CONTAINER_SESSION.
    pub(super) async fn stream(&self, call: Call) -> Result<Outbound, Status> {
        match call.r#type() {
            Type::LaunchNestedContainerSession => {
                let asked = call.launch_nested_container_session;
                self.launch_session(asked.ok_or_else(|| missing("launch_nested_container_session"))?)
                    .await
            }
            Type::AttachContainerOutput => {
                let asked = call.attach_container_output;
                self.attach_output(asked.ok_or_else(|| missing("attach_container_output"))?)
                    .await
            }
            other => Err(Status::invalid_argument(format!(
                "type: {} has no stream of output; LAUNCH_NESTED_CONTAINER_SESSION and ATTACH_CONTAINER_OUTPUT are accepted",
                other.as_str_name()
            ))),
        }
    }

    async fn launch_session(&self, asked: call::LaunchNestedContainerSession) -> Result<Outbound, Status> {
        let (parent, nested) = sessions::names(&asked.container_id)?;
        let nested = nested.ok_or_else(|| {
            Status::invalid_argument("container_id.parent: must name the container in which the program is to run")
        })?;
        let target = self.target(parent, "container_id.parent").await?;
        self.sessions.launch(&self.launcher, target, nested, asked).await
    }

    async fn attach_output(&self, asked: call::AttachContainerOutput) -> Result<Outbound, Status> {
        let (mut container, nested) = sessions::names(&asked.container_id)?;
        if let Some(in_pod) = self.in_pod(&asked.container_id) {
            container = in_pod;
        } else if nested.is_some() {
            let text =
                "container_id.parent: must be unset; the output of a program in a container goes to who launched it";
            return Err(Status::invalid_argument(text));
        }
        let target = self.target(container, "container_id").await?;
        let spec = target.describe(&self.launcher)?;
        let containerizer = self.launcher.containerizer.clone();
        Ok(sessions::follow(containerizer, target.container, spec.sandbox))
    }

    /// The container of a task in a pod, where the id is that of one.
    pub(super) fn in_pod(&self, id: &v1::ContainerId) -> Option<ContainerId> {
        let container = ContainerId(id.to_string());
        let known = id.parent.is_some() && self.launcher.containerizer.knows(&container);
        known.then_some(container)
    }

    /// The running task, or executor, of a container.
    async fn target(&self, container: ContainerId, field: &str) -> Result<Target, Status> {
        let id = container.clone();
        let found = self.inspect(move |core| {
            let framework = |id: &str| {
                let mut frameworks = core.frameworks();
                frameworks.find(|framework| framework.id.as_ref().is_some_and(|own| own.value == id))
            };
            if let Some((name, stands_for, parts)) = core.executor_of(&id) {
                return Some((true, framework(&name.framework)?.clone(), stands_for, Some(parts)));
            }
            let (name, task) = core.tasks().find(|(_, task)| task.container == id)?;
            let runs = matches!(task.phase, Phase::Running { .. } | Phase::Ending(_));
            Some((runs, framework(&name.framework)?.clone(), task.info.clone(), None))
        });
        let (runs, framework, task, parts) = found
            .await?
            .ok_or_else(|| Status::not_found(format!("{field}: no container is named {container}")))?;
        if !runs {
            return Err(Status::failed_precondition(format!(
                "{field}: {container} does not run"
            )));
        }
        Ok(Target {
            container,
            framework,
            task,
            parts,
        })
    }

    pub(super) async fn wait_container(&self, call: Call, answer: &mut Response) -> Result<(), Status> {
        let asked = call.wait_nested_container.map(|wait| wait.container_id);
        let asked = asked.or(call.wait_container.map(|wait| wait.container_id));
        let session = self.sessions.find(&nested(asked, "wait_container")?)?;
        let exit_status = sessions::exit_status(&session.wait().await);
        answer.wait_nested_container = Some(response::WaitNestedContainer {
            exit_status,
            ..Default::default()
        });
        answer.wait_container = Some(response::WaitContainer {
            exit_status,
            ..Default::default()
        });
        match call.r#type {
            Some(kind) if kind == i32::from(Type::WaitContainer) => answer.wait_nested_container = None,
            _ => answer.wait_container = None,
        }
        Ok(())
    }

    pub(super) fn kill_container(&self, call: Call) -> Result<(), Status> {
        let nested_kill = call.kill_nested_container.map(|kill| (kill.container_id, kill.signal));
        let asked = nested_kill.or(call.kill_container.map(|kill| (kill.container_id, kill.signal)));
        let (id, signal) = asked.ok_or_else(|| missing("kill_container"))?;
        let signal = signal.unwrap_or(SIGKILL);
        if !(1..=64).contains(&signal) {
            return Err(Status::invalid_argument(format!(
                "signal: {signal} is not from 1 to 64"
            )));
        }
        self.sessions.find(&nested(Some(id), "kill_container")?)?.signal(signal)
    }

    pub(super) fn remove_container(&self, call: Call) -> Result<(), Status> {
        let asked = call.remove_nested_container.map(|remove| remove.container_id);
        let asked = asked.or(call.remove_container.map(|remove| remove.container_id));
        self.sessions.remove(&nested(asked, "remove_container")?)
    }
}

fn nested(id: Option<v1::ContainerId>, field: &str) -> Result<NestedName, Status> {
    let (_, nested) = sessions::names(&id.ok_or_else(|| missing(field))?)?;
    nested.ok_or_else(|| {
        Status::invalid_argument(
            "container_id.parent: must be set; the containers of tasks are their frameworks' to end",
        )
    })
}

fn missing(field: &str) -> Status {
    Status::invalid_argument(format!("{field}: must be set"))
}
