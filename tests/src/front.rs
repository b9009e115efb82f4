//! A cluster with the services' scheduler, and real proxies before the services, which `proffer service render` keeps up to date.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use proffer::local::{LocalProcess, ProcessSpec};
use proffer_examples::load::Report;
use proffer_services::ServiceSpec;
use proffer_services::spec::{PortSpec, Probe, ReadinessCheck, Run};
use rustix::process::Signal;
use serde_json::Value;

use crate::cluster::{built, free_port};
use crate::http::request;
use crate::{Cluster, DEADLINE};

/// How often it is looked whether a condition holds.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A cluster with the services' scheduler, and proxies.
#[derive(Debug)]
pub struct Front {
    /// Present until it is stopped.
    cluster: Option<Cluster>,
    services: LocalProcess,
    control: String,
    directory: PathBuf,
    /// The proxies, each before what keeps its configuration.
    processes: Vec<LocalProcess>,
}

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
}

impl Proxy {
    fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// Whether it is there; prints `skipped: <reason>` where not.
    pub fn is_here(self) -> bool {
        let here = Command::new(self.name()).arg("-v").output().is_ok();
        if !here {
            println!("skipped: no {} here", self.name());
        }
        here
    }

    /// The line of the shell that runs it, and those that check its configuration and tell it of another.
    fn lines(self, directory: &Path) -> (String, String, String) {
        let at = directory.display();
        let signal = |signal: &str| format!("test ! -s {at}/pid || kill -{signal} $(cat {at}/pid)");
        match self {
            Self::Nginx => (
                format!("exec nginx -p {at} -e {at}/error.log -c {at}/nginx.conf"),
                format!("nginx -t -q -p {at} -e {at}/error.log -c {at}/nginx.conf"),
                signal("HUP"),
            ),
            Self::Haproxy => (
                format!("exec haproxy -W -db -q -p {at}/pid -f {at}/services.conf"),
                "haproxy -c -q -f $FILE".to_owned(),
                signal("USR2"),
            ),
        }
    }
}

/// A web service whose instances say when they are ready, and drain before they end.
///
/// # Errors
/// The program was not built.
pub fn web(id: &str, instances: u32) -> anyhow::Result<ServiceSpec> {
    let mut spec = ServiceSpec::command(id, String::new());
    let program = built("proffer-under-test")?.display().to_string();
    spec.run = Run::Argv(vec![program, "example-web".to_owned()]);
    spec.instances = instances;
    spec.ports = vec![PortSpec::any("http")];
    let mut readiness = ReadinessCheck::new(Probe::Http {
        port: "http".to_owned(),
        path: "/health".to_owned(),
    });
    readiness.interval_seconds = 0.2;
    spec.readiness = Some(readiness);
    spec.drain_seconds = 2.0;
    Ok(spec)
}

impl Front {
    /// Starts a cluster with the scheduler.
    ///
    /// # Errors
    /// Something did not come up.
    pub async fn start(mut cluster: Cluster, more: &[&str]) -> anyhow::Result<Self> {
        let directory = cluster.local().directory().to_owned();
        let master = cluster.local().master_address().to_owned();
        let args = ["services", "--control", "127.0.0.1:0", "--master", &master];
        let mut services = LocalProcess::start(ProcessSpec {
            name: "services".to_owned(),
            program: built("proffer-under-test")?,
            args: args.iter().chain(more).map(|arg| (*arg).to_owned()).collect(),
            environment: Vec::new(),
            directory: directory.join("services"),
        })?;
        let control = services.address(DEADLINE).await?;
        Ok(Self {
            cluster: Some(cluster),
            services,
            control,
            directory,
            processes: Vec::new(),
        })
    }

    /// The cluster.
    ///
    /// # Panics
    /// After [`Front::stop`].
    pub fn cluster(&mut self) -> &mut Cluster {
        self.cluster.as_mut().expect("the cluster runs")
    }

