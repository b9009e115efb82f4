//! A local cluster of real processes for one test.
//!
//! The processes listen on kernel-chosen ports and keep their state and logs in a directory of the test, which is
//! removed by [`Cluster::stop`] and kept, with its path printed, where the test does not come so far.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use proffer::local::{AgentOptions, ClusterOptions, LocalCluster, LocalProcess, ProcessSpec, cgroups_left};
use proffer_proto::api::masters_client::MastersClient;
use proffer_proto::masters::{ListMasters, Master, MastersList};
use proffer_sdk::Masters;
use proffer_sdk::operator::{AgentClient, OperatorClient};
use tonic::transport::Endpoint;

use crate::faults;
use crate::framework::TestFramework;

/// Each agent of a test process gets this many ports of its own.
const PORTS_PER_AGENT: u16 = 20;
/// Below every ephemeral range in use.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A follower under load is never without something on its way to it.
const BEHIND_MAX: u64 = 100;

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    local: Option<LocalCluster>,
    ports: Vec<(u16, u16)>,
    expected_errors: Vec<String>,
}

/// Says what a cluster consists of.
#[derive(Debug)]
pub struct Builder {
    name: String,
    masters: usize,
    agents: usize,
    cpus: f64,
    mem_mib: u64,
    disk_mib: u64,
    master_args: Vec<String>,
    agent_args: Vec<String>,
    faults: bool,
    program: Option<PathBuf>,
}

impl Builder {
    /// So many masters; one unless told otherwise.
    pub fn masters(mut self, masters: usize) -> Self {
        self.masters = masters;
        self
    }

    /// So many agents; one unless told otherwise.
    pub fn agents(mut self, agents: usize) -> Self {
        self.agents = agents;
        self
    }

    /// The processors of each agent.
    pub fn cpus(mut self, cpus: f64) -> Self {
        self.cpus = cpus;
        self
    }

    /// The memory of each agent, MiB.
    pub fn mem(mut self, mem_mib: u64) -> Self {
        self.mem_mib = mem_mib;
        self
    }

    /// The disk of each agent, MiB; with none, tasks that take all of an offer have no limit of it.
    pub fn disk(mut self, disk_mib: u64) -> Self {
        self.disk_mib = disk_mib;
        self
    }

    /// One more argument for every master.
    pub fn master_arg(mut self, arg: impl Into<String>) -> Self {
        self.master_args.push(arg.into());
        self
    }

    /// One more argument for every agent.
    pub fn agent_arg(mut self, arg: impl Into<String>) -> Self {
        self.agent_args.push(arg.into());
        self
    }

    /// Its processes can be made to fail by [`crate::faults`].
    pub fn faults(mut self) -> Self {
        self.faults = true;
        self
    }

    /// Its processes are of another build of `proffer-under-test`, with which this one is to be compared.
    pub fn program(mut self, program: Option<PathBuf>) -> Self {
        self.program = program;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// A process did not come up; the error holds the end of its log.
    pub async fn start(mut self) -> anyhow::Result<Cluster> {
        // Frameworks that a test plays by hand hold offers while it looks at something else.
        if !self.master_args.iter().any(|arg| arg.starts_with("--offer-patience")) {
            self.master_args.push("--offer-patience=1min".to_owned());
        }
        let ports: Vec<(u16, u16)> = (0..self.agents).map(|_| own_ports()).collect();
        let agents = ports
            .iter()
            .map(|(begin, end)| AgentOptions {
                resources: Some(format!(
                    "cpus:{};mem:{};disk:{};ports:[{begin}-{end}]",
                    self.cpus, self.mem_mib, self.disk_mib
                )),
                attributes: None,
                args: self.agent_args.clone(),
            })
            .collect();
        let directory = PathBuf::from(format!("/var/tmp/proffer-test-{}-{}", std::process::id(), self.name));
        let mut environment = vec![("RUST_BACKTRACE".to_owned(), "1".to_owned())];
        if self.faults {
            environment.push(faults::file_below(&directory));
        }
        let options = ClusterOptions {
            program: self.program.map_or_else(|| built("proffer-under-test"), Ok)?,
            directory,
            masters: self.masters,
            master_listen: "127.0.0.1:0".to_owned(),
            master_args: self.master_args,
            agents,
            environment,
        };
        let local = LocalCluster::start(options).await?;
        Ok(Cluster {
            name: self.name,
            local: Some(local),
            ports,
            expected_errors: Vec::new(),
        })
    }
}

impl Cluster {
    /// A cluster for the test of that name.
    pub fn builder(name: &str) -> Builder {
        Builder {
            name: name.to_owned(),
            masters: 1,
            agents: 1,
            cpus: 4.0,
            mem_mib: 1024,
            disk_mib: 1024,
            master_args: Vec::new(),
            agent_args: vec!["--allow-root-tasks".to_owned()],
            faults: false,
            program: None,
        }
    }

