//! Services go on, and stay as many as wanted, whatever is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use proffer::local::{LocalProcess, ProcessSpec};
use proffer_tests::http::request;
use proffer_tests::{Cluster, DEADLINE, cluster, require_isolation};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::until;

mod chaos;
mod leaving;
mod standby;
mod updates;
mod volumes;

const AGENTS: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_as_many_instances_as_wanted_whatever_is_killed() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("services").agents(AGENTS).start().await?;
    let mut services = Services::start(&mut cluster).await?;
    services.scale(3).await?;
    let first = services.running(3).await?;

    services.restart().await?;
    assert_eq!(services.running(3).await?, first, "a scheduler that comes back goes on");

    kill_instance(&mut cluster, &first[&1]).await?;
    let second = services.running_without(3, &first[&1]).await?;
    assert_eq!((&second[&0], &second[&2]), (&first[&0], &first[&2]));

    cluster.restart_master().await?;
    cluster.restart_agent(0).await?;
    services.reconnected(&mut cluster, &second).await?;
    assert_eq!(services.running(3).await?, second, "nobody noticed");

    services.scale(5).await?;
    services.restart().await?;
    let more = services.running(5).await?;
    assert!(second.iter().all(|instance| more.iter().any(|one| one == instance)));

    services.scale(2).await?;
    cluster.restart_master().await?;
    let fewer = services.running(2).await?;
    assert!(fewer.iter().all(|instance| second.iter().any(|one| one == instance)));
    let wanted: BTreeSet<String> = fewer.into_values().collect();
    until("2 containers", async || Ok(containers(&mut cluster).await? == wanted)).await?;

    services.ask("DELETE", "/v1/services/web", "", 202).await?;
    until("no container", async || Ok(containers(&mut cluster).await?.is_empty())).await?;
    services.stop().await?;
    cluster.stop().await
}