    /// Kills the scheduler as `kill -9` does, and starts it again.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart_scheduler(&mut self) -> anyhow::Result<()> {
        self.services.kill();
        self.services.restart()?;
        self.control = self.services.address(DEADLINE).await?;
        Ok(())
    }

    /// Starts one more scheduler, which stands by.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn standby(&mut self, more: &[&str]) -> anyhow::Result<()> {
        let mut spec = self.services.spec().clone();
        spec.name = "standby".to_owned();
        spec.directory = self.directory.join("standby");
        spec.args.truncate(5);
        spec.args.extend(more.iter().map(|arg| (*arg).to_owned()));
        let mut standby = LocalProcess::start(spec)?;
        standby.address(DEADLINE).await?;
        self.processes.push(standby);
        Ok(())
    }

    /// Asks the active scheduler.
    async fn ask(&self, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, Value)> {
        let (status, answer) = request(&self.control, method, path, body).await?;
        match answer["active"].as_str().filter(|_| status == 307) {
            Some(active) => request(active, method, path, body).await,
            None => Ok((status, answer)),
        }
    }

    /// Makes or changes a service.
    ///
    /// # Errors
    /// It is not accepted.
    pub async fn put(&self, spec: &ServiceSpec) -> anyhow::Result<()> {
        let path = format!("/v1/services/{}", spec.id);
        let (status, answer) = self.ask("PUT", &path, &serde_json::to_string(spec)?).await?;
        ensure!(matches!(status, 200 | 201), "PUT was answered with {status}: {answer}");
        Ok(())
    }

    /// Waits until all instances of a service have its version and are ready.
    ///
    /// # Errors
    /// They do not become so in time, or the update failed.
    pub async fn updated(&self, id: &str) -> anyhow::Result<Value> {
        let began = Instant::now();
        loop {
            let (_, service) = self.ask("GET", &format!("/v1/services/{id}"), "").await?;
            let wanted = &service["spec"]["instances"];
            let is_all = service["instances"].as_array().map(Vec::len).map(Value::from).as_ref() == Some(wanted);
            if service["update"]["state"] == "done" && service["ready"] == *wanted && is_all {
                return Ok(service);
            }
            ensure!(
                service["update"]["state"] != "paused",
                "the update is paused: {service}"
            );
            ensure!(began.elapsed() < DEADLINE, "not updated in time: {service}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Starts a proxy with what keeps its configuration; returns the address at which all services share a listener.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn proxy(&mut self, proxy: Proxy) -> anyhow::Result<String> {
        let directory = self.directory.join(proxy.name());
        std::fs::create_dir_all(&directory)?;
        let (run, check, reload) = proxy.lines(&directory);
        let at = directory.display();
        if proxy == Proxy::Nginx {
            let whole = format!(
                "daemon off;\nworker_processes 2;\npid {at}/pid;\nerror_log {at}/error.log;\nevents {{}}\n\
                 http {{\n    access_log off;\n    include {at}/services.conf;\n}}\n"
            );
            std::fs::write(directory.join("nginx.conf"), whole)?;
        }
        let shared = format!("127.0.0.1:{}", free_port()?);
        let master = self.cluster().local().master_address().to_owned();
        let out = directory.join("services.conf");
        let render = [
            "exec".to_owned(),
            built("proffer-under-test")?.display().to_string(),
            format!("service render --master {master} --template {}", proxy.name()),
            format!("--out {} --check '{check}' --reload '{reload}'", out.display()),
            format!("--set http={shared} --watch --interval 0.5"),
        ];
        self.shell(&format!("{}-render", proxy.name()), &render.join(" "))?;
        wait_for(&format!("{} to be made", out.display()), || out.is_file()).await?;
        self.shell(proxy.name(), &run)?;
        let (process, mut ended) = (&mut self.processes[0], false);
        let connects = || {
            ended = !process.is_running();
            ended || std::net::TcpStream::connect(&shared).is_ok()
        };
        wait_for(&format!("{} to listen at {shared}", proxy.name()), connects).await?;
        ensure!(!ended, "{} ended: {}", proxy.name(), process.log_tail());
        Ok(shared)
    }

    fn shell(&mut self, name: &str, line: &str) -> anyhow::Result<()> {
        let process = LocalProcess::start(ProcessSpec {
            name: name.to_owned(),
            program: "/bin/sh".into(),
            // What follows are parameters of the shell, which no line looks at.
            args: vec!["-c".to_owned(), line.to_owned()],
            environment: Vec::new(),
            directory: self.directory.join(format!("{name}-process")),
        })?;
        self.processes.insert(0, process);
        Ok(())
    }

    /// The ids of the requests that the web services logged.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn logged_ids(&mut self) -> anyhow::Result<Vec<String>> {
        let mut ids = Vec::new();
        let agents = self.cluster().local().agent_addresses().len();
        for agent in 0..agents {
            let sandboxes = self.cluster().local().agent_work_directory(agent).join("sandboxes");
            for log in files_named(&sandboxes, "access.log") {
                for line in std::fs::read_to_string(log)?.lines() {
                    let line: Value = serde_json::from_str(line)?;
                    ids.push(line["id"].as_str().context("a line without an id")?.to_owned());
                }
            }
        }
        Ok(ids)
    }

    /// Ends everything.
    ///
    /// # Errors
    /// Something did not end as it should.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for mut process in std::mem::take(&mut self.processes) {
            process.signal(Signal::TERM);
            let status = process.wait(DEADLINE).await;
            ensure!(status.is_some(), "{} did not end", process.spec().name);
        }
        self.services.signal(Signal::TERM);
        let status = self.services.wait(DEADLINE).await;
        ensure!(
            status.is_some_and(|status| status.success()),
            "the scheduler ended with {status:?}"
        );
        match self.cluster.take() {
            Some(cluster) => cluster.stop().await,
            None => Ok(()),
        }
    }
}

impl Drop for Front {
    /// Workers of a proxy outlive one that is killed, so it is asked to end.
    fn drop(&mut self) {
        for process in &mut self.processes {
            process.signal(Signal::TERM);
        }
        let began = Instant::now();
        while self.processes.iter_mut().any(LocalProcess::is_running) && began.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// How the requests of a load went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Those that were answered by a status from 200 to 299.
    pub good: u64,
    /// Those that were answered otherwise, or reached an instance and got no whole answer.
    pub failed: u64,
    /// Those whose kept connection was closed before they reached an instance: a client sends them again (RFC 9110, 9.2.2).
    pub resent: u64,
}

impl Outcome {
    /// That of a load of requests that may be repeated, by what the instances logged.
    pub fn of(report: &Report, logged: &[String]) -> Self {
        let comparison = report.compare(logged.iter().map(String::as_str));
        let good = |status: &u16| (200..300).contains(status);
        let good: u64 = report
            .statuses
            .iter()
            .filter(|(status, _)| good(status))
            .map(|(_, count)| count)
            .sum();
        Self {
            good,
            failed: report.answered - good + comparison.ambiguous_logged,
            resent: u64::try_from(report.ambiguous.len()).unwrap_or(u64::MAX) - comparison.ambiguous_logged,
        }
    }
}

async fn wait_for(what: &str, mut holds: impl FnMut() -> bool) -> anyhow::Result<()> {
    let began = Instant::now();
    while !holds() {
        ensure!(began.elapsed() < DEADLINE, "waited too long for {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
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
