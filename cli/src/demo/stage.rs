//! What the demo plays on: a local cluster, the service framework and the streaming job.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use proffer_sdk::Masters;
use proffer_services::spec::PortSpec;
use proffer_services::{Catalogue, Remote, ServiceSpec};
use proffer_streaming::scheduler::{JobHandle, JobSpec};
use serde::Deserialize;
use tokio::sync::watch;

use super::{failed, say, with_deadline};
use crate::exit::{Failure, FailureKind};
use crate::local::{AgentOptions, ClusterOptions, LocalCluster, cgroups_left};

pub(crate) const MASTERS: usize = 3;
const AGENTS: u16 = 2;
const INSTANCES: u32 = 3;
const WORKERS: usize = 2;
const PORTS_PER_AGENT: u16 = 20;
/// As whom everything runs that is not Proffer.
const USER: &str = "nobody";
const SERVICE: &str = "web";

/// A cluster with its frameworks.
pub(crate) struct Stage {
    directory: PathBuf,
    program: PathBuf,
    cluster: LocalCluster,
    services: Option<proffer_services::Handle>,
}

/// The web service: where its instances are.
pub(crate) struct Web {
    pub(crate) addresses: watch::Receiver<Vec<String>>,
}

/// The running streaming job.
pub(crate) struct Job {
    pub(crate) handle: JobHandle,
}

impl Stage {
    /// Starts the cluster.
    pub(crate) async fn set(directory: Option<PathBuf>) -> Result<Self, Failure> {
        let directory =
            directory.unwrap_or_else(|| PathBuf::from(format!("/var/tmp/proffer-demo-{}", std::process::id())));
        // Tasks run as another user and must be able to execute the program, wherever it was built.
        let program = directory.join("bin").join("proffer");
        let copied = copy_program(&program);
        copied.map_err(|error| failed(&format!("copy the program to {}", program.display()), error))?;
        let first_port = free_ports(AGENTS * PORTS_PER_AGENT)?;
        let agents = (0..AGENTS)
            .map(|index| agent(first_port + index * PORTS_PER_AGENT))
            .collect();
        let began = Instant::now();
        let cluster = LocalCluster::start(ClusterOptions {
            program: program.clone(),
            directory: directory.clone(),
            masters: MASTERS,
            master_listen: "127.0.0.1:0".to_owned(),
            master_args: Vec::new(),
            agents,
            environment: Vec::new(),
        })
        .await?;
        say(format!(
            "{MASTERS} masters and {AGENTS} agents are up after {} ms; their files are in {}",
            began.elapsed().as_millis(),
            directory.display()
        ));
        Ok(Stage {
            directory,
            program,
            cluster,
            services: None,
        })
    }

    pub(crate) fn masters(&self) -> Masters {
        self.cluster.masters()
    }

    pub(crate) fn cluster(&mut self) -> &mut LocalCluster {
        &mut self.cluster
    }

    pub(crate) fn agent_addresses(&self) -> Vec<String> {
        self.cluster.agent_addresses().to_vec()
    }

    /// Deploys the web service and waits until all its instances run.
    pub(crate) async fn deploy_web(&mut self) -> Result<Web, Failure> {
        let mut config = proffer_services::Config::new(self.masters(), self.directory.join("services"));
        config.user = Some(USER.to_owned());
        let handle = proffer_services::run(config)
            .await
            .map_err(|error| failed("start the service framework", error))?;
        let mut spec = ServiceSpec::command(SERVICE, format!("exec {} example-web", self.program.display()));
        spec.instances = INSTANCES;
        spec.cpus = 0.2;
        spec.mem = 64.0;
        spec.ports = vec![PortSpec::any("http")];
        spec.backoff.initial_ms = 100;
        let remote = handle.remote().clone();
        self.services = Some(handle);
        remote
            .put(spec)
            .await
            .map_err(|error| failed("deploy the service", error))?;
        let settled = remote.wait_for(|catalogue| catalogue.services.get(SERVICE).is_some_and(|web| web.is_settled()));
        let catalogue = with_deadline("the service", settled)
            .await?
            .map_err(|error| failed("wait", error))?;
        say(format!(
            "service `{SERVICE}`: {INSTANCES} instances at {}",
            catalogue.addresses(SERVICE, "http").join(" ")
        ));
        Ok(Web {
            addresses: follow_addresses(remote.watch()),
        })
    }

