//! A master of a few lines, and the agent as a process.

#![allow(unreachable_pub, reason = "a test crate exports nothing")]
#![allow(dead_code, reason = "not every test uses everything")]

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use proffer_proto::api::agent_link_server::{AgentLink, AgentLinkServer};
use proffer_proto::api::agent_operator_client::AgentOperatorClient;
use proffer_proto::link::{self, AgentMessage, MasterMessage, agent_message, master_message};
use proffer_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const FRAMEWORK: &str = "framework-1";

/// What the master knows.
#[derive(Default)]
pub struct State {
    pub registers: Vec<link::Register>,
    pub updates: VecDeque<link::StatusUpdate>,
    pub unregistered: bool,
    /// The numbers of the pings that were answered.
    pub pongs: Vec<u64>,
    pub exited: Vec<link::ExecutorExited>,
    /// What the agent said that it has applied.
    pub applied: Vec<link::LayoutApplied>,
    /// When a task was first heard to be in a state.
    pub seen: HashMap<(String, i32), Instant>,
    stream: Option<mpsc::Sender<Result<MasterMessage, Status>>>,
    /// Whether updates are acknowledged as they come.
    pub acknowledges: bool,
}

/// Speaks AgentLink; admits everybody.
#[derive(Clone)]
pub struct FakeMaster {
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl FakeMaster {
    pub async fn start() -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let state = State {
            acknowledges: true,
            ..State::default()
        };
        let master = Self {
            address,
            state: Arc::new(Mutex::new(state)),
        };
        let service = AgentLinkServer::new(master.clone());
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))),
        );
        Ok(master)
    }

    pub fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().expect("no test panics while it looks"))
    }

    pub async fn send(&self, body: master_message::Body) -> anyhow::Result<()> {
        let stream = self
            .look(|state| state.stream.clone())
            .context("no agent is attached")?;
        stream.send(Ok(MasterMessage { body: Some(body) })).await?;
        Ok(())
    }

    pub async fn registered(&self, times: usize) -> anyhow::Result<link::Register> {
        until("the agent registers", || {
            self.look(|state| (state.registers.len() >= times).then(|| state.registers[times - 1].clone()))
        })
        .await
    }

    /// Launches tasks on an executor, which is started unless it is there.
    pub async fn launch_on(
        &self,
        executor: v1::ExecutorInfo,
        tasks: Vec<v1::TaskInfo>,
        group: bool,
        start_executor: bool,
    ) -> anyhow::Result<()> {
        let framework = v1::FrameworkInfo {
            user: "nobody".into(),
            name: "test".into(),
            id: Some(FRAMEWORK.into()),
            ..Default::default()
        };
        let launch = link::Launch {
            framework,
            executor: Some(Box::new(executor)),
            tasks,
            group: Some(group),
            start_executor: Some(start_executor),
        };
        self.send(master_message::Body::Launch(launch)).await
    }

    pub async fn launch(&self, task: v1::TaskInfo) -> anyhow::Result<()> {
        let framework = v1::FrameworkInfo {
            user: "nobody".into(),
            name: "test".into(),
            id: Some(v1::FrameworkId {
                value: FRAMEWORK.into(),
            }),
            ..Default::default()
        };
        let launch = link::Launch {
            framework,
            tasks: vec![task],
            ..Default::default()
        };
        self.send(master_message::Body::Launch(launch)).await
    }

    pub async fn kill(&self, task: &str, grace: Duration) -> anyhow::Result<()> {
        let grace_period = Some(v1::DurationInfo {
            nanoseconds: i64::try_from(grace.as_nanos())?,
        });
        let kill = link::Kill {
            framework_id: v1::FrameworkId {
                value: FRAMEWORK.into(),
            },
            task_id: v1::TaskId { value: task.into() },
            kill_policy: Some(v1::KillPolicy { grace_period }),
            drain: None,
        };
        self.send(master_message::Body::Kill(kill)).await
    }

    /// Waits until a task was heard to be in a state, and says when.
    pub async fn seen(&self, task: &str, wanted: v1::TaskState) -> anyhow::Result<Instant> {
        let key = (task.to_owned(), i32::from(wanted));
        until(&format!("{task} is {}", wanted.as_str_name()), || {
            self.look(|state| state.seen.get(&key).copied())
        })
        .await
    }

    /// Waits until an executor's container is gone.
    pub async fn exited(&self, executor: &str) -> anyhow::Result<i32> {
        until(&format!("the executor {executor} has ended"), || {
            self.look(|state| {
                let mut exited = state.exited.iter();
                exited
                    .find(|exited| exited.executor_id.value == executor)
                    .map(|exited| exited.status)
            })
        })
        .await
    }

    /// Tells the agent its layout, and waits until it has applied it once more.
    pub async fn lay_out(&self, layout: link::Layout) -> anyhow::Result<link::LayoutApplied> {
        let (before, version) = (self.look(|state| state.applied.len()), layout.version);
        self.send(master_message::Body::Layout(layout)).await?;
        until("the agent applies its layout", || {
            self.look(|state| {
                let mut since = state.applied.iter().skip(before);
                since.find(|applied| applied.version == version).cloned()
            })
        })
        .await
    }

    /// Waits for an update of a task with this state.
    pub async fn update(&self, task: &str, wanted: v1::TaskState) -> anyhow::Result<v1::TaskStatus> {
        until(&format!("{task} is {}", wanted.as_str_name()), || {
            self.look(|state| {
                let found = state
                    .updates
                    .iter()
                    .find(|update| update.status.task_id.value == task && update.status.state() == wanted);
                found.map(|update| update.status.clone())
            })
        })
        .await
    }
}

