//! Artifacts and files, from the task to the operator.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::ensure;
use proffer_proto::v1::TaskState::{TaskError, TaskFailed, TaskFinished, TaskKilled, TaskRunning};
use proffer_proto::v1::{self, command_info::Uri};
use support::{AgentProcess, FakeMaster, can_contain, read_file, shell, until};

fn with_artifact(id: &str, command: &str, uri: Uri) -> v1::TaskInfo {
    let mut task = shell(id, command);
    if let Some(command) = &mut task.command {
        command.uris.push(uri);
    }
    task
}

fn uri(value: &str) -> Uri {
    Uri {
        value: value.into(),
        ..Uri::default()
    }
}

/// The body of an answer over plain HTTP.
fn get(address: &str, path: &str) -> anyhow::Result<(String, String)> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok((head.to_owned(), body.to_owned()))
}

#[tokio::test]
async fn a_task_finds_its_artifacts_and_a_bad_one_is_named() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let program = agent.path("program");
    std::fs::write(&program, "#!/bin/sh\necho fetched as $(id -un)\n")?;
    let fetched = Uri {
        executable: Some(true),
        output_file: Some("bin/run".into()),
        ..uri(program.to_str().unwrap_or_default())
    };
    master.launch(with_artifact("good", "./bin/run", fetched)).await?;
    master.update("good", TaskFinished).await?;
    let file = agent
        .call(read_file("good", "stdout"))
        .await?
        .read_file
        .unwrap_or_default();
    ensure!(file.data == b"fetched as nobody\n", "{file:?}");

    let absent = format!("file://{}", agent.path("absent").display());
    master.launch(with_artifact("absent", "true", uri(&absent))).await?;
    let failed = master.update("absent", TaskFailed).await?;
    ensure!(failed.message().contains(&absent), "{failed:?}");
    let wrong = Uri {
        checksum: Some("md5:1234".into()),
        ..uri("http://127.0.0.1:1/x")
    };
    master.launch(with_artifact("wrong", "true", wrong)).await?;
    let refused = master.update("wrong", TaskError).await?;
    ensure!(refused.message().contains("sha256:"), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_task_is_killed_while_its_server_is_silent() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let _agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let server = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/never", server.local_addr()?);
    master.launch(with_artifact("waits", "true", uri(&url))).await?;
    // Held open, and never answered.
    let connection = tokio::task::spawn_blocking(move || server.accept()).await??;
    master.launch(shell("other", "exit 0")).await?;
    master.update("other", TaskFinished).await?;
    master.kill("waits", Duration::from_secs(3600)).await?;
    let killed = master.update("waits", TaskKilled).await?;
    ensure!(killed.message().contains("before it ran"), "{killed:?}");
    drop(connection);
    Ok(())
}

#[tokio::test]
async fn files_are_read_over_plain_http() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let script = "ln -s /etc/passwd link; mkdir sub; head -c 3000000 /dev/zero | tr '\\0' x > sub/large; echo first; \
                  until [ -e go ]; do sleep 0.02; done; echo last";
    master.launch(shell("t", script)).await?;
    master.update("t", TaskRunning).await?;
    let address = until("the agent listens", || {
        std::fs::read_to_string(agent.path("address")).ok()
    })
    .await?;
    let file =
        |route: &str, name: &str| format!("/files/{route}?path=/frameworks/framework-1/executors/t/runs/latest/{name}");
    until("the first line", || {
        let (_, body) = get(&address, &file("read", "stdout")).ok()?;
        body.contains("first").then_some(())
    })
    .await?;
    let (_, browsed) = get(&address, &file("browse", ""))?;
    ensure!(
        browsed.contains("/sub\"") && browsed.contains("lrwxrwxrwx"),
        "{browsed}"
    );
    let (head, large) = get(&address, &file("download", "sub/large"))?;
    ensure!(
        head.starts_with("HTTP/1.1 200") && head.contains("filename=\"large\""),
        "{head}"
    );
    ensure!(large.bytes().filter(|byte| *byte == b'x').count() == 3_000_000);
    for (path, status) in [
        (file("download", "link"), "403"),
        (file("read", "../../../../../../etc/passwd"), "403"),
        (file("download", "absent"), "404"),
        (file("browse", "sub/large"), "403"),
        ("/files/read?path=/etc/passwd".into(), "400"),
    ] {
        let (head, body) = get(&address, &path)?;
        ensure!(head.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {head}");
        ensure!(!body.contains("root:"), "{path}: {body}");
    }
    let (follow, to) = (file("follow", "stdout"), address.clone());
    let followed = tokio::task::spawn_blocking(move || get(&to, &follow));
    let sandboxes = agent.path("work/sandboxes/framework-1/t");
    let run = std::fs::read_dir(sandboxes)?
        .flatten()
        .next()
        .map(|run| run.path())
        .unwrap_or_default();
    std::fs::write(run.join("go"), "")?;
    master.update("t", TaskFinished).await?;
    let (_, body) = followed.await??;
    ensure!(body.contains("first\n") && body.contains("last\n"), "{body}");
    Ok(())
}