    /// Its processes.
    ///
    /// # Panics
    /// After [`Cluster::stop`].
    pub fn local(&mut self) -> &mut LocalCluster {
        self.local.as_mut().expect("the cluster is running")
    }

    /// The process of the first master.
    pub fn master(&mut self) -> &mut LocalProcess {
        self.local().master()
    }

    /// An agent's process.
    pub fn agent(&mut self, index: usize) -> &mut LocalProcess {
        self.local().agent(index)
    }

    /// The ports of an agent, both ends included.
    pub fn ports(&self, agent: usize) -> (u16, u16) {
        self.ports[agent]
    }

    /// Where its masters are.
    pub fn masters(&mut self) -> Masters {
        self.local().masters()
    }

    /// Asks its leading master.
    pub fn operator(&mut self) -> OperatorClient {
        OperatorClient::new(self.masters())
    }

    /// Asks one of its agents.
    pub async fn agent_client(&mut self, index: usize) -> anyhow::Result<AgentClient> {
        let address = self.local().agent_addresses()[index].clone();
        Ok(AgentClient::connect(&address).await?)
    }

    /// Kills an agent as `kill -9` does and starts it again.
    pub async fn restart_agent(&mut self, index: usize) -> anyhow::Result<()> {
        self.agent(index).kill();
        self.agent(index).restart()?;
        self.agent(index).address(crate::DEADLINE).await?;
        Ok(())
    }

    /// Kills the first master as `kill -9` does and starts it again.
    pub async fn restart_master(&mut self) -> anyhow::Result<()> {
        self.master().kill();
        self.master().restart()?;
        self.master().address(crate::DEADLINE).await?;
        Ok(())
    }

    /// Waits until a master leads, and returns its index.
    pub async fn leader(&mut self) -> anyhow::Result<usize> {
        Ok(self.local().leader(crate::DEADLINE).await?)
    }

    /// Kills the leader as `kill -9` does, and returns its index.
    pub async fn kill_leader(&mut self) -> anyhow::Result<usize> {
        let leader = self.leader().await?;
        self.local().kill_master(leader);
        Ok(leader)
    }

    /// The group as its leader knows it.
    ///
    /// # Errors
    /// No master leads.
    pub async fn group(&mut self) -> anyhow::Result<MastersList> {
        let leader = self.leader().await?;
        let address = self.local().master_addresses()[leader].clone();
        group_at(&address).await
    }

