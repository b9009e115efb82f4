//! An agent whose disk is full waits for room, says so, and loses nothing.

mod support;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use proffer_proto::link::{Ping, master_message};
use proffer_proto::v1::TaskState::*;
use support::{AgentProcess, FakeMaster, can_contain, shell, until};

/// A file system of its own, small, in memory.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// None, with the reason said, where the host cannot.
    fn new(path: PathBuf) -> anyhow::Result<Option<Self>> {
        std::fs::create_dir_all(&path)?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m,mode=755", "proffer-test"])
            .arg(&path)
            .status()?;
        if !mounted.success() {
            eprintln!("skipped: nothing can be mounted here");
            return Ok(None);
        }
        Ok(Some(Self { path }))
    }

    fn fill(&self) -> anyhow::Result<()> {
        let mut file = std::fs::File::create(self.path.join("filler"))?;
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        Ok(())
    }

    fn empty(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.path.join("filler"))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: where a test fails, the agent still uses it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

async fn said(log: &Path, text: &str, times: usize) -> anyhow::Result<()> {
    until(&format!("the agent says {text:?}"), || {
        let log = std::fs::read_to_string(log).ok()?;
        (log.matches(text).count() >= times).then_some(())
    })
    .await
}

const FULL: &str = "no task is started and no update sent until there is room";

#[tokio::test]
async fn an_agent_with_a_full_disk_waits_for_room_and_loses_nothing() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::prepare(&master.address)?;
    agent.work = agent.path("disk").join("work");
    let Some(disk) = SmallDisk::new(agent.path("disk"))? else {
        return Ok(());
    };
    agent.restart()?;
    master.registered(1).await?;
    for id in ["one", "two"] {
        master.launch(shell(id, "sleep 1000")).await?;
        master.update(id, TaskRunning).await?;
    }

    // More than there is space allocated ahead for.
    disk.fill()?;
    for id in ["a", "b", "c", "d"] {
        let mut large = shell(id, "sleep 1000");
        large.data = Some(vec![7; 400_000]);
        master.launch(large).await?;
    }
    said(&agent.path("log"), FULL, 1).await?;
    master.kill("one", Duration::from_millis(200)).await?;
    master.send(master_message::Body::Ping(Ping { sequence: 77 })).await?;
    until("a ping is answered", || {
        master.look(|state| state.pongs.contains(&77).then_some(()))
    })
    .await?;
    let ended = master.look(|state| {
        let mut updates = state.updates.iter();
        updates.any(|update| update.status.task_id.value == "one" && update.status.state() != TaskRunning)
    });
    ensure!(!ended, "what is not in the journal was said");

    // An agent that is started then has what was in the journal, and is of use.
    agent.kill().await?;
    agent.restart()?;
    let register = master.registered(2).await?;
    let known: Vec<&str> = register.tasks.iter().map(|task| task.task_id.value.as_str()).collect();
    ensure!(known.contains(&"one") && known.contains(&"two"), "{known:?}");
    said(&agent.path("log"), "the journal is used as it is", 1).await?;
    for id in ["e", "f", "g", "h"] {
        let mut large = shell(id, "sleep 1000");
        large.data = Some(vec![7; 400_000]);
        master.launch(large).await?;
    }
    said(&agent.path("log"), FULL, 2).await?;
    master.kill("two", Duration::from_millis(200)).await?;

    disk.empty()?;
    master.update("two", TaskKilled).await?;
    master.kill("one", Duration::from_millis(200)).await?;
    master.update("one", TaskKilled).await?;
    master.update("h", TaskRunning).await?;
    said(&agent.path("log"), "the disk has room again", 1).await?;
    agent.signal(rustix::process::Signal::USR1)?;
    ensure!(agent.ended().await?.success(), "the agent did not leave in order");
    // Nothing is left to be taken along by the end of the test.
    agent.work = agent.path("work");
    Ok(())
}