    /// Starts the streaming job over the service's access logs.
    pub(crate) async fn start_job(&mut self) -> Result<Job, Failure> {
        let mut spec = JobSpec::new("access", WORKERS, self.directory.join("stream"));
        for index in 0..usize::from(AGENTS) {
            let sandboxes = self.cluster.agent_work_directory(index).join("sandboxes");
            spec = spec.source(format!("{}/**/access.log", sandboxes.display()));
        }
        spec.user = Some(USER.to_owned());
        spec.worker_binary = Some(self.program.clone());
        let prepared = proffer_streaming::scheduler::prepare(spec, self.masters());
        let (handle, job) = prepared.map_err(|error| failed("prepare the streaming job", error))?;
        tokio::spawn(job.run());
        let status = with_deadline("the streaming job", handle.wait_running()).await?;
        let workers: Vec<&str> = status.workers.iter().map(|worker| worker.address.as_str()).collect();
        if let Some(outcome) = status.outcome {
            return Err(failed(
                "start the streaming job",
                format!("{outcome:?}: {:?}", status.last_failure),
            ));
        }
        say(format!(
            "streaming job: {WORKERS} workers, data plane at {}",
            workers.join(" ")
        ));
        Ok(Job { handle })
    }

    pub(crate) fn remote(&self) -> &Remote {
        self.services
            .as_ref()
            .expect("the service is deployed before it is asked about")
            .remote()
    }

    pub(crate) fn catalogue(&self) -> Catalogue {
        self.remote().catalogue()
    }

    /// The request ids in all access logs, with repetitions.
    pub(crate) fn logged_ids(&self) -> Result<Vec<String>, Failure> {
        #[derive(Deserialize)]
        struct Line {
            id: String,
        }
        let mut ids = Vec::new();
        for index in 0..usize::from(AGENTS) {
            let sandboxes = self.cluster.agent_work_directory(index).join("sandboxes");
            for log in files_named(&sandboxes, "access.log") {
                let text = std::fs::read_to_string(&log).map_err(|error| failed("read an access log", error))?;
                for line in text.lines() {
                    let line: Line =
                        serde_json::from_str(line).map_err(|error| failed("read a line of an access log", error))?;
                    ids.push(line.id);
                }
            }
        }
        Ok(ids)
    }

    /// Ends everything; returns what is left that should not be.
    pub(crate) async fn strike(mut self, remove: bool) -> Result<Vec<String>, Failure> {
        if let Some(services) = self.services.take() {
            let torn_down = with_deadline("the service framework to end", services.teardown()).await?;
            torn_down.map_err(|error| failed("end the service framework", error))?;
        }
        let (directory, program) = (self.directory.clone(), self.program.clone());
        let cgroups = self.cluster.cgroup_prefix();
        self.cluster.stop().await;
        let left = left_behind(&program, &cgroups);
        if remove && left.is_empty() {
            std::fs::remove_dir_all(&directory)
                .map_err(|error| failed(&format!("remove {}", directory.display()), error))?;
        }
        Ok(left)
    }
}

/// Processes of the demo's program that still run, and cgroups that are still there.
fn left_behind(program: &Path, cgroups: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut left: Vec<String> = processes
        .filter(|entry| std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == *program))
        .map(|entry| format!("process {}", entry.file_name().to_string_lossy()))
        .collect();
    let groups = cgroups_left(cgroups);
    left.extend(groups.iter().map(|group| format!("cgroup {}", group.display())));
    left
}

fn copy_program(target: &Path) -> std::io::Result<()> {
    let directory = target.parent().expect("the target lies in a directory");
    std::fs::create_dir_all(directory)?;
    for path in [directory.parent().unwrap_or(directory), directory] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755))?;
    }
    std::fs::copy(std::env::current_exe()?, target)?;
    std::fs::set_permissions(target, PermissionsExt::from_mode(0o755))
}

fn agent(first_port: u16) -> AgentOptions {
    let last_port = first_port + PORTS_PER_AGENT - 1;
    AgentOptions {
        resources: Some(format!("cpus:2;mem:1024;disk:4096;ports:[{first_port}-{last_port}]")),
        ..AgentOptions::default()
    }
}

/// Consecutive ports that nobody uses now, below the ephemeral range.
fn free_ports(count: u16) -> Result<u16, Failure> {
    let start = 20_000 + (std::process::id() % 200) as u16 * 50;
    let candidates = (0..200).map(|step| 20_000 + (start - 20_000 + step * 50) % 10_000);
    candidates
        .into_iter()
        .find(|&first| (first..first + count).all(|port| TcpListener::bind(("0.0.0.0", port)).is_ok()))
        .ok_or_else(|| {
            Failure::new(
                FailureKind::Failed,
                format!("no {count} consecutive free ports in 20000-30000"),
            )
        })
}

/// The addresses of the service, as they change.
fn follow_addresses(mut catalogue: watch::Receiver<Catalogue>) -> watch::Receiver<Vec<String>> {
    let (sender, receiver) = watch::channel(catalogue.borrow().addresses(SERVICE, "http"));
    tokio::spawn(async move {
        while catalogue.changed().await.is_ok() {
            let addresses = catalogue.borrow_and_update().addresses(SERVICE, "http");
            if sender.send(addresses).is_err() {
                return;
            }
        }
    });
    receiver
}

fn files_named(root: &Path, name: &str) -> Vec<PathBuf> {
    let (mut found, mut directories) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => directories.push(entry.path()),
                Ok(_) if entry.file_name() == name => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}
