//! Executors with a `disk`, and what the tasks of a pod share.

use anyhow::{Context, ensure};
use proffer_proto::v1::TaskState::{TaskFinished, TaskRunning};
use proffer_proto::v1::executor_info::Type;
use proffer_proto::v1::{self, agent::call, volume};

use super::support::{AgentProcess, FakeMaster, can_contain, read_file, until};
use super::tasks::{MIB, sandbox, with_disk};

/// Fills the disk, says how much that was, and begins again.
const FILL: &str = "while :; do dd if=/dev/zero of=big bs=65536 2>/dev/null; size=$(stat -c %s big); rm big; \
                    echo $size > said.new; mv said.new said; sleep 0.05; done";

fn executor(kind: Type, mebibytes: f64) -> v1::ExecutorInfo {
    let task = with_disk("executor", FILL, mebibytes);
    v1::ExecutorInfo {
        executor_id: "executor".into(),
        r#type: Some(kind.into()),
        command: task.command.filter(|_| kind == Type::Custom),
        resources: task.resources,
        ..Default::default()
    }
}

fn is_enforced(agent: &AgentProcess) -> anyhow::Result<bool> {
    let log = std::fs::read_to_string(agent.path("log"))?;
    let enforced = !log.contains("isolation is not enforced isolator=\"disk\"");
    if !enforced {
        eprintln!("skipped: no kernel enforcement of disk here");
    }
    Ok(enforced)
}

#[tokio::test]
async fn an_executor_has_the_disk_of_its_tasks_as_they_come_and_go() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    if !is_enforced(&agent)? {
        return Ok(());
    }
    let task = |id: &str, mebibytes| {
        let mut task = with_disk(id, "", mebibytes);
        task.command = None;
        task
    };
    let info = executor(Type::Custom, 8.0);
    master
        .launch_on(info.clone(), vec![task("one", 4.0)], false, true)
        .await?;
    let said = {
        let sandbox = until("the executor has a sandbox", || sandbox(&agent).ok()).await?;
        move |mebibytes: u64| {
            let text = std::fs::read_to_string(sandbox.join("said")).ok()?;
            let written: u64 = text.trim().parse().ok()?;
            let most = mebibytes * MIB;
            (written <= most && written + MIB > most).then_some(())
        }
    };
    until("it is held to 12 MiB", || said(12)).await?;
    master
        .launch_on(info.clone(), vec![task("two", 20.0)], false, false)
        .await?;
    until("it is held to 32 MiB", || said(32)).await?;
    let containers = v1::agent::Call {
        r#type: Some(call::Type::GetContainers.into()),
        ..Default::default()
    };
    let answer = agent.call(containers).await?.get_containers.unwrap_or_default();
    let statistics = answer.containers[0].resource_statistics.clone().unwrap_or_default();
    ensure!(statistics.disk_limit_bytes == Some(32 * MIB), "{statistics:?}");

    // A task that is over takes its part with it, and the agent's death changes nothing.
    master.kill("two", std::time::Duration::ZERO).await?;
    until("it is held to 12 MiB again", || said(12)).await?;
    agent.kill().await?;
    agent.restart()?;
    master.registered(2).await?;
    master.launch_on(info, vec![task("three", 10.0)], false, false).await?;
    until("it is held to 22 MiB", || said(22)).await
}

#[tokio::test]
async fn what_the_tasks_of_a_pod_share_is_within_the_disk_of_their_executor() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    if !is_enforced(&agent)? {
        return Ok(());
    }
    let fill = "dd if=/dev/zero of=$at/big bs=65536 2>/dev/null; size=$(stat -c %s $at/big)";
    let with_volume = |id: &str, command: &str, mebibytes| {
        let mut task = with_disk(id, command, mebibytes);
        let path = volume::source::SandboxPath {
            path: "data".into(),
            r#type: Some(volume::source::sandbox_path::Type::Parent.into()),
        };
        let source = volume::Source {
            r#type: Some(volume::source::Type::SandboxPath.into()),
            sandbox_path: Some(path),
            ..Default::default()
        };
        let shared = v1::Volume {
            mode: volume::Mode::Rw.into(),
            container_path: "common".into(),
            source: Some(source),
            ..Default::default()
        };
        task.container = Some(Box::new(v1::ContainerInfo {
            r#type: v1::container_info::Type::Mesos.into(),
            volumes: vec![shared],
            ..Default::default()
        }));
        task
    };
    // One fills what is shared, and then its own `/tmp`; the other has room of its own still.
    let command =
        format!("at=common; {fill}; echo $size; at=/tmp; {fill}; rm /tmp/big; echo $size; mv common/big common/done");
    let first = with_volume("first", &command, 4.0);
    let command = format!(
        "until [ -e common/done ]; do sleep 0.05; done; at=/tmp; {fill}; rm /tmp/big; echo $size; stat -c %s common/done"
    );
    let second = with_volume("second", &command, 2.0);
    master
        .launch_on(executor(Type::Default, 12.0), vec![first, second], true, true)
        .await?;
    master.update("first", TaskRunning).await?;
    master.update("first", TaskFinished).await?;
    master.update("second", TaskFinished).await?;
    master.exited("executor").await?;
    for (id, limits) in [("first", [12, 4]), ("second", [2, 12])] {
        let said = agent.call(read_file("executor", &format!("tasks/{id}/stdout"))).await?;
        let said = String::from_utf8(said.read_file.context("its output")?.data)?;
        let sizes: Vec<u64> = said.lines().filter_map(|line| line.parse().ok()).collect();
        ensure!(sizes.len() == 2, "{id}: {said}");
        for (written, limit) in sizes.into_iter().zip(limits) {
            let most = limit * MIB;
            ensure!(
                written <= most && written + MIB > most,
                "{id} wrote {written} of {most}"
            );
        }
    }
    // What was shared can be read when the pod is over, and goes with it.
    let shared = agent.call(read_file("executor", "shared/data/done")).await?;
    ensure!(shared.read_file.is_some_and(|part| part.size > 11 * MIB));
    let pod = sandbox(&agent)?;
    agent.kill().await?;
    agent.flags = vec!["--gc-delay".into(), "1".into()];
    agent.restart()?;
    until("the sandbox is removed", || (!pod.exists()).then_some(())).await?;
    until("its images are removed", || {
        let left = std::fs::read_dir(agent.path("work/images")).map_or(0, Iterator::count);
        (left == 0).then_some(())
    })
    .await
}
