//! Masters and agents on this machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proffer_sdk::Masters;
use proffer_sdk::operator::OperatorClient;
use rustix::process::Signal;

use super::ports::ReservedPort;
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
    /// How many masters form its group, at least one.
    pub masters: usize,
    /// Where the first master listens; the others take the ports after it. With port 0 the kernel chooses all of them.
    pub master_listen: String,
    /// More arguments for every master.
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
    masters: Vec<LocalProcess>,
    /// Held as long as the cluster is there, so that a master that was killed finds its port free.
    ports: Vec<ReservedPort>,
    master_addresses: Vec<String>,
    agents: Vec<LocalProcess>,
    agent_addresses: Vec<String>,
}

impl LocalCluster {
    /// Starts the masters, waits until one leads, starts the agents, and waits until all serve.
    ///
    /// # Errors
    /// A port is taken, a process could not be started, ended early, or did not serve in time (the error holds the end of its
    /// log), or the directory is that of a cluster with another number of masters.
    pub async fn start(options: ClusterOptions) -> Result<Self, LocalError> {
        check_masters(&options)?;
        let ports = ReservedPort::consecutive(&options.master_listen, options.masters)?;
        let master_addresses: Vec<String> = ports.iter().map(|port| port.address().to_string()).collect();
        let mut masters = Vec::new();
        for index in 0..options.masters {
            masters.push(LocalProcess::start(master_spec(&options, index, &master_addresses))?);
        }
        let mut cluster = LocalCluster {
            options,
            masters,
            ports,
            master_addresses,
            agents: Vec::new(),
            agent_addresses: Vec::new(),
        };
        for master in &mut cluster.masters {
            master.address(READY_DEADLINE).await?;
        }
        cluster.leader(READY_DEADLINE).await?;
        cluster.start_agents().await?;
        Ok(cluster)
    }

    /// Agents find a leader at their first attempt, so they are started when there is one.
    async fn start_agents(&mut self) -> Result<(), LocalError> {
        for index in 0..self.options.agents.len() {
            let spec = agent_spec(&self.options, index, &self.master_addresses);
            self.agents.push(LocalProcess::start(spec)?);
        }
        for (index, agent) in self.agents.iter_mut().enumerate() {
            let address = agent.address(READY_DEADLINE).await?;
            // An agent that comes back must be found where the others know it.
            agent.spec_mut().args = agent_args(&self.options, index, &self.master_addresses, &address);
            self.agent_addresses.push(address);
        }
        Ok(())
    }

    /// Where the masters listen, `host:port`.
    pub fn master_addresses(&self) -> &[String] {
        &self.master_addresses
    }

    /// Where the first master listens, `host:port`.
    pub fn master_address(&self) -> &str {
        &self.master_addresses[0]
    }

    /// All its masters, as frameworks and operators name them.
    pub fn masters(&self) -> Masters {
        let list = self.master_addresses.join(",");
        list.parse().expect("addresses of sockets are addresses of masters")
    }

    /// The process of the first master.
    pub fn master(&mut self) -> &mut LocalProcess {
        self.master_at(0)
    }

    /// A master's process.
    ///
    /// # Panics
    /// When there is no master of that index.
    pub fn master_at(&mut self, index: usize) -> &mut LocalProcess {
        &mut self.masters[index]
    }

    /// Waits until a master leads and answers calls; returns its index.
    ///
    /// # Errors
    /// None did in time; the error holds the end of the first master's log.
    pub async fn leader(&mut self, deadline: Duration) -> Result<usize, LocalError> {
        let mut operator = OperatorClient::new(self.masters()).timeout(deadline);
        let answered = operator.get_master().await;
        let leader = answered.is_ok().then(|| operator.leader()).flatten();
        let index = leader.and_then(|leader| self.master_addresses.iter().position(|address| address == leader));
        index.ok_or_else(|| LocalError::NoLeader {
            waited: deadline,
            log: self.masters[0].log_file().display().to_string(),
            tail: self.masters[0].log_tail(),
        })
    }