    /// Waits until the group is as `holds` says.
    pub async fn wait_for_group(&mut self, what: &str, holds: impl Fn(&MastersList) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + crate::DEADLINE;
        loop {
            let seen = self.group().await;
            if seen.as_ref().is_ok_and(&holds) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "waited for {what} in vain: {seen:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until every member is reached by the leader and lacks nothing.
    pub async fn caught_up(&mut self) -> anyhow::Result<()> {
        let whole = |group: &MastersList| {
            let up = |master: &Master| master.leads || (master.reachable() && master.behind_entries() <= BEHIND_MAX);
            group.masters.iter().all(up)
        };
        self.wait_for_group("all masters to have caught up", whole).await
    }

    /// Starts one more master, which is not of the cluster's own count; returns it and its address.
    pub async fn newcomer(&mut self, name: &str, args: &[String]) -> anyhow::Result<(LocalProcess, String)> {
        let directory = self.local().directory().join(name);
        let mut all = vec![
            "master".to_owned(),
            "--listen=127.0.0.1:0".to_owned(),
            format!("--work-dir={}", directory.join("work").display()),
        ];
        all.extend_from_slice(args);
        let mut process = LocalProcess::start(ProcessSpec {
            name: name.to_owned(),
            program: built("proffer-under-test")?,
            args: all,
            environment: Vec::new(),
            directory,
        })?;
        let address = process.address(crate::DEADLINE).await?;
        process.spec_mut().args[1] = format!("--listen={address}");
        Ok((process, address))
    }

    /// A framework of this test, subscribed.
    pub async fn framework(&mut self, name: &str) -> anyhow::Result<TestFramework> {
        TestFramework::subscribe(self.masters(), proffer_sdk::Framework::new(name).build()).await
    }

    /// An ERROR line with this text in a log is what the test wants.
    pub fn expect_error(&mut self, text: &str) {
        self.expected_errors.push(text.to_owned());
    }

    /// Stops everything in order, and looks whether anything was left behind or went wrong unannounced.
    ///
    /// # Errors
    /// A process wrote an ERROR line that the test did not announce, or a cgroup or process is left.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let local = self.local.take().context("the cluster is running")?;
        let directory = local.directory().to_owned();
        let cgroups = local.cgroup_prefix();
        local.stop().await;
        if let Some(left) = cgroups_left(&cgroups).first() {
            bail!("a cgroup is left: {}", left.display());
        }
        let unannounced = self.unannounced_errors(&directory)?;
        if !unannounced.is_empty() {
            bail!("ERROR lines in {}:\n{}", directory.display(), unannounced.join("\n"));
        }
        std::fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
        Ok(())
    }

    fn unannounced_errors(&self, directory: &std::path::Path) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let log = entry?.path().join("log");
            let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
            let errors = text
                .lines()
                .filter(|line| line.contains("ERROR") || line.contains("panicked at"));
            found.extend(
                errors
                    .filter(|line| !self.expected_errors.iter().any(|expected| line.contains(expected)))
                    .map(|line| format!("{}: {line}", log.display())),
            );
        }
        Ok(found)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Some(mut local) = self.local.take() else { return };
        eprintln!(
            "test {} did not stop its cluster: its files are in {}",
            self.name,
            local.directory().display()
        );
        // Tasks outlive a killed agent, so the agents are asked to end theirs first.
        for index in 0..self.ports.len() {
            let agent = local.agent(index);
            if !agent.is_running() {
                let _ = agent.restart();
            }
            agent.signal(rustix::process::Signal::USR1);
        }
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_secs(10)
            && (0..self.ports.len()).any(|index| local.agent(index).is_running())
        {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// The group as the master at that address knows it.
///
/// # Errors
/// It does not answer.
pub async fn group_at(address: &str) -> anyhow::Result<MastersList> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let list = MastersClient::new(channel).list(ListMasters {}).await?;
    Ok(list.into_inner())
}

/// Ports that no other cluster of this process uses; two test processes at once begin at different places.
fn own_ports() -> (u16, u16) {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let blocks = (PORTS.end - PORTS.start) / PORTS_PER_AGENT;
    let offset = (std::process::id() % u32::from(blocks)) as u16;
    let block = (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % blocks;
    let begin = PORTS.start + block * PORTS_PER_AGENT;
    (begin, begin + PORTS_PER_AGENT - 1)
}

/// A port that nobody uses now, and that no connection is given by chance.
///
/// # Errors
/// There is none.
pub fn free_port() -> anyhow::Result<u16> {
    let (begin, end) = own_ports();
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (begin..=end).find(is_free).context("none of twenty ports is free")
}

/// A binary that was built beside the test.
///
/// # Errors
/// It is not there.
pub fn built(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let directory = test
        .parent()
        .and_then(std::path::Path::parent)
        .context("the test binary has no directory")?;
    let binary = directory.join(name);
    if !binary.is_file() {
        bail!(
            "{} is not there; `cargo test -p proffer-tests` builds it",
            binary.display()
        );
    }
    Ok(binary)
}
