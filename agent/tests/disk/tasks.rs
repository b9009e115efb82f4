//! Tasks with a `disk`, under an agent.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use proffer_proto::v1::TaskState::{TaskFailed, TaskFinished, TaskRunning};
use proffer_proto::v1::task_status::Reason;
use proffer_proto::v1::{self, agent::call};

use super::support::{AgentProcess, FakeMaster, can_contain, read_file, shell, until};

pub(super) const MIB: u64 = 1 << 20;

pub(super) fn with_disk(id: &str, command: &str, mebibytes: f64) -> v1::TaskInfo {
    let mut task = shell(id, command);
    let mut disk = task.resources[0].clone();
    disk.name = "disk".into();
    disk.scalar = Some(v1::value::Scalar { value: mebibytes });
    task.resources.push(disk);
    task
}

/// The only sandbox there is.
pub(super) fn sandbox(agent: &AgentProcess) -> anyhow::Result<PathBuf> {
    let mut path = agent.path("work/sandboxes");
    for _ in 0..3 {
        let entry = std::fs::read_dir(&path)?.next().context("there is none")?;
        path = entry?.path();
    }
    Ok(path)
}

fn is_mounted(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.contains(&format!(" {} ", path.display()))
}

#[tokio::test]
async fn a_task_cannot_write_more_than_its_disk() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let log = std::fs::read_to_string(agent.path("log"))?;
    if log.contains("isolation is not enforced isolator=\"disk\"") {
        eprintln!("skipped: no kernel enforcement of disk here");
        return Ok(());
    }
    // What is written to /tmp counts too; the output itself needs room.
    let fill = "dd if=/dev/zero of=$d/big bs=65536 2>/dev/null; size=$(stat -c %s $d/big); rm $d/big; echo $d $size";
    let wait = "while [ ! -e go ]; do sleep 0.05; done";
    let command = format!("d=.; {fill}; {wait}; d=/tmp; {fill}");
    master.launch(with_disk("full", &command, 8.0)).await?;
    master.update("full", TaskRunning).await?;
    let sandbox = sandbox(&agent)?;
    until("it has filled its disk", || {
        std::fs::read_to_string(sandbox.join("stdout"))
            .ok()
            .filter(|text| text.starts_with(". "))
    })
    .await?;
    let containers = v1::agent::Call {
        r#type: Some(call::Type::GetContainers.into()),
        ..Default::default()
    };
    let answer = agent.call(containers).await?.get_containers.unwrap_or_default();
    let statistics = answer.containers[0].resource_statistics.clone().unwrap_or_default();
    ensure!(statistics.disk_limit_bytes == Some(8 * MIB), "{statistics:?}");
    ensure!(
        statistics.disk_used_bytes.is_some_and(|used| used < 8 * MIB),
        "{statistics:?}"
    );

    // Neither the agent's death nor its return changes anything.
    agent.kill().await?;
    agent.restart()?;
    master.registered(2).await?;
    std::fs::write(sandbox.join("go"), "")?;
    master.update("full", TaskFinished).await?;
    let output = agent
        .call(read_file("full", "stdout"))
        .await?
        .read_file
        .unwrap_or_default()
        .data;
    let output = String::from_utf8(output)?;
    let sizes: Vec<u64> = output
        .lines()
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    ensure!(sizes.len() == 2, "{output}");
    ensure!(sizes.iter().all(|size| (7 * MIB..=8 * MIB).contains(size)), "{output}");

    // The sandbox goes with all that was made for it.
    agent.kill().await?;
    agent.flags = vec!["--gc-delay".into(), "1".into()];
    agent.restart()?;
    until("the sandbox is removed", || (!sandbox.exists()).then_some(())).await?;
    ensure!(!is_mounted(&sandbox));
    until("its image is removed", || {
        let left = std::fs::read_dir(agent.path("work/images")).map_or(0, Iterator::count);
        (left == 0).then_some(())
    })
    .await
}

#[tokio::test]
async fn where_no_kernel_keeps_it_a_task_beyond_its_disk_is_ended() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let agent = AgentProcess::start_as(&master.address, &["--disk-isolation", "du"])?;
    master.registered(1).await?;
    let log = std::fs::read_to_string(agent.path("log"))?;
    ensure!(
        log.contains("isolation is not enforced") && log.contains("looked through"),
        "it is said loudly: {log}"
    );
    let command = "dd if=/dev/zero of=big bs=65536 count=256; while :; do sleep 0.1; done";
    master.launch(with_disk("greedy", command, 4.0)).await?;
    master
        .launch(with_disk("modest", "while :; do sleep 0.1; done", 4.0))
        .await?;
    let failed = master.update("greedy", TaskFailed).await?;
    ensure!(failed.reason() == Reason::ContainerLimitationDisk, "{failed:?}");
    ensure!(failed.message().contains("more than its disk"), "{failed:?}");
    // An executor, too, and then its tasks are over.
    let mut custom = v1::ExecutorInfo {
        executor_id: "custom".into(),
        r#type: Some(v1::executor_info::Type::Custom.into()),
        command: with_disk("custom", command, 0.0).command,
        ..Default::default()
    };
    custom.resources = with_disk("custom", command, 4.0).resources;
    let mut entrusted = with_disk("entrusted", "", 6.0);
    entrusted.command = None;
    master.launch_on(custom, vec![entrusted], false, true).await?;
    let failed = master.update("entrusted", TaskFailed).await?;
    ensure!(failed.reason() == Reason::ContainerLimitationDisk, "{failed:?}");
    let modest = master.look(|state| {
        let mut updates = state.updates.iter();
        updates.any(|update| update.status.task_id.value == "modest" && update.status.state() == TaskFailed)
    });
    ensure!(!modest, "another task was ended");
    Ok(())
}

#[tokio::test]
async fn each_task_of_a_pod_has_a_disk_of_its_own_also_after_a_restart() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    if std::fs::read_to_string(agent.path("log"))?.contains("isolation is not enforced isolator=\"disk\"") {
        eprintln!("skipped: no kernel enforcement of disk here");
        return Ok(());
    }
    let wait = "while [ ! -e go ]; do sleep 0.05; done";
    let fill = "dd if=/dev/zero of=big bs=65536 2>/dev/null; size=$(stat -c %s big); rm big; echo $size";
    // An id may be as long as the name of a directory.
    let long = "long".repeat(63);
    let tasks = [("small", 4.0), ("large", 12.0), (long.as_str(), 2.0)];
    let group = tasks.map(|(id, mebibytes)| with_disk(id, &format!("{wait}; {fill}"), mebibytes));
    let executor = v1::ExecutorInfo {
        executor_id: "pod".into(),
        r#type: Some(v1::executor_info::Type::Default.into()),
        ..Default::default()
    };
    master.launch_on(executor, group.to_vec(), true, true).await?;
    for (id, _) in tasks {
        master.update(id, TaskRunning).await?;
    }
    agent.kill().await?;
    agent.restart()?;
    master.registered(2).await?;
    let pod = sandbox(&agent)?;
    for (id, mebibytes) in tasks {
        std::fs::write(pod.join("tasks").join(id).join("go"), "")?;
        master.update(id, TaskFinished).await?;
        let said = agent.call(read_file("pod", &format!("tasks/{id}/stdout"))).await?;
        let said = String::from_utf8(said.read_file.context("its output")?.data)?;
        let written: u64 = said.trim().parse().with_context(|| said.clone())?;
        let most = mebibytes as u64 * MIB;
        ensure!(
            written <= most && written + MIB > most,
            "{id} wrote {written} of {most}"
        );
    }
    Ok(())
}