    /// Kills a master as `kill -9` does.
    pub fn kill_master(&mut self, index: usize) {
        self.masters[index].kill();
    }

    /// Starts a master that has ended again, at the same address, and waits until it serves (perhaps as a follower).
    ///
    /// # Errors
    /// As [`LocalCluster::start`].
    pub async fn restart_master(&mut self, index: usize) -> Result<(), LocalError> {
        self.masters[index].restart()?;
        self.masters[index].address(READY_DEADLINE).await.map(drop)
    }

    /// Where the agents listen, `host:port`.
    pub fn agent_addresses(&self) -> &[String] {
        &self.agent_addresses
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
        let mut process = LocalProcess::start(agent_spec(&self.options, index, &self.master_addresses))?;
        let address = process.address(READY_DEADLINE).await?;
        process.spec_mut().args = agent_args(&self.options, index, &self.master_addresses, &address);
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

    /// Ends the agents with their tasks, then the masters, in order; what does not end in time is killed.
    pub async fn stop(mut self) {
        for agent in &mut self.agents {
            agent.signal(Signal::USR1);
        }
        for agent in &mut self.agents {
            agent.wait(STOP_DEADLINE).await;
        }
        for master in &mut self.masters {
            master.signal(Signal::TERM);
        }
        for master in &mut self.masters {
            master.wait(STOP_DEADLINE).await;
        }
        drop(self.ports);
    }
}

/// A group is formed once: another number of masters in the same directory would be another cluster, or none.
fn check_masters(options: &ClusterOptions) -> Result<(), LocalError> {
    let there = (0..)
        .take_while(|&index| master_directory(&options.directory, index).exists())
        .count();
    if there == 0 || there == options.masters {
        return Ok(());
    }
    Err(LocalError::OtherMasters {
        directory: options.directory.display().to_string(),
        there,
        wanted: options.masters,
    })
}

fn master_name(index: usize) -> String {
    match index {
        0 => "master".to_owned(),
        index => format!("master-{index}"),
    }
}

fn master_directory(directory: &Path, index: usize) -> PathBuf {
    directory.join(master_name(index))
}

fn master_spec(options: &ClusterOptions, index: usize, addresses: &[String]) -> ProcessSpec {
    let directory = master_directory(&options.directory, index);
    let mut args = vec![
        "master".to_owned(),
        format!("--listen={}", addresses[index]),
        format!("--work-dir={}", directory.join("work").display()),
    ];
    if addresses.len() > 1 {
        args.push(format!("--peers={}", addresses.join(",")));
    }
    args.extend(options.master_args.iter().cloned());
    ProcessSpec {
        name: master_name(index),
        program: options.program.clone(),
        args,
        environment: options.environment.clone(),
        directory,
    }
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

fn agent_spec(options: &ClusterOptions, index: usize, masters: &[String]) -> ProcessSpec {
    ProcessSpec {
        name: format!("agent-{index}"),
        program: options.program.clone(),
        args: agent_args(options, index, masters, "127.0.0.1:0"),
        environment: options.environment.clone(),
        directory: agent_directory(&options.directory, index),
    }
}

fn agent_args(options: &ClusterOptions, index: usize, masters: &[String], listen: &str) -> Vec<String> {
    let directory = agent_directory(&options.directory, index);
    let agent = &options.agents[index];
    let shared = std::path::absolute(&options.directory).unwrap_or_else(|_| options.directory.clone());
    let mut args = vec![
        "agent".to_owned(),
        format!("--master={}", masters.join(",")),
        format!("--listen={listen}"),
        format!("--work-dir={}", directory.join("work").display()),
        format!("--runtime-dir={}", directory.join("run").display()),
        format!("--cgroup-root={}-{index}", cgroup_prefix(&options.directory)),
        // What tasks of one machine share lies there.
        format!("--writable={}", shared.display()),
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