#[tonic::async_trait]
impl AgentLink for FakeMaster {
    type AttachStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<MasterMessage, Status>> + Send>>;

    async fn attach(&self, request: Request<Streaming<AgentMessage>>) -> Result<Response<Self::AttachStream>, Status> {
        let mut messages = request.into_inner();
        let (sender, receiver) = mpsc::channel(64);
        let Some(agent_message::Body::Register(register)) = messages.message().await?.and_then(|m| m.body) else {
            return Err(Status::invalid_argument("register: must be the first message"));
        };
        let agent_id = register.agent.id.clone().unwrap_or(v1::AgentId {
            value: "agent-1".into(),
        });
        self.look(|state| {
            state.registers.push(register);
            state.stream = Some(sender.clone());
        });
        let registered = link::Registered {
            agent_id,
            ping_interval_seconds: 60.0,
        };
        let body = Some(master_message::Body::Registered(registered));
        let _ = sender.send(Ok(MasterMessage { body })).await;
        let master = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = messages.message().await {
                match message.body {
                    Some(agent_message::Body::StatusUpdate(update)) => master.hear(update, &sender).await,
                    Some(agent_message::Body::ExecutorExited(exited)) => {
                        master.look(|state| state.exited.push(exited));
                    }
                    Some(agent_message::Body::LayoutApplied(applied)) => {
                        master.look(|state| state.applied.push(applied));
                    }
                    Some(agent_message::Body::Pong(pong)) => master.look(|state| state.pongs.push(pong.sequence)),
                    Some(agent_message::Body::Unregister(_)) => master.look(|state| state.unregistered = true),
                    _ => {}
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl FakeMaster {
    async fn hear(&self, update: link::StatusUpdate, sender: &mpsc::Sender<Result<MasterMessage, Status>>) {
        let acknowledge = link::Acknowledge {
            framework_id: update.framework_id.clone(),
            task_id: update.status.task_id.clone(),
            uuid: update.status.uuid.clone().unwrap_or_default(),
        };
        let acknowledges = self.look(|state| {
            let key = (update.status.task_id.value.clone(), update.status.state);
            state.seen.entry(key).or_insert_with(Instant::now);
            state.updates.push_back(update);
            state.acknowledges
        });
        if acknowledges {
            let body = Some(master_message::Body::Acknowledge(acknowledge));
            let _ = sender.send(Ok(MasterMessage { body })).await;
        }
    }
}

/// The agent as a process, with everything it leaves behind in one directory.
pub struct AgentProcess {
    directory: tempfile::TempDir,
    cgroup_root: String,
    master: String,
    /// Where what must survive is; `work` unless told otherwise.
    pub work: PathBuf,
    pub resources: String,
    /// This version's, unless told otherwise.
    pub program: PathBuf,
    /// Flags beside those that every agent has.
    pub flags: Vec<String>,
    /// A file that stands for the machine's boot id.
    pub boot_id: Option<PathBuf>,
    pub child: Option<Child>,
}

impl AgentProcess {
    pub fn start(master: &FakeMaster) -> anyhow::Result<Self> {
        Self::start_with(&master.address)
    }

    /// With a master at an address.
    pub fn start_with(master: &str) -> anyhow::Result<Self> {
        Self::start_as(master, &[])
    }

    /// With further flags.
    pub fn start_as(master: &str, flags: &[&str]) -> anyhow::Result<Self> {
        let mut agent = Self::prepare(master)?;
        agent.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        agent.restart()?;
        Ok(agent)
    }

    /// One that does not run yet.
    pub fn prepare(master: &str) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Not below /tmp, of which each container has its own: here it can try what it may not.
        let directory = tempfile::Builder::new()
            .prefix("proffer-agent-test-")
            .tempdir_in("/var/tmp")?;
        // Tasks of other users must reach their sandboxes.
        std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let cgroup_root = format!("proffer-agent-test-{}-{number}", std::process::id());
        Ok(Self {
            work: directory.path().join("work"),
            resources: "cpus:4;mem:1024;disk:1024;ports:[31900-31909]".into(),
            flags: Vec::new(),
            boot_id: None,
            program: program(),
            directory,
            cgroup_root,
            master: master.to_owned(),
            child: None,
        })
    }

    pub fn restart(&mut self) -> anyhow::Result<()> {
        let _ = std::fs::remove_file(self.path("address"));
        self.child = Some(self.another()?);
        Ok(())
    }

    /// Starts a process with the same settings.
    pub fn another(&self) -> anyhow::Result<Child> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log"))?;
        let program = &self.program;
        let mut command = match &self.boot_id {
            None => Command::new(program),
            Some(boot_id) => {
                let bind = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", bind]).arg(boot_id).arg(program);
                command
            }
        };
        let child = command
            .args(["--master", &self.master, "--listen", "127.0.0.1:0"])
            .args(["--resources", &self.resources, "--log-level", "debug,h2=info"])
            .args(["--cgroup-root", &self.cgroup_root])
            .arg("--work-dir")
            .arg(&self.work)
            .arg("--runtime-dir")
            .arg(self.path("run"))
            .arg("--address-file")
            .arg(self.path("address"))
            .args(&self.flags)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(child)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn signal(&mut self, signal: rustix::process::Signal) -> anyhow::Result<()> {
        let child = self.child.as_mut().context("the agent does not run")?;
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, signal)?;
        Ok(())
    }

    /// Waits until the process has ended.
    pub async fn ended(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        let mut child = self.child.take().context("the agent does not run")?;
        until("the agent ends", || child.try_wait().ok().flatten()).await
    }

    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(rustix::process::Signal::KILL)?;
        self.ended().await?;
        Ok(())
    }

    pub async fn call(&self, call: v1::agent::Call) -> anyhow::Result<v1::agent::Response> {
        let path = self.path("address");
        let address = until("the agent listens", || std::fs::read_to_string(&path).ok()).await?;
        let mut client = AgentOperatorClient::connect(format!("http://{address}")).await?;
        Ok(client.submit(call).await?.into_inner())
    }

    /// What the agent's process takes, from its status.
    pub fn memory(&self) -> anyhow::Result<String> {
        let child = self.child.as_ref().context("the agent does not run")?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
        let lines = status
            .lines()
            .filter(|line| line.starts_with("VmRSS") || line.starts_with("Threads"));
        Ok(lines.collect::<Vec<_>>().join(" "))
    }

    /// The cgroups of containers that are left: the names of their processes would be of no use.
    pub fn cgroups_left(&self) -> Vec<PathBuf> {
        let roots = std::fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        let roots = roots.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
        roots
            .map(|root| root.join(&self.cgroup_root))
            .filter(|path| has_children(path))
            .collect()
    }
}

fn has_children(path: &Path) -> bool {
    std::fs::read_dir(path)
        .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|e| e.file_type().is_ok_and(|t| t.is_dir()))))
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
            eprintln!("--- the agent's log ---\n{log}");
        }
        self.end_in_order();
        // Of an agent that could not do so itself.
        let volumes = self.work.join("volumes");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for point in mounts.lines().filter_map(|line| line.split(' ').nth(4)) {
            if Path::new(point).starts_with(&volumes) {
                let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
            }
        }
    }
}

