//! A master and agents on this machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::process::{LocalError, LocalProcess, ProcessSpec};

/// How long a process may take to serve before starting the cluster is given up.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// How long a process may take to end in order before it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// What a local cluster consists of.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The multi-call `proffer` binary.
    pub program: PathBuf,
    /// The state of all processes lives here.
    pub directory: PathBuf,
    /// Where the master listens; port 0 lets the kernel choose.
    pub master_listen: String,
    /// More arguments for the master.
    pub master_args: Vec<String>,
    /// The agents.
    pub agents: Vec<AgentOptions>,
    /// Environment variables of all processes.
    pub environment: Vec<(String, String)>,
}

/// One agent of a local cluster.
#[derive(Debug, Clone, Default)]
pub struct AgentOptions {
    /// The resources as the agent's `--resources` takes them; detected when unset.
    pub resources: Option<String>,
    /// The attributes as the agent's `--attributes` takes them.
    pub attributes: Option<String>,
    /// More arguments for the agent.
    pub args: Vec<String>,
}

/// A running local cluster; its processes are killed when it is dropped.
#[derive(Debug)]
pub struct LocalCluster {
    options: ClusterOptions,
    master: LocalProcess,
    master_address: String,
    agents: Vec<LocalProcess>,
    agent_addresses: Vec<String>,
}

impl LocalCluster {
    /// Starts the master and the agents, side by side, and waits until all serve.
    ///
    /// # Errors
    /// A process could not be started, ended early, or did not serve in time; the error holds the end of its log.
    pub async fn start(options: ClusterOptions) -> Result<Self, LocalError> {
        let mut master = LocalProcess::start(master_spec(&options))?;
        let master_address = master.address(READY_DEADLINE).await?;
        // A process that comes back must be found where the others know it.
        master.spec_mut().args = master_args(&options, &master_address);
        let mut agents = Vec::new();
        for index in 0..options.agents.len() {
            agents.push(LocalProcess::start(agent_spec(&options, index, &master_address))?);
        }
        let mut agent_addresses = Vec::new();
        for (index, agent) in agents.iter_mut().enumerate() {
            let address = agent.address(READY_DEADLINE).await?;
            agent.spec_mut().args = agent_args(&options, index, &master_address, &address);
            agent_addresses.push(address);
        }
        Ok(LocalCluster {
            options,
            master,
            master_address,
            agents,
            agent_addresses,
        })
    }

    /// Where the master listens, `host:port`.
    pub fn master_address(&self) -> &str {
        &self.master_address
    }

    /// Where the agents listen, `host:port`.
    pub fn agent_addresses(&self) -> &[String] {
        &self.agent_addresses
    }

    /// The master's process.
    pub fn master(&mut self) -> &mut LocalProcess {
        &mut self.master
    }

    /// An agent's process.
    ///
    /// # Panics
    /// When there is no agent of that index.
    pub fn agent(&mut self, index: usize) -> &mut LocalProcess {
        &mut self.agents[index]
    }

    /// Starts one more agent.
    ///
    /// # Errors
    /// As [`LocalCluster::start`].
    pub async fn add_agent(&mut self, agent: AgentOptions) -> Result<usize, LocalError> {
        self.options.agents.push(agent);
        let index = self.agents.len();
        let mut process = LocalProcess::start(agent_spec(&self.options, index, &self.master_address))?;
        let address = process.address(READY_DEADLINE).await?;
        process.spec_mut().args = agent_args(&self.options, index, &self.master_address, &address);
        self.agent_addresses.push(address);
        self.agents.push(process);
        Ok(index)
    }

    /// The directory of an agent's state; its sandboxes are under it.
    pub fn agent_work_directory(&self, index: usize) -> PathBuf {
        agent_directory(&self.options.directory, index).join("work")
    }

    /// What the names of the agents' control groups begin with.
    pub fn cgroup_prefix(&self) -> String {
        cgroup_prefix(&self.options.directory)
    }

    /// The directory of the whole cluster.
    pub fn directory(&self) -> &Path {
        &self.options.directory
    }

    /// Ends the agents with their tasks, then the master, in order; what does not end in time is killed.
    pub async fn stop(mut self) {
        for agent in &mut self.agents {
            agent.signal(Signal::USR1);
        }
        for agent in &mut self.agents {
            agent.wait(STOP_DEADLINE).await;
        }
        self.master.signal(Signal::TERM);
        self.master.wait(STOP_DEADLINE).await;
    }
}

fn master_spec(options: &ClusterOptions) -> ProcessSpec {
    ProcessSpec {
        name: "master".to_owned(),
        program: options.program.clone(),
        args: master_args(options, &options.master_listen),
        environment: options.environment.clone(),
        directory: options.directory.join("master"),
    }
}

fn master_args(options: &ClusterOptions, listen: &str) -> Vec<String> {
    let work = options.directory.join("master").join("work");
    let mut args = vec![
        "master".to_owned(),
        format!("--listen={listen}"),
        format!("--work-dir={}", work.display()),
    ];
    args.extend(options.master_args.iter().cloned());
    args
}

fn agent_directory(directory: &Path, index: usize) -> PathBuf {
    directory.join(format!("agent-{index}"))
}

/// The same for every cluster in that directory, so that a cluster that is started again finds its containers.
fn cgroup_prefix(directory: &Path) -> String {
    let bytes = directory.as_os_str().as_encoded_bytes();
    // FNV-1a.
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("proffer-{hash:016x}")
}

fn agent_spec(options: &ClusterOptions, index: usize, master: &str) -> ProcessSpec {
    ProcessSpec {
        name: format!("agent-{index}"),
        program: options.program.clone(),
        args: agent_args(options, index, master, "127.0.0.1:0"),
        environment: options.environment.clone(),
        directory: agent_directory(&options.directory, index),
    }
}

fn agent_args(options: &ClusterOptions, index: usize, master: &str, listen: &str) -> Vec<String> {
    let directory = agent_directory(&options.directory, index);
    let agent = &options.agents[index];
    let mut args = vec![
        "agent".to_owned(),
        format!("--master={master}"),
        format!("--listen={listen}"),
        format!("--work-dir={}", directory.join("work").display()),
        format!("--runtime-dir={}", directory.join("run").display()),
        format!("--cgroup-root={}-{index}", cgroup_prefix(&options.directory)),
    ];
    if let Some(resources) = &agent.resources {
        args.push(format!("--resources={resources}"));
    }
    if let Some(attributes) = &agent.attributes {
        args.push(format!("--attributes={attributes}"));
    }
    args.extend(agent.args.iter().cloned());
    args
}
