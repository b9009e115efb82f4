//! Volumes and secrets of tasks, and what tasks try with them.

mod support;

use std::os::unix::fs::{PermissionsExt, chown, symlink};

use anyhow::{Context, ensure};
use proffer_proto::secrets;
use proffer_proto::v1::TaskState::{TaskError, TaskFailed, TaskFinished, TaskRunning};
use proffer_proto::v1::task_status::Reason;
use proffer_proto::v1::volume::source::sandbox_path::Type as SandboxPathType;
use proffer_proto::v1::volume::source::{HostPath, SandboxPath, Type};
use proffer_proto::v1::volume::{Mode, Source};
use proffer_proto::v1::{self, agent::call};
use support::{AgentProcess, FakeMaster, can_contain, read_file, shell, until};

/// `nobody`.
const UID: u32 = 65534;

fn with_volumes(id: &str, command: &str, volumes: Vec<v1::Volume>) -> v1::TaskInfo {
    let mut container = v1::ContainerInfo {
        volumes,
        ..Default::default()
    };
    container.set_type(v1::container_info::Type::Mesos);
    v1::TaskInfo {
        container: Some(Box::new(container)),
        ..shell(id, command)
    }
}

fn volume(container_path: &str, mode: Mode, source: Source) -> v1::Volume {
    v1::Volume {
        container_path: container_path.into(),
        mode: mode.into(),
        source: Some(source),
        ..Default::default()
    }
}

