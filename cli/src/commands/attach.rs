//! `proffer attach`.

use std::process::ExitCode;

use proffer_proto::v1::agent::{Call, call};
use proffer_proto::v1::{ContainerId, Task};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::exec::Asked;
use super::session::{self, TargetArgs, rejected};
use super::terminal::{self, RawTerminal};
use super::{ClusterArgs, all_tasks, is_active, state_name};
use crate::exit::{Failure, FailureKind};

const CALLS_MAX: usize = 4;

#[derive(Debug, clap::Args)]
pub(crate) struct AttachArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Only see what the task writes.
    #[arg(long)]
    no_stdin: bool,
    /// The keys that end the attachment and leave the task alone, such as `ctrl-p,ctrl-q`, `ctrl-]` or `q`.
    #[arg(long, default_value = "ctrl-p,ctrl-q", value_name = "KEYS", value_parser = Keys::parse)]
    detach_keys: Keys,
}

/// A sequence of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Keys(Vec<u8>);

impl Keys {
    fn parse(text: &str) -> Result<Self, String> {
        let key = |name: &str| match (
            name.strip_prefix("ctrl-").unwrap_or(name).as_bytes(),
            name.starts_with("ctrl-"),
        ) {
            ([letter @ b'a'..=b'z'], true) => Ok(letter - b'a' + 1),
            ([sign @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')], true) => Ok(sign - b'@'),
            ([sign @ b'!'..=b'~'], false) => Ok(*sign),
            _ => Err(format!(
                "`{name}` is no key; a character is accepted, or ctrl- and one of a-z @ [ \\ ] ^ _"
            )),
        };
        text.split(',').map(key).collect::<Result<_, _>>().map(Keys)
    }
}

/// Finds the keys in what is typed, also when they come one by one.
struct Detach {
    keys: Vec<u8>,
    matched: usize,
}

impl Detach {
    /// What is to be passed on, and whether the keys are complete. A beginning that goes on otherwise is passed on later.
    fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(bytes.len() + self.matched);
        for byte in bytes {
            if self.keys.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return (passed, true);
                }
                continue;
            }
            passed.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(self.keys.first() == Some(byte));
            if self.matched == 0 {
                passed.push(*byte);
            }
        }
        (passed, false)
    }
}

pub(crate) async fn run(cluster: &ClusterArgs, args: &AttachArgs) -> Result<ExitCode, Failure> {
    let (task, id, mut agent) = args.target.find(cluster).await?;
    let container = task.container.as_ref();
    let tty = container.is_some_and(|container| container.tty_info.is_some());
    let fed = !args.no_stdin && (tty || container.is_some_and(|container| container.stdin()));
    let mut output = Call {
        attach_container_output: Some(call::AttachContainerOutput {
            container_id: id.clone(),
        }),
        ..Default::default()
    };
    output.set_type(call::Type::AttachContainerOutput);
    let mut messages = agent.output(output).await.map_err(|error| rejected(&error))?;
    let raw = if tty && fed { Some(RawTerminal::new()?) } else { None };
    if !fed && !args.no_stdin {
        eprintln!(
            "proffer: task {} was launched without a terminal and without `stdin`: it cannot be typed into",
            task.task_id
        );
    }
    let (calls, outbound) = mpsc::channel(CALLS_MAX);
    let (detach, mut detached) = oneshot::channel();
    let feeding = tokio::spawn(async move { agent.input(ReceiverStream::new(outbound)).await });
    let keys = Detach {
        keys: args.detach_keys.0.clone(),
        matched: 0,
    };
    let feeder = fed.then(|| tokio::spawn(feed(tty, id, keys, calls, detach)));
    tokio::pin!(feeding);
    let mut asked = Asked::new()?;
    let mut refused = false;
    let ended = loop {
        tokio::select! {
            message = messages.message() => match message {
                Ok(Some(message)) => {
                    if !session::show(&message) {
                        break Ok(false);
                    }
                }
                Ok(None) => break Ok(true),
                Err(status) => break Err(Failure::new(FailureKind::Unreachable, format!("the agent: {}", status.message()))),
            },
            fed_so_far = &mut feeding, if fed && !refused => {
                refused = true;
                if let Ok(Err(error)) = fed_so_far {
                    break Err(rejected(&error));
                }
            }
            Ok(()) = &mut detached => break Ok(false),
            _signal = asked.next() => break Ok(false),
        }
    };
    if let Some(feeder) = feeder {
        feeder.abort();
    }
    drop(raw);
    match ended? {
        true => outcome(cluster, &task).await,
        false => {
            eprintln!("proffer: detached; task {} runs on", task.task_id);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Sends what is typed and how big the terminal is, until the keys are typed.
async fn feed(tty: bool, id: ContainerId, mut keys: Detach, calls: mpsc::Sender<Call>, detach: oneshot::Sender<()>) {
    let _ = calls.send(session::attach(id)).await;
    let size = terminal::size();
    if tty && size.window_size.is_some() {
        let _ = calls.send(session::resized(size)).await;
    }
    let (pieces, mut typed) = mpsc::channel(1);
    session::read_input(pieces);
    let Ok(mut changed) = signal(SignalKind::window_change()) else {
        return;
    };
    loop {
        let call = tokio::select! {
            Some(piece) = typed.recv() => match keys.filter(&piece) {
                (_, true) => {
                    let _ = detach.send(());
                    return;
                }
                // Nothing at all would be the end.
                (passed, false) if passed.is_empty() && !piece.is_empty() => continue,
                (passed, false) => session::typed(&passed),
            },
            Some(()) = changed.recv(), if tty => session::resized(terminal::size()),
            else => return,
        };
        if calls.send(call).await.is_err() {
            return;
        }
    }
}

/// How the task ended, as far as the master knows.
async fn outcome(cluster: &ClusterArgs, task: &Task) -> Result<ExitCode, Failure> {
    let mut operator = cluster.operator();
    loop {
        let tasks = operator.get_tasks().await.map_err(|error| cluster.failure(error))?;
        let now = all_tasks(tasks)
            .into_iter()
            .find(|other| other.task_id == task.task_id && other.framework_id == task.framework_id);
        match now {
            // Its output ends a moment before its end is told.
            Some(now) if is_active(&now) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            Some(now) if state_name(now.state()) == "FINISHED" => return Ok(ExitCode::SUCCESS),
            ended => {
                let state = ended.map_or("ended", |task| state_name(task.state()));
                return Err(Failure::new(
                    FailureKind::Failed,
                    format!("task {}: {state}", task.task_id),
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_however_they_are_typed() {
        let keys = |text| Keys::parse(text).map(|keys| keys.0);
        assert_eq!(keys("ctrl-p,ctrl-q"), Ok(vec![16, 17]));
        assert_eq!(keys("ctrl-],q"), Ok(vec![29, b'q']));
        for bad in ["", "ctrl-", "ctrl-1", "ab", "a,,b"] {
            assert!(keys(bad).is_err(), "{bad}");
        }
        let mut detach = Detach {
            keys: vec![16, 17],
            matched: 0,
        };
        assert_eq!(detach.filter(b"ab"), (b"ab".to_vec(), false));
        assert_eq!(detach.filter(&[b'c', 16]), (b"c".to_vec(), false));
        assert_eq!(detach.filter(b"d"), (vec![16, b'd'], false));
        assert_eq!(detach.filter(&[16]), (vec![], false));
        assert_eq!(detach.filter(&[16]), (vec![16], false));
        assert_eq!(detach.filter(&[17, b'x']), (vec![], true));
    }
}