impl AgentProcess {
    fn end_in_order(&mut self) {
        // An orderly end takes the containers and cgroups along.
        let deadline = Instant::now() + PATIENCE;
        if self.child.is_none() {
            let started = self.restart();
            // Before it listens it may not know the signal yet.
            while started.is_ok() && !self.path("address").exists() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.signal(rustix::process::Signal::USR1);
        let Some(mut child) = self.child.take() else { return };
        while Instant::now() < deadline {
            if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The agent that was built with the tests; elsewhere, as in the emulated machine, that of `$PROFFER_AGENT`.
fn program() -> PathBuf {
    let elsewhere = std::env::var_os("PROFFER_AGENT");
    elsewhere.map_or_else(|| env!("CARGO_BIN_EXE_proffer-agent").into(), PathBuf::from)
}

/// A task that runs a shell command.
pub fn shell(id: &str, command: &str) -> v1::TaskInfo {
    let scalar = |name: &str, value: f64| v1::Resource {
        name: name.into(),
        r#type: v1::value::Type::Scalar.into(),
        scalar: Some(v1::value::Scalar { value }),
        ..Default::default()
    };
    v1::TaskInfo {
        name: id.into(),
        task_id: v1::TaskId { value: id.into() },
        agent_id: v1::AgentId {
            value: "agent-1".into(),
        },
        resources: vec![scalar("cpus", 0.5), scalar("mem", 64.0)],
        command: Some(v1::CommandInfo {
            value: Some(command.into()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The text of a file in a task's sandbox, as the operator API gives it.
pub fn read_file(task: &str, file: &str) -> v1::agent::Call {
    let path = format!("/frameworks/{FRAMEWORK}/executors/{task}/runs/latest/{file}");
    let read_file = v1::agent::call::ReadFile {
        path,
        offset: 0,
        length: None,
    };
    let mut call = v1::agent::Call {
        read_file: Some(read_file),
        ..Default::default()
    };
    call.set_type(v1::agent::call::Type::ReadFile);
    call
}

/// Waits for a condition.
pub async fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = check() {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("waited in vain until {what}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether containers can be made here; says why not.
pub fn can_contain() -> anyhow::Result<bool> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return Ok(false);
    }
    ensure!(Path::new("/sys/fs/cgroup").exists(), "no cgroups are mounted");
    Ok(true)
}
