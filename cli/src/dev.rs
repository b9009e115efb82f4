//! `proffer dev`: a cluster on this machine in one command.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::exit::{Failure, FailureKind};
use crate::local::{AgentOptions, ClusterOptions, LocalCluster};
use crate::preflight;

#[derive(Debug, clap::Args)]
pub(crate) struct DevArgs {
    /// Where the cluster keeps its state; it is found again there by the next `proffer dev`.
    #[arg(long, default_value = "/var/tmp/proffer-dev", value_name = "PATH")]
    pub(crate) dir: PathBuf,
    /// Where the first master listens; the others take the ports after it.
    #[arg(long, default_value = "127.0.0.1:5050", value_name = "IP:PORT")]
    pub(crate) listen: String,
    /// How many masters; with three, one may be lost at any moment.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub(crate) masters: u16,
    /// How many agents; they share the ports 31000-31999 evenly.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=50))]
    pub(crate) agents: u16,
    /// The resources of each agent, for example `cpus:2;mem:1024`; what the machine has, divided evenly, if unset.
    #[arg(long)]
    pub(crate) resources: Option<String>,
    /// Let frameworks run tasks as root.
    #[arg(long)]
    pub(crate) allow_root_tasks: bool,
    /// Directories of this machine in which tasks may write besides their sandbox, such as the out-dir of a streaming job.
    #[arg(long, value_delimiter = ',', value_name = "DIR")]
    pub(crate) writable: Vec<std::path::PathBuf>,
}

/// Starts the cluster and stays until it is interrupted.
pub(crate) async fn run(args: &DevArgs) -> Result<(), Failure> {
    let missing = preflight::check();
    if !missing.is_empty() {
        let text = format!("this machine cannot isolate tasks:{}", preflight::describe(&missing));
        return Err(Failure::new(FailureKind::Unsupported, text));
    }
    let started = Instant::now();
    std::fs::create_dir_all(&args.dir).map_err(|error| {
        Failure::new(
            FailureKind::Failed,
            format!("cannot create {}: {error}", args.dir.display()),
        )
    })?;
    let options = ClusterOptions {
        program: std::env::current_exe()?,
        directory: args.dir.clone(),
        masters: usize::from(args.masters),
        master_listen: args.listen.clone(),
        master_args: Vec::new(),
        agents: (0..args.agents).map(|index| agent(args, index)).collect(),
        environment: Vec::new(),
    };
    let mut cluster = LocalCluster::start(options).await?;
    eprintln!("ready after {} ms", started.elapsed().as_millis());
    let leader = cluster.leader(Duration::from_secs(10)).await?;
    for (index, address) in cluster.master_addresses().iter().enumerate() {
        match (args.masters, index == leader) {
            (1, _) => eprintln!("  master  {address}"),
            (_, true) => eprintln!("  master {index} {address} (leads)"),
            (_, false) => eprintln!("  master {index} {address}"),
        }
    }
    for (index, address) in cluster.agent_addresses().iter().enumerate() {
        eprintln!("  agent {index} {address}");
    }
    eprintln!("  state   {}", args.dir.display());
    let masters = cluster.masters().to_string();
    if masters != "127.0.0.1:5050" {
        eprintln!("  for other commands: export PROFFER_MASTER={masters}");
    }
    eprintln!("try `proffer agents` in another terminal; Ctrl-C stops the cluster and its tasks");
    watch(&mut cluster).await?;
    eprintln!("stopping");
    cluster.stop().await;
    Ok(())
}

/// Returns when the user interrupts; fails when an agent or most masters ended by themselves.
async fn watch(cluster: &mut LocalCluster) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut lost = BTreeSet::new();
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
        let masters = cluster.master_addresses().len();
        for index in 0..masters {
            if !cluster.master_at(index).is_running() && lost.insert(index) {
                eprintln!(
                    "master {index} ended; its log is {}",
                    cluster.master_at(index).log_file().display()
                );
            }
            // The rest is no majority.
            if (masters - lost.len()) * 2 <= masters {
                return Err(ended(&format!("master {index}"), &cluster.master_at(index).log_tail()));
            }
        }
        for index in 0..cluster.agent_addresses().len() {
            if !cluster.agent(index).is_running() {
                return Err(ended(&format!("agent {index}"), &cluster.agent(index).log_tail()));
            }
        }
    }
}

fn ended(what: &str, log: &str) -> Failure {
    Failure::new(
        FailureKind::Failed,
        format!("{what} ended by itself; the end of its log:\n{log}"),
    )
}

fn agent(args: &DevArgs, index: u16) -> AgentOptions {
    let share = 1000 / args.agents;
    let (begin, end) = (31000 + index * share, 31000 + (index + 1) * share - 1);
    let amounts = args.resources.clone().unwrap_or_else(|| share_of_machine(args.agents));
    let resources = if amounts.contains("ports") {
        amounts
    } else {
        format!("{amounts};ports:[{begin}-{end}]")
    };
    let mut flags = Vec::new();
    if args.allow_root_tasks {
        flags.push("--allow-root-tasks".to_owned());
    }
    flags.extend(
        args.writable
            .iter()
            .map(|path| format!("--writable={}", path.display())),
    );
    AgentOptions {
        resources: Some(resources),
        attributes: None,
        args: flags,
    }
}

/// An even share of the cores, of three quarters of the memory, and of 10 GiB of disk.
fn share_of_machine(agents: u16) -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
    let memory_mib = rustix::system::sysinfo().totalram as f64 / (1024.0 * 1024.0) * 0.75;
    let agents = f64::from(agents);
    format!(
        "cpus:{:.3};mem:{};disk:{}",
        cores / agents,
        (memory_mib / agents) as u64,
        (10_240.0 / agents) as u64
    )
}
