//! An agent as a process: this benchmark again, which may hold memory that the agent does not need.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command};

use anyhow::{Context, ensure};
use clap::Parser;

use crate::master::{Link, Master};

const AS_AGENT: &str = "as-agent";

#[derive(Debug, Parser)]
struct Arguments {
    /// Memory to hold, MiB.
    #[arg(long)]
    ballast: usize,
    #[command(flatten)]
    agent: proffer_agent::Args,
}

/// The arguments of a process that is to be an agent.
pub(crate) fn own_arguments() -> Option<Vec<OsString>> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == AS_AGENT).then(|| std::iter::once(AS_AGENT.into()).chain(arguments).collect())
}

/// Is the agent until it is told to stop.
pub(crate) fn run(arguments: Vec<OsString>) -> anyhow::Result<()> {
    let arguments = Arguments::try_parse_from(arguments)?;
    let ballast = vec![1_u8; arguments.ballast << 20];
    let _ended = proffer_agent::main_with(arguments.agent);
    drop(std::hint::black_box(ballast));
    Ok(())
}

/// An agent that is registered at a scripted master of its own.
pub(crate) struct Agent {
    pub(crate) link: Link,
    process: Child,
    cgroup_root: String,
}

impl Agent {
    pub(crate) async fn start(directory: &Path, ballast_mib: usize) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let master = Master::start().await?;
        let name = directory.file_name().context("the directory has a name")?;
        let cgroup_root = format!("proffer-bench-{}-{}", std::process::id(), name.display());
        let log = std::fs::File::create(directory.join("log"))?;
        let process = Command::new(std::env::current_exe()?)
            .arg(AS_AGENT)
            .arg(format!("--ballast={ballast_mib}"))
            .arg(format!("--master={}", master.address))
            .arg("--listen=127.0.0.1:0")
            .arg(format!("--work-dir={}", directory.join("work").display()))
            .arg(format!("--runtime-dir={}", directory.join("run").display()))
            .arg(format!("--cgroup-root={cgroup_root}"))
            .arg("--resources=cpus:1000;mem:64000;disk:1000000")
            .stderr(log)
            .spawn()?;
        let mut agent = Agent {
            link: master.attached().await?,
            process,
            cgroup_root,
        };
        ensure!(agent.process.try_wait()?.is_none(), "the agent ended");
        Ok(agent)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How many containers have a cgroup, in the hierarchy that has most.
    pub(crate) fn cgroups(&self) -> anyhow::Result<usize> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let mounted = proffer_agent::cgroups::parse_mounts(&mounts);
        let mounts = mounted.v1.into_iter().map(|(_, path)| path).chain(mounted.v2);
        let counts = mounts.filter_map(|mount| std::fs::read_dir(mount.join(&self.cgroup_root)).ok());
        let directories = counts.map(|entries| entries.flatten().filter(|entry| entry.path().is_dir()).count());
        Ok(directories.max().unwrap_or(0))
    }
}

impl Drop for Agent {
    /// Its containers have ended by then.
    fn drop(&mut self) {
        let pid = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::USR1);
        }
        let _ = self.process.wait();
    }
}
