//! Programs that operators run inside containers, and what operators see and say there.
//!
//! Life of a session: LAUNCH_NESTED_CONTAINER_SESSION starts it and streams what it writes -> ATTACH_CONTAINER_INPUT feeds it ->
//! WAIT_CONTAINER tells how it ended -> it is forgotten by REMOVE_CONTAINER, or when many others have ended since. It ends with
//! the stream of its output: nobody is left who could see it. What is not read is not held: the program waits, as at a full pipe.

mod channel;
mod follow;
mod input;
mod output;
pub(crate) mod secret;
mod task;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proffer_proto::v1;
use proffer_proto::v1::agent::{ProcessIo, call};
use tokio::sync::mpsc;
use tonic::Status;

use crate::containerizer::{ContainerId, ContainerSpec, EnteredProgram, Exit, Streams};
use crate::core::Part;
use crate::launcher::Launcher;
use channel::Channel;

pub(crate) use follow::follow;
pub(crate) use input::Input;
pub(crate) use task::TaskInputs;
pub(crate) use wire::{NestedName, exit_status, names};

/// How many sessions may run at once.
const SESSIONS_MAX: usize = 256;
/// How many that have ended are remembered.
const ENDED_MAX: usize = 256;
/// Messages that wait for the reader of a stream.
pub(crate) const OUTBOUND_MAX: usize = 4;

/// A stream of messages to a caller; dropping it is noticed.
pub(crate) type Outbound = mpsc::Receiver<ProcessIo>;

/// The container that is entered.
pub(crate) struct Target {
    pub(crate) container: ContainerId,
    pub(crate) framework: v1::FrameworkInfo,
    /// Its task, or what stands for an executor.
    pub(crate) task: v1::TaskInfo,
    /// What an executor's has to hold.
    pub(crate) parts: Option<Vec<Part>>,
}

impl Target {
    /// What it is made from.
    pub(crate) fn describe(&self, launcher: &Launcher) -> Result<ContainerSpec, Status> {
        let described = launcher.describe(&self.container, &self.framework, &self.task, self.parts.as_deref());
        described.map_err(|failure| Status::failed_precondition(failure.message))
    }
}

/// All sessions of the agent.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    sessions: HashMap<NestedName, Arc<Session>>,
    /// Oldest first.
    ended: VecDeque<NestedName>,
}

/// One program in a container.
#[derive(Debug)]
pub(crate) struct Session {
    program: EnteredProgram,
    terminal: bool,
    /// Taken for as long as somebody feeds it; none when it was closed.
    input: Arc<tokio::sync::Mutex<Option<Channel>>>,
}

impl Session {
    /// Waits until it has ended.
    pub(crate) async fn wait(&self) -> Exit {
        self.program.wait().await
    }

    /// Sends a signal, SIGKILL to all of it.
    pub(crate) fn signal(&self, signal: i32) -> Result<(), Status> {
        let sent = self.program.signal(signal);
        sent.map_err(|error| Status::internal(format!("signal: {error}")))
    }
}

impl Sessions {
    /// Starts a session; what it writes comes on the stream, which ends with it.
    pub(crate) async fn launch(
        self: &Arc<Self>,
        launcher: &Launcher,
        target: Target,
        name: NestedName,
        asked: call::LaunchNestedContainerSession,
    ) -> Result<Outbound, Status> {
        let streams = wire::streams(asked.container.as_ref())?;
        let spec = spec(launcher, &target, asked.command.unwrap_or_default())?;
        {
            let held = self.held();
            if held.sessions.contains_key(&name) {
                return Err(Status::already_exists(
                    "container_id: is in use; choose another `value`",
                ));
            }
            if held.sessions.len().saturating_sub(held.ended.len()) >= SESSIONS_MAX {
                let text = format!("{SESSIONS_MAX} programs run in containers already; end one first");
                return Err(Status::resource_exhausted(text));
            }
        }
        let entered = launcher.containerizer.enter(&spec, streams).await;
        let mut program = entered
            .map_err(|error| Status::failed_precondition(format!("{} failed: {}", error.stage, error.reason)))?;
        let failed = |error: std::io::Error| Status::internal(format!("the program's streams: {error}"));
        let output = program.output.take().map(Channel::new).transpose().map_err(failed)?;
        let errors = program.errors.take().map(Channel::new).transpose().map_err(failed)?;
        let input = program.input.take().map(Channel::new).transpose().map_err(failed)?;
        let session = Arc::new(Session {
            program,
            terminal: matches!(streams, Streams::Terminal(_)),
            input: Arc::new(tokio::sync::Mutex::new(input)),
        });
        {
            let mut held = self.held();
            if held.sessions.contains_key(&name) {
                return Err(Status::already_exists(
                    "container_id: is in use; choose another `value`",
                ));
            }
            held.sessions.insert(name.clone(), Arc::clone(&session));
        }
        let (outbound, stream) = mpsc::channel(OUTBOUND_MAX);
        let sessions = Arc::clone(self);
        tokio::spawn(async move {
            output::pump(&session, output, errors, outbound).await;
            sessions.ended(name);
        });
        Ok(stream)
    }

    /// The session of that name.
    pub(crate) fn find(&self, name: &NestedName) -> Result<Arc<Session>, Status> {
        let found = self.held().sessions.get(name).cloned();
        found.ok_or_else(|| Status::not_found(format!("container_id: no container is named {name}")))
    }

    /// Forgets a session that has ended.
    pub(crate) fn remove(&self, name: &NestedName) -> Result<(), Status> {
        let mut held = self.held();
        if !held.sessions.contains_key(name) {
            return Err(Status::not_found(format!("container_id: no container is named {name}")));
        }
        if !held.ended.contains(name) {
            return Err(Status::failed_precondition(format!(
                "container_id: {name} has not ended; kill it first"
            )));
        }
        held.sessions.remove(name);
        held.ended.retain(|ended| ended != name);
        Ok(())
    }

    fn ended(&self, name: NestedName) {
        let mut held = self.held();
        held.ended.push_back(name);
        while held.ended.len() > ENDED_MAX {
            if let Some(oldest) = held.ended.pop_front() {
                held.sessions.remove(&oldest);
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The container's, with another program.
fn spec(launcher: &Launcher, target: &Target, command: v1::CommandInfo) -> Result<ContainerSpec, Status> {
    let mut spec = target.describe(launcher)?;
    wire::check_command(&command, &target.task)?;
    spec.argv = crate::spec::argv(&command);
    crate::spec::override_variables(&mut spec.environment, &command);
    Ok(spec)
}
