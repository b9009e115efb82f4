//! `proffer exec`.

use std::process::ExitCode;
use std::time::SystemTime;

use proffer_proto::v1::agent::{Call, call};
use proffer_proto::v1::{CommandInfo, ContainerId, ContainerInfo, Environment, container_info, environment};
use proffer_sdk::operator::AgentClient;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::ClusterArgs;
use super::session::{self, TargetArgs, rejected};
use super::terminal::{self, RawTerminal};
use crate::exit::{Failure, FailureKind};

/// Calls that wait to be sent; who types faster waits.
const CALLS_MAX: usize = 4;

#[derive(Debug, clap::Args)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    program: ProgramArgs,
}

/// What is run, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct ProgramArgs {
    /// Pass standard input on; it is empty otherwise.
    #[arg(long, short)]
    interactive: bool,
    /// Give the program a terminal, of the size of this one.
    #[arg(long, short)]
    tty: bool,
    /// A variable for the program, besides those of the task.
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

pub(crate) async fn run(cluster: &ClusterArgs, args: &ExecArgs) -> Result<ExitCode, Failure> {
    run_in(cluster, &args.target, &args.program).await
}

/// Runs a program in the container of a task.
pub(crate) async fn run_in(
    cluster: &ClusterArgs,
    target: &TargetArgs,
    args: &ProgramArgs,
) -> Result<ExitCode, Failure> {
    let (_task, container, mut agent) = target.find(cluster).await?;
    let id = nested(container);
    let mut messages = agent
        .output(launch(args, id.clone()))
        .await
        .map_err(|error| rejected(&error))?;
    let raw = match args.tty && args.interactive {
        true => Some(RawTerminal::new()?),
        false => None,
    };
    let (calls, outbound) = mpsc::channel(CALLS_MAX);
    let mut feeding = {
        let mut agent = agent.clone();
        tokio::spawn(async move { agent.input(ReceiverStream::new(outbound)).await })
    };
    let feeder = tokio::spawn(feed(args.interactive, args.tty, id.clone(), calls));
    let mut asked = Asked::new()?;
    let ended = loop {
        tokio::select! {
            message = messages.message() => match message {
                Ok(Some(message)) => {
                    if !session::show(&message) {
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                Err(status) => break Err(Failure::new(FailureKind::Unreachable, format!("the agent: {}", status.message()))),
            },
            signal = asked.next() => kill(&mut agent, &id, signal).await,
            fed = &mut feeding, if !feeding.is_finished() => {
                if let Ok(Err(error)) = fed && error.is_rejection() {
                    tracing::debug!(%error, "the input is not taken any more");
                }
            }
        }
    };
    feeder.abort();
    feeding.abort();
    // Nobody may be left in front of a terminal that echoes nothing.
    drop(raw);
    ended?;
    drop(messages);
    exit_of(&mut agent, id).await
}

/// A name that no other session has.
fn nested(parent: ContainerId) -> ContainerId {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    ContainerId {
        value: format!("exec-{}-{now}", std::process::id()),
        parent: Some(Box::new(parent)),
    }
}

fn launch(args: &ProgramArgs, container_id: ContainerId) -> Call {
    let terminal = std::env::var("TERM").ok().filter(|_| args.tty);
    let terminal = terminal.map(|kind| ("TERM".to_owned(), kind));
    let variables = terminal.into_iter().chain(args.env.iter().cloned());
    let variables = variables.map(|(name, value)| environment::Variable {
        name,
        value: Some(value),
        ..Default::default()
    });
    let command = CommandInfo {
        shell: Some(false),
        value: Some(args.command[0].clone()),
        arguments: args.command.clone(),
        environment: Some(Environment {
            variables: variables.collect(),
        }),
        ..Default::default()
    };
    let container = args.tty.then(|| ContainerInfo {
        r#type: container_info::Type::Mesos.into(),
        tty_info: Some(terminal::size()),
        ..Default::default()
    });
    let mut call = Call {
        launch_nested_container_session: Some(call::LaunchNestedContainerSession {
            container_id,
            command: Some(command),
            container,
        }),
        ..Default::default()
    };
    call.set_type(call::Type::LaunchNestedContainerSession);
    call
}

/// Sends what is typed and how big the terminal is, until nobody takes it any more.
async fn feed(interactive: bool, tty: bool, id: ContainerId, calls: mpsc::Sender<Call>) {
    let _ = calls.send(session::attach(id)).await;
    let (pieces, mut typed) = mpsc::channel(1);
    match interactive {
        true => session::read_input(pieces),
        // A terminal stays open without a word.
        false if tty => std::mem::forget(pieces),
        false => drop(calls.send(session::typed(&[])).await),
    }
    let Ok(mut changed) = signal(SignalKind::window_change()) else {
        return;
    };
    loop {
        let call = tokio::select! {
            Some(piece) = typed.recv() => session::typed(&piece),
            Some(()) = changed.recv(), if tty => session::resized(terminal::size()),
            else => return,
        };
        if calls.send(call).await.is_err() {
            return;
        }
    }
}

/// What a person or a program asks of this command is asked of the program; in raw mode the keys are the terminal's there.
pub(crate) struct Asked {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Asked {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Asked {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    pub(crate) async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hang_up.recv() => 1,
        }
    }
}

async fn kill(agent: &mut AgentClient, id: &ContainerId, signal: i32) {
    let mut call = Call {
        kill_container: Some(call::KillContainer {
            container_id: id.clone(),
            signal: Some(signal),
        }),
        ..Default::default()
    };
    call.set_type(call::Type::KillContainer);
    if let Err(error) = agent.submit(call).await {
        eprintln!("proffer: the signal could not be passed on: {error}");
    }
}

/// The program's exit code, or 128 and the signal that ended it, as shells have it.
async fn exit_of(agent: &mut AgentClient, id: ContainerId) -> Result<ExitCode, Failure> {
    let mut wait = Call {
        wait_container: Some(call::WaitContainer {
            container_id: id.clone(),
        }),
        ..Default::default()
    };
    wait.set_type(call::Type::WaitContainer);
    let answer = agent.submit(wait).await.map_err(|error| rejected(&error))?;
    let mut remove = Call {
        remove_container: Some(call::RemoveContainer { container_id: id }),
        ..Default::default()
    };
    remove.set_type(call::Type::RemoveContainer);
    let _ = agent.submit(remove).await;
    let status = answer.wait_container.and_then(|wait| wait.exit_status);
    let status = status.ok_or_else(|| {
        Failure::new(
            FailureKind::Failed,
            "the program ended with its container, or was killed by force; its exit code is not known",
        )
    })?;
    let code = match status & 0x7f {
        0 => (status >> 8) & 0xff,
        signal => 128 + signal,
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}