fn host(path: &std::path::Path) -> Source {
    Source {
        r#type: Some(Type::HostPath.into()),
        host_path: Some(HostPath {
            path: path.to_str().unwrap_or_default().into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn sandbox(path: &str) -> Source {
    Source {
        r#type: Some(Type::SandboxPath.into()),
        sandbox_path: Some(SandboxPath {
            path: path.into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn secret(data: &[u8]) -> Source {
    Source {
        r#type: Some(Type::Secret.into()),
        secret: Some(secrets::of(data)),
        ..Default::default()
    }
}

async fn output(agent: &AgentProcess, task: &str) -> anyhow::Result<String> {
    let file = agent
        .call(read_file(task, "stdout"))
        .await?
        .read_file
        .unwrap_or_default();
    Ok(String::from_utf8_lossy(&file.data).into_owned())
}

/// An agent that lends a directory of its test's.
fn lend(master: &FakeMaster) -> anyhow::Result<(AgentProcess, tempfile::TempDir)> {
    let lent = tempfile::Builder::new()
        .prefix("proffer-volumes-")
        .tempdir_in("/var/tmp")?;
    std::fs::set_permissions(lent.path(), std::fs::Permissions::from_mode(0o755))?;
    for name in ["data", "private"] {
        std::fs::create_dir(lent.path().join(name))?;
    }
    std::fs::write(lent.path().join("data/file"), "lent\n")?;
    chown(lent.path().join("data"), Some(UID), Some(UID))?;
    let flag = lent.path().join("data");
    let agent = AgentProcess::start_as(&master.address, &["--host-volumes", flag.to_str().unwrap_or_default()])?;
    Ok((agent, lent))
}

#[tokio::test]
async fn a_task_has_its_volumes() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let (agent, lent) = lend(&master)?;
    master.registered(1).await?;
    let data = lent.path().join("data");
    let command = "cat in/ro/file; echo no > in/ro/no && echo written; echo yes > in/rw/yes; cat /srv/file; \
                   echo deep > cache/x; cat again/x; echo far > /srv/far";
    let volumes = vec![
        volume("in/ro", Mode::Ro, host(&data)),
        volume("in/rw", Mode::Rw, host(&data)),
        volume("/srv", Mode::Rw, host(&data)),
        volume("again", Mode::Rw, sandbox("cache")),
    ];
    master.launch(with_volumes("all", command, volumes)).await?;
    master.update("all", TaskFinished).await?;
    let text = output(&agent, "all").await?;
    ensure!(text == "lent\nlent\ndeep\n", "{text}");
    ensure!(std::fs::read_to_string(data.join("yes"))? == "yes\n");
    ensure!(std::fs::read_to_string(data.join("far"))? == "far\n");
    ensure!(!data.join("no").exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(
        !mounts.contains(data.to_str().unwrap_or_default()),
        "the host has the mounts"
    );

    // Programs that would gain privileges, and devices, are none in a volume.
    let options = "grep -c ' /.*/in/rw [^-]*nosuid,nodev' /proc/self/mountinfo";
    master
        .launch(with_volumes(
            "options",
            options,
            vec![volume("in/rw", Mode::Rw, host(&data))],
        ))
        .await?;
    master.update("options", TaskFinished).await?;
    ensure!(output(&agent, "options").await? == "1\n");
    Ok(())
}

#[tokio::test]
async fn tasks_of_a_pod_share_a_volume_of_their_pod() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let shared = |path: &str, mode| {
        let mut source = sandbox("common/inner");
        if let Some(path) = &mut source.sandbox_path {
            path.set_type(SandboxPathType::Parent);
        }
        vec![volume(path, mode, source)]
    };
    let writer = "echo one > out/note; until [ -e out/go ]; do sleep 0.05; done; echo two > out/note2; sleep 1000";
    let reader = "until read note < /srv/note; do sleep 0.05; done; echo $note; echo no > /srv/no && echo written; \
                  until read note < /srv/note2; do sleep 0.05; done; echo $note; sleep 1000";
    let group = vec![
        with_volumes("writer", writer, shared("out", Mode::Rw)),
        with_volumes("reader", reader, shared("/srv", Mode::Ro)),
    ];
    let executor = v1::ExecutorInfo {
        executor_id: "pod".into(),
        r#type: Some(v1::executor_info::Type::Default.into()),
        ..Default::default()
    };
    master.launch_on(executor, group, true, true).await?;
    master.update("writer", TaskRunning).await?;
    master.update("reader", TaskRunning).await?;
    // What is shared outlives the agent.
    agent.kill().await?;
    agent.restart()?;
    master.registered(2).await?;
    let runs = agent.path("work/sandboxes").join(support::FRAMEWORK).join("pod");
    let run = runs.read_dir()?.next().context("the pod has a sandbox")??.path();
    std::fs::write(run.join("shared/common/inner/go"), "")?;
    until("the reader has read both", || {
        let text = std::fs::read_to_string(run.join("tasks/reader/stdout")).ok()?;
        (text == "one\ntwo\n").then_some(())
    })
    .await?;
    ensure!(
        !run.join("shared/common/inner/no").exists(),
        "it is read-only for one of them"
    );
    // It is the pod's: neither task has it in a sandbox of its own.
    ensure!(run.join("tasks/writer/out").read_dir()?.next().is_none());
    Ok(())
}

#[tokio::test]
async fn no_link_leads_out_of_what_is_lent() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let (agent, lent) = lend(&master)?;
    master.registered(1).await?;
    let data = lent.path().join("data");
    symlink(lent.path().join("private"), data.join("absolute"))?;
    symlink("../private", data.join("relative"))?;
    std::fs::create_dir(data.join("inside"))?;
    std::fs::write(data.join("inside/file"), "inside\n")?;
    symlink("inside", data.join("link"))?;
    for name in ["absolute", "relative"] {
        let escape = vec![volume("v", Mode::Rw, host(&data.join(name)))];
        master.launch(with_volumes(name, "ls v", escape)).await?;
        let failed = master.update(name, TaskFailed).await?;
        ensure!(failed.reason() == Reason::ContainerLaunchFailed, "{failed:?}");
        ensure!(failed.message().contains(name), "{failed:?}");
    }
    let inside = vec![volume("v", Mode::Ro, host(&data.join("link")))];
    master.launch(with_volumes("link", "cat v/file", inside)).await?;
    master.update("link", TaskFinished).await?;
    ensure!(output(&agent, "link").await? == "inside\n");

    // What was fetched brings a link along, in the way of where a volume comes from or goes to.
    let archive = lent.path().join("links.tar");
    let mut tar = std::process::Command::new("tar");
    tar.args(["-C", "/", "-cf"])
        .arg(&archive)
        .args(["--transform", "s,.*,evil,", "bin"]);
    let is_link = std::fs::symlink_metadata("/bin").is_ok_and(|status| status.is_symlink());
    if is_link && tar.status().is_ok_and(|status| status.success()) {
        for (id, volumes) in [
            ("evil-source", vec![volume("v", Mode::Rw, sandbox("evil"))]),
            ("evil-target", vec![volume("evil/v", Mode::Rw, sandbox("x"))]),
        ] {
            let mut task = with_volumes(id, "true", volumes);
            let uri = v1::command_info::Uri {
                value: archive.to_str().unwrap_or_default().into(),
                ..Default::default()
            };
            task.command.as_mut().expect("it has one").uris.push(uri);
            master.launch(task).await?;
            let failed = master.update(id, TaskFailed).await?;
            ensure!(failed.reason() == Reason::ContainerLaunchFailed, "{failed:?}");
        }
    }

    // What is not lent is refused, whatever it is called.
    for (id, path) in [("etc", "/etc"), ("up", "/var/tmp"), ("root", "/")] {
        let forbidden = vec![volume("v", Mode::Ro, host(std::path::Path::new(path)))];
        master.launch(with_volumes(id, "ls v", forbidden)).await?;
        let refused = master.update(id, TaskError).await?;
        ensure!(refused.reason() == Reason::TaskUnauthorized, "{refused:?}");
        ensure!(refused.message().contains("--host-volumes"), "{refused:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_is_its_task_s_alone() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let (agent, _lent) = lend(&master)?;
    master.registered(1).await?;
    let command = "cat keys/token; stat -c '%a %U' keys/token; echo x > keys/token || echo kept; echo $PASSWORD; while [ ! -e go ]; do sleep 0.05; done";
    let mut task = with_volumes(
        "knows",
        command,
        vec![volume("keys/token", Mode::Rw, secret(b"s3cret\n"))],
    );
    let variable = v1::environment::Variable {
        name: "PASSWORD".into(),
        r#type: Some(v1::environment::variable::Type::Secret.into()),
        secret: Some(secrets::of(b"swordfish")),
        value: None,
    };
    task.command.as_mut().expect("it has one").environment = Some(v1::Environment {
        variables: vec![variable.clone()],
    });
    master.launch(task).await?;
    master.update("knows", TaskRunning).await?;
    let path = "/frameworks/framework-1/executors/knows/runs/latest/stdout";
    let sandbox = std::fs::read_dir(agent.path("work/sandboxes/framework-1/knows"))?
        .next()
        .expect("it has a sandbox")?
        .path();
    until(path, || {
        let text = std::fs::read_to_string(sandbox.join("stdout")).unwrap_or_default();
        text.contains("swordfish").then_some(())
    })
    .await?;
    let text = output(&agent, "knows").await?;
    ensure!(text == "s3cret\n400 nobody\nkept\nswordfish\n", "{text}");
    // Neither the sandbox, nor who looks at the agent, nor another user of the host sees it.
    ensure!(
        std::fs::metadata(sandbox.join("keys/token"))?.len() == 0,
        "the file lies in the sandbox"
    );
    let state = v1::agent::Call {
        r#type: Some(call::Type::GetState.into()),
        ..Default::default()
    };
    let state = agent.call(state).await?;
    let shown = format!("{state:?}");
    ensure!(shown.contains("keys/token"), "{shown}");
    let bytes = format!("{:?}", b"s3cret\n");
    ensure!(!shown.contains(&bytes) && !shown.contains("s3cret"), "{shown}");
    let mode = std::fs::metadata(agent.path("work/journal"))?.permissions().mode();
    ensure!(mode & 0o077 == 0, "others can read the journal: {mode:o}");
    ensure!(std::fs::metadata(agent.path("run/secrets"))?.permissions().mode() & 0o077 == 0);
    let log = std::fs::read_to_string(agent.path("log"))?;
    ensure!(
        !log.contains("s3cret") && !log.contains("swordfish"),
        "the agent's log has it"
    );
    std::fs::write(sandbox.join("go"), "")?;
    master.update("knows", TaskFinished).await?;
    until("the secret is removed", || {
        let left = std::fs::read_dir(agent.path("run/secrets")).map_or(0, Iterator::count);
        (left == 0).then_some(())
    })
    .await?;

    // There is no store in which a reference could be looked up.
    let mut task = shell("refers", "true");
    let mut reference = variable;
    reference.secret = Some(v1::Secret {
        r#type: Some(v1::secret::Type::Reference.into()),
        reference: Some(v1::secret::Reference {
            name: "vault".into(),
            key: None,
        }),
        value: None,
    });
    task.command.as_mut().expect("it has one").environment = Some(v1::Environment {
        variables: vec![reference],
    });
    master.launch(task).await?;
    let refused = master.update("refers", TaskError).await?;
    ensure!(refused.message().contains("REFERENCE"), "{refused:?}");
    Ok(())
}
