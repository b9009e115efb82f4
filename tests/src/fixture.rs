//! Work directories of released masters, recorded so that every later version is shown to open them.
//!
//! `tests/fixtures/registry-level-N` holds one of the last release whose registry had the level N: what the master left
//! when it was killed, in `work/`, and what it knew, in `expected.json`. Files are kept without the zeros at their end
//! (the log is preallocated); `sizes.json` has their true sizes. `proffer-record` makes one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use proffer::local::{LocalProcess, ProcessSpec};
use proffer_proto::api::agent_link_client::AgentLinkClient;
use proffer_proto::link::{AgentMessage, Pong, Register, Rejected, agent_message, master_message};
use proffer_proto::resources::Resources;
use proffer_proto::v1::maintenance::{Schedule, Window};
use proffer_proto::v1::{AgentId, AgentInfo, FrameworkInfo, MachineId, Unavailability, master};
use proffer_sdk::operator::OperatorClient;
use proffer_sdk::state::State;
use proffer_sdk::{Framework, Masters, connect};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

/// Long enough that no test ever meets the deadline.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// So short that every later test comes after it, and long enough to kill the master before.
const SHORT: Duration = Duration::from_secs(30);

/// The namespace of the frameworks' state that is recorded.
pub const NAMESPACE: &str = "recorded";

/// What the recorded master knew.
#[derive(Debug, Serialize, Deserialize)]
pub struct Expected {
    /// The version of the master.
    pub version: String,
    /// The cluster's name.
    pub cluster: String,
    /// The frameworks.
    pub frameworks: Vec<RecordedFramework>,
    /// The agents.
    pub agents: Vec<RecordedAgent>,
    /// From level 2 on: what is in the namespace `recorded` of the frameworks' state.
    #[serde(default)]
    pub state: BTreeMap<String, String>,
    /// From level 2 on: the machines whose maintenance is planned, by host name.
    #[serde(default)]
    pub scheduled: Vec<String>,
}

/// A framework of the recorded registry.
#[derive(Debug, Serialize, Deserialize)]
pub struct RecordedFramework {
    /// Its name, which says what it is there for.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Where it stood.
    pub state: FrameworkState,
}

/// Where a recorded framework stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameworkState {
    /// Subscribed until the master was killed.
    Connected,
    /// Its stream had ended; its failover deadline, in milliseconds since 1970, is between these.
    Away {
        /// Not before.
        from_ms: i64,
        /// Not after.
        until_ms: i64,
    },
    /// Removed: its id is never given again, and it cannot come back.
    Completed,
}

/// An agent of the recorded registry.
#[derive(Debug, Serialize, Deserialize)]
pub struct RecordedAgent {
    /// Its host name, which says what it is there for.
    pub hostname: String,
    /// Its id.
    pub id: String,
    /// Where it stood.
    pub state: AgentState,
}

/// Where a recorded agent stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// Attached until the master was killed.
    Admitted,
    /// Marked unreachable; it may come back.
    Unreachable,
    /// Marked gone; it may not.
    Gone,
    /// From level 2 on: attached until the master was killed, and not to be offered.
    Deactivated,
}

/// A recorded work directory.
#[derive(Debug)]
pub struct Fixture {
    directory: PathBuf,
    /// What the master knew.
    pub expected: Expected,
}

impl Fixture {
    /// The one of that level.
    ///
    /// # Errors
    /// It is not there or cannot be read.
    pub fn of_level(level: u32) -> anyhow::Result<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/registry-level-{level}"));
        let expected = read_json(&directory.join("expected.json"))?;
        Ok(Fixture { directory, expected })
    }

    /// Makes the work directory as it was.
    ///
    /// # Errors
    /// The file system failed.
    pub fn restore(&self, into: &Path) -> anyhow::Result<()> {
        let sizes: BTreeMap<PathBuf, u64> = read_json(&self.directory.join("sizes.json"))?;
        for (name, size) in sizes {
            let (from, to) = (self.directory.join("work").join(&name), into.join(&name));
            fs::create_dir_all(to.parent().context("a file has a directory")?)?;
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
            File::options().write(true).open(&to)?.set_len(size)?;
        }
        Ok(())
    }
}