#[tokio::test]
async fn specifications_are_checked_and_converted_without_a_cluster() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let file = |name: &str, text: &str| -> anyhow::Result<String> {
        let path = directory.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let web = file("web.yaml", "{id: web, command: x, instances: 2}")?;
    let wrong = file("wrong.yaml", "{id: web, command: x, constraints: [[rack, ONCE]]}")?;
    let old = file(
        "old.json",
        r#"{"id": "/prod/web", "cmd": "x", "gpus": 1, "healthChecks": [{"protocol": "HTTPS"}]}"#,
    )?;
    for (arguments, code, out, err) in [
        (vec!["schema"], 0, "\"$schema\"", ""),
        (vec!["check", &web], 0, "\"kill_grace_seconds\": 5.0", ""),
        (
            vec!["check", &wrong],
            5,
            "",
            "`constraints[0][1]` is \"ONCE\"; accepted: UNIQUE, CLUSTER",
        ),
        (vec!["check", "/no/such/file"], 4, "", "/no/such/file"),
        (
            vec!["check", &old],
            5,
            "",
            "`healthChecks[0].protocol` cannot be honoured",
        ),
        (
            vec!["convert", &old],
            0,
            "\"id\": \"prod-web\"",
            "`gpus` is 1, which cannot be honoured",
        ),
    ] {
        let mut command = tokio::process::Command::new(cluster::built("proffer-under-test")?);
        let output = command.arg("service").args(&arguments).output().await?;
        let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        ensure!(output.status.code() == Some(code), "{arguments:?}: {stderr}");
        ensure!(
            stdout.contains(out) && stderr.contains(err),
            "{arguments:?}: {stdout}{stderr}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_planned_run_changed_and_goes_back_when_a_version_fails() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("service-command").start().await?;
    let services = Services::start(&mut cluster).await?;
    // The command asks the masters where it is.
    until("the scheduler to be subscribed", async || {
        Ok(request(&services.control, "GET", "/health", "").await?.0 == 200)
    })
    .await?;
    let master = cluster.local().master_address().to_owned();
    let directory = tempfile::tempdir()?;
    let file = |version: &str, ready: &str| -> anyhow::Result<String> {
        let path = directory.path().join(format!("{version}.json"));
        let spec = json!({
            "id": "web", "instances": 2, "mem": 32,
            "command": format!("echo this is {version} of $INSTANCE; touch {version}; exec sleep 100000"),
            "kill_grace_seconds": 1, "backoff": {"initial_ms": 50, "max_ms": 500},
            "readiness": {"command": format!("test -e {ready}"), "interval_seconds": 0.1},
            "update": {"progress_deadline_seconds": 3},
        });
        std::fs::write(&path, spec.to_string())?;
        Ok(path.display().to_string())
    };
    let (one, two, bad) = (file("one", "one")?, file("two", "two")?, file("three", "never")?);
    let steps: &[(&[&str], i32, &[&str])] = &[
        (&["ls"], 0, &["UPDATE"]),
        (&["plan", &one], 0, &["web is new", "starts web.1 on"]),
        (&["run", &one, "--if-version", "7"], 5, &["has the version 0, not 7"]),
        (&["run", &one, "--wait", "60"], 0, &["web: version 1\n", "2 of 2 ready"]),
        (
            &["plan", &two],
            0,
            &[
                "command: \"echo this is one",
                "replaces 2 instances, of which 2",
                "starts web.2 on",
            ],
        ),
        (&["run", &two, "--wait", "60"], 0, &["version 2\n", "2 of 2 ready"]),
        (
            &["run", &bad, "--wait", "60"],
            1,
            &["version 3 was reverted: 0 of 2 instances are ready"],
        ),
        (&["show", "web"], 0, &["reverted because 0 of 2", "running"]),
        (&["scale", "web", "3", "--wait", "60"], 0, &["3 of 3 ready"]),
        (&["rollback", "web", "1", "--wait", "60"], 0, &["2 of 2 ready"]),
        (&["restart", "web", "--wait", "60"], 0, &["2 of 2 ready"]),
        (&["versions", "web"], 0, &["REVERTS", "0 of 2 instances are ready"]),
        (&["ls"], 0, &["done"]),
        (&["scale", "none", "3"], 4, &["there are: web"]),
        (
            &["update", "web", "--set", "env.STEP=5", "--wait", "60"],
            0,
            &["2 of 2 ready"],
        ),
        (
            &["update", "web", "--set", "instances=many"],
            5,
            &["`instances` is \"many\"; accepted"],
        ),
        (
            &["update", "web", &two, "--set", "mem=40", "--if-version", "1"],
            5,
            &["not 1: somebody else"],
        ),
        (
            &["logs", "web"],
            0,
            &["web.0 | this is one of web.0\n", "web.1 | this is one of web.1\n"],
        ),
        (&["logs", "web.1"], 0, &["this is one of web.1\n"]),
        (&["logs", "web.7"], 4, &["instance 7 of the service `web`"]),
        (
            &[
                "exec",
                "web.1",
                "--",
                "/bin/sh",
                "-c",
                "echo $STEP in $INSTANCE; exit 7",
            ],
            7,
            &["5 in web.1\n"],
        ),
        (&["exec", "web", "--", "true"], 4, &["name one of web.0, web.1"]),
    ];
    let follow = ["logs", "web", "--follow"];
    let stop: (&[&str], i32, &[&str]) = (&["stop", "web"], 0, &[]);
    for (arguments, code, says) in steps.iter().chain([&stop]) {
        if *arguments == stop.0 {
            follows_new_instances(&services, &master, &follow).await?;
        }
        let mut command = tokio::process::Command::new(cluster::built("proffer-under-test")?);
        command.env("PROFFER_MASTER", &master).arg("service").args(*arguments);
        let output = tokio::time::timeout(2 * DEADLINE, command.output()).await??;
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let said = said.concat();
        ensure!(output.status.code() == Some(*code), "{arguments:?}: {said}");
        ensure!(says.iter().all(|words| said.contains(words)), "{arguments:?}: {said}");
    }
    until("no service", async || {
        let (_, services) = request(&services.control, "GET", "/v1/services", "").await?;
        Ok(services.as_object().is_some_and(serde_json::Map::is_empty))
    })
    .await?;
    services.stop().await?;
    cluster.stop().await
}

/// Follows the logs of all instances while there is one more.
async fn follows_new_instances(services: &Services, master: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = tokio::process::Command::new(cluster::built("proffer-under-test")?);
    command.env("PROFFER_MASTER", master).arg("service").args(arguments);
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("it has an output")?).lines();
    let mut waits_for = vec!["web.0 | this is one of web.0", "web.2 | this is one of web.2"];
    while let Some(wanted) = waits_for.first() {
        let line = tokio::time::timeout(DEADLINE, lines.next_line()).await??;
        let line = line.with_context(|| format!("the end came before {wanted:?}"))?;
        if line == *wanted {
            waits_for.remove(0);
            services
                .ask("POST", "/v1/services/web/scale", r#"{"instances": 3}"#, 200)
                .await?;
        }
    }
    child.kill().await?;
    Ok(())
}

/// The task of each running instance.
type Tasks = BTreeMap<u64, String>;

/// The scheduler of services as a process of its own.
struct Services {
    process: LocalProcess,
    control: String,
}

impl Services {
    async fn start(cluster: &mut Cluster) -> anyhow::Result<Self> {
        Self::start_as(cluster, "services").await
    }

    /// The same with its files in a directory of that name.
    async fn start_as(cluster: &mut Cluster, name: &str) -> anyhow::Result<Self> {
        Self::start_with(cluster, name, &[]).await
    }

    /// The same with more arguments.
    async fn start_with(cluster: &mut Cluster, name: &str, more: &[&str]) -> anyhow::Result<Self> {
        let directory = cluster.local().directory().join(name);
        let master = cluster.local().master_address().to_owned();
        let args = ["services", "--control", "127.0.0.1:0", "--master", &master];
        let args = args.iter().chain(more).map(|arg| (*arg).to_owned());
        let mut process = LocalProcess::start(ProcessSpec {
            name: name.to_owned(),
            program: cluster::built("proffer-under-test")?,
            args: args.collect(),
            environment: Vec::new(),
            directory,
        })?;
        let control = process.address(DEADLINE).await?;
        Ok(Services { process, control })
    }

    /// Kills it as `kill -9` does and starts it again.
    async fn restart(&mut self) -> anyhow::Result<()> {
        self.process.kill();
        self.process.restart()?;
        self.control = self.process.address(DEADLINE).await?;
        Ok(())
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.process.signal(Signal::TERM);
        let status = self.process.wait(DEADLINE).await;
        ensure!(
            status.is_some_and(|status| status.success()),
            "it ended with {status:?}"
        );
        Ok(())
    }

    async fn scale(&self, instances: u32) -> anyhow::Result<()> {
        let spec = json!({
            "id": "web",
            "command": "cp conf/me told && exec sleep 100000",
            "files": [{"path": "conf/me", "content": "{{service}}.{{instance}}"}],
            "readiness": {"command": "grep -q ^web.{{instance}}$ told", "interval_seconds": 0.2},
            "instances": instances,
            "mem": 32,
            "kill_grace_seconds": 1,
            "backoff": {"initial_ms": 50, "max_ms": 500},
        });
        self.put("web", &spec).await
    }

    async fn put(&self, id: &str, spec: &Value) -> anyhow::Result<()> {
        let path = format!("/v1/services/{id}");
        let (status, answer) = request(&self.control, "PUT", &path, &spec.to_string()).await?;
        ensure!(matches!(status, 200 | 201), "PUT was answered with {status}: {answer}");
        Ok(())
    }

    /// The service's tasks once exactly this many run and the scheduler is subscribed.
    async fn running(&self, instances: usize) -> anyhow::Result<Tasks> {
        self.running_without(instances, "").await
    }

    /// The same, once this task is none of them.
    async fn running_without(&self, instances: usize, task: &str) -> anyhow::Result<Tasks> {
        let mut tasks = Tasks::new();
        until(&format!("{instances} instances without `{task}`"), async || {
            let catalogue = self.ask("GET", "/v1/catalogue", "", 200).await?;
            let service = &catalogue["services"]["web"];
            let known = service["instances"].as_array().context("the service has instances")?;
            let running = known
                .iter()
                .filter(|instance| instance["state"] == "running" && instance["ready"] == true);
            let running = running.filter_map(|one| Some((one["index"].as_u64()?, one["task_id"].as_str()?.to_owned())));
            tasks = running.collect();
            let settled = known.len() == instances && tasks.len() == instances;
            Ok(settled && catalogue["connected"] == true && tasks.values().all(|known| known != task))
        })
        .await?;
        Ok(tasks)
    }

    /// Waits until the master knows the tasks again and the scheduler is subscribed.
    async fn reconnected(&self, cluster: &mut Cluster, tasks: &Tasks) -> anyhow::Result<()> {
        let mut operator = cluster.operator();
        until("the master to know everything again", async || {
            let known = operator.get_tasks().await?.tasks;
            let frameworks = operator.get_frameworks().await?.frameworks;
            let is_known = |task: &String| known.iter().any(|known| known.task_id.value == *task);
            Ok(frameworks.iter().any(|framework| framework.connected) && tasks.values().all(is_known))
        })
        .await
    }

    async fn ask(&self, method: &str, path: &str, body: &str, expected: u16) -> anyhow::Result<Value> {
        let (status, answer) = request(&self.control, method, path, body).await?;
        ensure!(
            status == expected,
            "{method} {path} was answered with {status}: {answer}"
        );
        Ok(answer)
    }
}

/// The tasks that have a container at any agent, whatever master and scheduler think.
async fn containers(cluster: &mut Cluster) -> anyhow::Result<BTreeSet<String>> {
    Ok(pids(cluster).await?.into_iter().map(|(task, _)| task).collect())
}

async fn kill_instance(cluster: &mut Cluster, task: &str) -> anyhow::Result<()> {
    let pids = pids(cluster).await?;
    let pid = pids.iter().find(|(known, _)| known == task).and_then(|(_, pid)| *pid);
    let pid = pid.and_then(|pid| Pid::from_raw(pid.cast_signed()));
    kill_process(pid.context("the instance has a process")?, Signal::KILL)?;
    Ok(())
}

async fn pids(cluster: &mut Cluster) -> anyhow::Result<Vec<(String, Option<u32>)>> {
    let mut pids = Vec::new();
    for agent in 0..AGENTS {
        let answer = cluster.agent_client(agent).await?.get_containers().await?;
        pids.extend(answer.containers.into_iter().map(|container| {
            let task = container.executor_id.unwrap_or_default().value;
            (task, container.container_status.and_then(|status| status.executor_pid))
        }));
    }
    Ok(pids)
}