/// Runs a master of a release, lets agents and frameworks come and go, kills it, and keeps what it leaves.
///
/// # Errors
/// The master does not do what is asked of it, or `into` exists.
pub async fn record(program: &Path, into: &Path) -> anyhow::Result<()> {
    ensure!(!into.exists(), "{} exists", into.display());
    let directory = tempfile::Builder::new()
        .prefix("proffer-record-")
        .tempdir_in("/var/tmp")?;
    let work = directory.path().join("work");
    let mut args = vec![format!("--work-dir={}", work.display())];
    args.extend(
        [
            "--listen=127.0.0.1:0",
            "--cluster=recorded",
            // The registry is in a snapshot and in the log after it.
            "--snapshot-entries=3",
            "--agent-ping-interval=100ms",
            "--agent-ping-misses=2",
        ]
        .map(str::to_owned),
    );
    let mut master = LocalProcess::start(ProcessSpec {
        name: "master".to_owned(),
        program: program.to_owned(),
        args,
        environment: Vec::new(),
        directory: directory.path().to_owned(),
    })?;
    let address = master.address(crate::DEADLINE).await?;
    let (expected, streams) = populate(&address).await?;
    master.kill();
    drop(streams);
    let mut sizes = BTreeMap::new();
    keep(&work, Path::new(""), &into.join("work"), &mut sizes)?;
    fs::write(into.join("sizes.json"), serde_json::to_vec_pretty(&sizes)?)?;
    fs::write(into.join("expected.json"), serde_json::to_vec_pretty(&expected)?)?;
    Ok(())
}

/// Agents and frameworks in every state that the registry has for them; what is returned keeps streams open.
async fn populate(address: &str) -> anyhow::Result<(Expected, impl Sized)> {
    let masters: Masters = address.parse()?;
    let mut operator = OperatorClient::new(masters.clone());
    let mut agents = Vec::new();
    let mut agent = |hostname: &str, id: &AgentId, state| {
        let (hostname, id) = (hostname.to_owned(), id.value.clone());
        agents.push(RecordedAgent { hostname, id, state });
    };
    let mut frameworks = Vec::new();
    let mut framework = |name: &str, info: &FrameworkInfo, state| {
        let (name, id) = (name.to_owned(), info.id.clone().unwrap_or_default().value);
        frameworks.push(RecordedFramework { name, id, state });
    };

    let steady = attach(address, agent_info("steady", None)).await?;
    agent("steady", &steady.id, AgentState::Admitted);
    let (kept, _, kept_events) = subscribe(&masters, Framework::new("kept").failover_timeout(CENTURY)).await?;
    framework("kept", &kept, FrameworkState::Connected);

    let marked = attach(address, agent_info("marked", None)).await?;
    operator
        .submit(master::Call {
            r#type: Some(master::call::Type::MarkAgentGone.into()),
            mark_agent_gone: Some(master::call::MarkAgentGone {
                agent_id: marked.id.clone(),
            }),
            ..Default::default()
        })
        .await?;
    agent("marked", &marked.id, AgentState::Gone);

    let (ended, calls, _events) = subscribe(&masters, Framework::new("ended").failover_timeout(CENTURY)).await?;
    calls.teardown().await?;
    framework("ended", &ended, FrameworkState::Completed);

    let lost = attach(address, agent_info("lost", None)).await?;
    agent("lost", &lost.id, AgentState::Unreachable);
    drop(lost);
    // An unreachable agent is not listed.
    let others = [steady.id.clone()];
    until("the lost agent to be unreachable", async || {
        let listed = operator.get_agents().await?.agents;
        Ok(listed
            .iter()
            .map(|agent| agent.agent_info.id.clone().unwrap_or_default())
            .eq(others.clone()))
    })
    .await?;

    for (name, timeout) in [("away", CENTURY), ("overdue", SHORT)] {
        let (info, calls, events) = subscribe(&masters, Framework::new(name).failover_timeout(timeout)).await?;
        let left = now_ms();
        drop((calls, events));
        let id = info.id.clone();
        until("the framework to be disconnected", async || {
            let frameworks = operator.get_frameworks().await?.frameworks;
            let known = frameworks.iter().find(|known| known.framework_info.id == id);
            Ok(known.is_some_and(|known| !known.connected))
        })
        .await?;
        let span = timeout.as_millis() as i64;
        let state = FrameworkState::Away {
            from_ms: left + span,
            until_ms: now_ms() + span,
        };
        framework(name, &info, state);
    }
    let resting = attach(address, agent_info("resting", None)).await?;
    operator.deactivate_agent(resting.id.clone()).await?;
    agent("resting", &resting.id, AgentState::Deactivated);
    let scheduled = vec!["planned".to_owned()];
    operator.update_maintenance_schedule(schedule(&scheduled)).await?;
    let state = BTreeMap::from([("key".to_owned(), "value".to_owned())]);
    let namespace = State::of(masters.clone(), NAMESPACE);
    for (key, value) in &state {
        namespace.put(key, value.clone()).await?;
    }

    let completed = operator.get_frameworks().await?.completed_frameworks;
    ensure!(completed.len() == 1, "{completed:?}");
    let version = operator.get_master().await?.master_info.and_then(|info| info.version);
    let expected = Expected {
        version: version.context("the master tells its version")?,
        cluster: "recorded".to_owned(),
        frameworks,
        agents,
        state,
        scheduled,
    };
    Ok((expected, (steady, resting, kept_events)))
}

fn schedule(machines: &[String]) -> Schedule {
    let machine = |hostname: &String| MachineId {
        hostname: Some(hostname.clone()),
        ip: None,
    };
    Schedule {
        windows: vec![Window {
            machine_ids: machines.iter().map(machine).collect(),
            unavailability: Unavailability::default(),
        }],
    }
}

/// An agent that registered and answers pings until it is dropped.
#[derive(Debug)]
pub struct Attached {
    /// Its id.
    pub id: AgentId,
    answering: JoinHandle<()>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

/// Why an agent could not register.
#[derive(Debug, thiserror::Error)]
#[error("the master rejects the agent: {}", .0.message)]
pub struct AgentRejected(pub Rejected);

/// An agent of that name, which was there before if it has an id.
pub fn agent_info(hostname: &str, id: Option<&str>) -> AgentInfo {
    let resources = Resources::parse("cpus:2;mem:1024").map(|resources| resources.to_wire());
    AgentInfo {
        hostname: hostname.to_owned(),
        resources: resources.unwrap_or_default(),
        id: id.map(|value| AgentId {
            value: value.to_owned(),
        }),
        ..Default::default()
    }
}

/// Registers an agent.
///
/// # Errors
/// [`AgentRejected`], or the master does not answer.
pub async fn attach(address: &str, info: AgentInfo) -> anyhow::Result<Attached> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let (outbound, sending) = mpsc::channel(16);
    let register = Register {
        protocol: 1,
        agent: info,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Default::default()
    };
    outbound.send(message(agent_message::Body::Register(register))).await?;
    let stream = AgentLinkClient::new(channel)
        .attach(ReceiverStream::new(sending))
        .await?;
    let mut stream = stream.into_inner();
    let first = tokio::time::timeout(crate::DEADLINE, stream.message()).await??;
    let id = match first.and_then(|first| first.body) {
        Some(master_message::Body::Registered(registered)) => registered.agent_id,
        Some(master_message::Body::Rejected(rejected)) => return Err(AgentRejected(rejected).into()),
        other => bail!("the master answers Register with {other:?}"),
    };
    let answering = tokio::spawn(async move {
        while let Ok(Some(heard)) = stream.message().await {
            let Some(master_message::Body::Ping(ping)) = heard.body else {
                continue;
            };
            let pong = Pong {
                sequence: ping.sequence,
            };
            if outbound.send(message(agent_message::Body::Pong(pong))).await.is_err() {
                return;
            }
        }
    });
    Ok(Attached { id, answering })
}

async fn subscribe(
    masters: &Masters,
    framework: Framework,
) -> anyhow::Result<(FrameworkInfo, proffer_sdk::Calls, proffer_sdk::Events)> {
    let mut info = framework.user("nobody").build();
    let connected = tokio::time::timeout(crate::DEADLINE, connect(masters, info.clone())).await;
    let (events, calls) = connected.context("no subscription in time")??;
    info.id = Some(calls.framework_id().clone());
    Ok((info, calls, events))
}

fn message(body: agent_message::Body) -> AgentMessage {
    AgentMessage { body: Some(body) }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let looking = async {
        while !holds().await? {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::Ok(())
    };
    let looked = tokio::time::timeout(crate::DEADLINE, looking).await;
    looked.with_context(|| format!("waited for {what} in vain"))?
}

/// Copies what is in `work`, without the zeros at the ends of files.
fn keep(work: &Path, below: &Path, into: &Path, sizes: &mut BTreeMap<PathBuf, u64>) -> anyhow::Result<()> {
    fs::create_dir_all(into.join(below))?;
    for entry in fs::read_dir(work.join(below))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            keep(work, &name, into, sizes)?;
            continue;
        }
        let bytes = fs::read(entry.path())?;
        let length = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        fs::write(into.join(&name), &bytes[..length])?;
        sizes.insert(name, bytes.len() as u64);
    }
    Ok(())
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as i64
}
