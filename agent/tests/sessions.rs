//! Programs that operators run inside containers, over gRPC and HTTP, and who may not.

mod support;

use std::time::Duration;

use proffer_proto::api::agent_operator_client::AgentOperatorClient;
use proffer_proto::v1;
use proffer_proto::v1::TaskState::*;
use proffer_proto::v1::agent::call::{self, Type, attach_container_input};
use proffer_proto::v1::agent::process_io::{self, data};
use proffer_proto::v1::agent::{Call, ProcessIo};
use support::{AgentProcess, FakeMaster, PATIENCE, can_contain, read_file, shell, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tonic::transport::Channel;

struct Operator {
    client: AgentOperatorClient<Channel>,
    address: String,
    token: String,
}

impl Operator {
    async fn new(agent: &AgentProcess) -> anyhow::Result<Self> {
        let path = agent.path("address");
        let address = until("the agent listens", || std::fs::read_to_string(&path).ok()).await?;
        Ok(Self {
            client: AgentOperatorClient::connect(format!("http://{address}")).await?,
            address,
            token: std::fs::read_to_string(agent.path("work").join("token"))?
                .trim()
                .to_owned(),
        })
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let value = format!("Bearer {}", self.token).parse().expect("ASCII");
        request.metadata_mut().insert("authorization", value);
        request
    }

    async fn submit(&mut self, call: Call) -> Result<v1::agent::Response, tonic::Status> {
        let request = self.request(call);
        Ok(self.client.submit(request).await?.into_inner())
    }

    async fn output(&mut self, call: Call) -> Result<tonic::Streaming<ProcessIo>, tonic::Status> {
        let request = self.request(call);
        Ok(self.client.output(request).await?.into_inner())
    }

    /// Waits until a session has ended, and forgets it. How it ended is not known of one that its container took along.
    async fn exit_status(&mut self, id: &v1::ContainerId) -> anyhow::Result<Option<i32>> {
        let container_id = id.clone();
        let mut wait = Call {
            wait_container: Some(call::WaitContainer { container_id }),
            ..Default::default()
        };
        wait.set_type(Type::WaitContainer);
        let answer = tokio::time::timeout(PATIENCE, self.submit(wait.clone())).await??;
        let status = answer.wait_container.and_then(|wait| wait.exit_status);
        let mut remove = Call {
            remove_container: Some(call::RemoveContainer {
                container_id: id.clone(),
            }),
            ..Default::default()
        };
        remove.set_type(Type::RemoveContainer);
        // The end of its stream comes a moment after its own.
        let deadline = std::time::Instant::now() + PATIENCE;
        while let Err(refused) = self.submit(remove.clone()).await {
            anyhow::ensure!(std::time::Instant::now() < deadline, "{refused}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let forgotten = self.submit(wait).await.expect_err("it is forgotten");
        anyhow::ensure!(forgotten.code() == tonic::Code::NotFound, "{forgotten}");
        Ok(status)
    }

    /// An HTTP/1.1 request; the whole answer.
    async fn http(&self, headers: &str, body: &[u8]) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(&self.address).await?;
        let head = format!(
            "POST /api/v1 HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).await?;
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await??;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

fn session(parent: &v1::ContainerId, value: &str, script: &str) -> (v1::ContainerId, Call) {
    let container_id = v1::ContainerId {
        value: value.into(),
        parent: Some(Box::new(parent.clone())),
    };
    let command = v1::CommandInfo {
        value: Some(script.into()),
        ..Default::default()
    };
    let mut call = Call {
        launch_nested_container_session: Some(call::LaunchNestedContainerSession {
            container_id: container_id.clone(),
            command: Some(command),
            container: None,
        }),
        ..Default::default()
    };
    call.set_type(Type::LaunchNestedContainerSession);
    (container_id, call)
}

fn attach(id: &v1::ContainerId) -> Call {
    let mut attach = call::AttachContainerInput {
        container_id: Some(id.clone()),
        ..Default::default()
    };
    attach.set_type(attach_container_input::Type::ContainerId);
    input(attach)
}

fn typed(bytes: &[u8]) -> Call {
    let mut piece = process_io::Data {
        data: Some(bytes.to_vec()),
        ..Default::default()
    };
    piece.set_type(data::Type::Stdin);
    let mut message = ProcessIo {
        data: Some(piece),
        ..Default::default()
    };
    message.set_type(process_io::Type::Data);
    let mut attach = call::AttachContainerInput {
        process_io: Some(message),
        ..Default::default()
    };
    attach.set_type(attach_container_input::Type::ProcessIo);
    input(attach)
}

fn input(attach: call::AttachContainerInput) -> Call {
    let mut call = Call {
        attach_container_input: Some(attach),
        ..Default::default()
    };
    call.set_type(Type::AttachContainerInput);
    call
}

/// Both streams until the end.
async fn all_of(mut messages: tonic::Streaming<ProcessIo>) -> anyhow::Result<(String, String)> {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    while let Some(message) = tokio::time::timeout(PATIENCE, messages.message()).await?? {
        let Some(piece) = message.data else { continue };
        match piece.r#type() {
            data::Type::Stderr => errors.extend_from_slice(piece.data()),
            _ => output.extend_from_slice(piece.data()),
        }
    }
    Ok((String::from_utf8(output)?, String::from_utf8(errors)?))
}

async fn running(master: &FakeMaster, task: &str) -> anyhow::Result<v1::ContainerId> {
    let status = master.update(task, TaskRunning).await?;
    Ok(status
        .container_status
        .and_then(|status| status.container_id)
        .expect("a container"))
}

#[tokio::test]
async fn a_session_is_fed_read_and_waited_for() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let mut operator = Operator::new(&agent).await?;
    master.launch(shell("t", "sleep 1000")).await?;
    let container = running(&master, "t").await?;

    let (id, call) = session(&container, "s1", "echo $MESOS_TASK_ID; cat; echo no >&2; exit 3");
    let messages = operator.output(call.clone()).await?;
    let twice = operator.output(call).await.expect_err("the name is in use");
    assert_eq!(twice.code(), tonic::Code::AlreadyExists, "{twice}");
    let calls = [attach(&id), typed(b"one "), typed(b"two\n"), typed(b"")];
    let request = operator.request(tokio_stream::iter(calls));
    operator.client.input(request).await?;
    assert_eq!(all_of(messages).await?, ("t\none two\n".into(), "no\n".into()));
    assert_eq!(operator.exit_status(&id).await?, Some(3 << 8));

    // Nobody reads more than a little of it: the program waits, the agent holds no more, and it ends with its reader.
    let (id, call) = session(&container, "s2", "yes");
    let mut messages = operator.output(call).await?;
    messages.next().await.expect("a message")?;
    drop(messages);
    assert_eq!(operator.exit_status(&id).await?, Some(9));

    let (_, mut bad) = session(&container, "s3", "true");
    let asked = bad.launch_nested_container_session.as_mut().expect("set");
    asked.command.as_mut().expect("set").user = Some("root".into());
    let refused = operator.output(bad).await.expect_err("another user");
    assert!(refused.message().starts_with("command.user:"), "{refused}");
    let nobody = v1::ContainerId {
        value: "nobody".into(),
        parent: None,
    };
    let refused = operator
        .output(session(&nobody, "s4", "true").1)
        .await
        .expect_err("no container");
    assert_eq!(refused.code(), tonic::Code::NotFound, "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_session_runs_over_http_and_ends_with_its_task() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let mut operator = Operator::new(&agent).await?;
    master.launch(shell("t", "sleep 1000")).await?;
    let container = running(&master, "t").await?;
    let bearer = format!("Authorization: Bearer {}\r\n", operator.token);

    let (id, call) = session(&container, "h", "read word; echo said $word; sleep 1000");
    let body = proffer_proto::json::to_vec(&call);
    let answer = operator.http("Content-Type: application/json\r\n", &body).await?;
    assert!(
        answer.starts_with("HTTP/1.1 401") && answer.contains("token-file"),
        "{answer}"
    );

    let records: Vec<u8> = [attach(&id), typed(b"hello\n")]
        .iter()
        .flat_map(|call| proffer_proto::recordio::encode(&proffer_proto::json::to_vec(call)))
        .collect();
    let headers = format!(
        "{bearer}Content-Type: application/json\r\nAccept: application/recordio\r\nMessage-Accept: application/json\r\n"
    );
    let streamed = {
        let (address, token) = (operator.address.clone(), operator.token.clone());
        let other = Operator {
            client: operator.client.clone(),
            address,
            token,
        };
        tokio::spawn(async move { other.http(&headers, &body).await })
    };
    let headers = format!("{bearer}Content-Type: application/recordio\r\nMessage-Content-Type: application/json\r\n");
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let fed = operator.http(&headers, &records).await?;
        if fed.starts_with("HTTP/1.1 200") {
            break;
        }
        // It is only being started.
        assert!(
            fed.starts_with("HTTP/1.1 404") && std::time::Instant::now() < deadline,
            "{fed}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    master.kill("t", Duration::ZERO).await?;
    master.update("t", TaskKilled).await?;
    let answer = streamed.await??;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("application/recordio"),
        "{answer}"
    );
    // "said hello\n" in base64.
    assert!(answer.contains("c2FpZCBoZWxsbwo="), "{answer}");
    let status = operator.exit_status(&id).await?;
    assert!(matches!(status, None | Some(9)), "{status:?}");
    until("the containers are gone", || {
        agent.cgroups_left().is_empty().then_some(())
    })
    .await
}

fn attach_output(id: &v1::ContainerId) -> Call {
    let mut call = Call {
        attach_container_output: Some(call::AttachContainerOutput {
            container_id: id.clone(),
        }),
        ..Default::default()
    };
    call.set_type(Type::AttachContainerOutput);
    call
}

/// Reads until a text was seen.
async fn read_until(messages: &mut tonic::Streaming<ProcessIo>, seen: &mut String, text: &str) -> anyhow::Result<()> {
    while !seen.contains(text) {
        let message = tokio::time::timeout(PATIENCE, messages.message()).await??;
        let message = message.ok_or_else(|| anyhow::anyhow!("the stream ended with {seen:?}, without {text:?}"))?;
        let piece = message.data.unwrap_or_default();
        seen.push_str(&String::from_utf8_lossy(piece.data()));
    }
    Ok(())
}

/// Feeds a task until it is dropped.
fn feed(operator: &Operator, id: &v1::ContainerId) -> tokio::sync::mpsc::Sender<Call> {
    let (calls, outbound) = tokio::sync::mpsc::channel(4);
    let stream = tokio_stream::StreamExt::chain(
        tokio_stream::iter([attach(id)]),
        tokio_stream::wrappers::ReceiverStream::new(outbound),
    );
    let (request, mut client) = (operator.request(stream), operator.client.clone());
    tokio::spawn(async move { client.input(request).await.map(drop) });
    calls
}

/// How many `sleep`s have this argument.
fn running_with(argument: &str) -> usize {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| *line == format!("sleep\0{argument}\0").as_bytes())
        .count()
}

#[tokio::test]
async fn a_task_with_a_terminal_is_attached_to_also_after_a_restart() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let mut task = shell(
        "t",
        "tty; stty size; while read word; do echo \"<$word>\"; done; echo over; exit 5",
    );
    let mut container = v1::ContainerInfo {
        tty_info: Some(v1::TtyInfo {
            window_size: Some(v1::tty_info::WindowSize { rows: 30, columns: 90 }),
        }),
        ..Default::default()
    };
    container.set_type(v1::container_info::Type::Mesos);
    task.container = Some(Box::new(container));
    master.launch(task).await?;
    let id = running(&master, "t").await?;
    let mut operator = Operator::new(&agent).await?;
    // Two readers; one of them reads nothing until the end, which is nothing to the other.
    let mut slow = operator.output(attach_output(&id)).await?;
    let mut quick = operator.output(attach_output(&id)).await?;
    let calls = feed(&operator, &id);
    let mut seen = String::new();
    calls.send(typed(b"one\n")).await?;
    read_until(&mut quick, &mut seen, "<one>\r\n").await?;
    let second = operator.request(tokio_stream::iter([attach(&id)]));
    let refused = operator.client.input(second).await.expect_err("one feeds at a time");
    assert_eq!(refused.code(), tonic::Code::Aborted, "{refused}");
    drop(calls);
    let (_, call) = session(&id, "left", "setsid sleep 753197 & sleep 753197");
    let _left = operator.output(call).await?;
    until("the session runs", || (running_with("753197") == 2).then_some(())).await?;

    agent.kill().await?;
    until("the session ends with its agent", || {
        (running_with("753197") == 0).then_some(())
    })
    .await?;
    agent.restart()?;
    master.registered(2).await?;
    let mut operator = Operator::new(&agent).await?;
    let mut messages = operator.output(attach_output(&id)).await?;
    let calls = feed(&operator, &id);
    calls.send(typed(b"two\n")).await?;
    read_until(&mut messages, &mut seen, "<two>\r\n").await?;
    calls.send(typed(b"")).await?;
    read_until(&mut messages, &mut seen, "over\r\n").await?;
    let failed = master.update("t", TaskFailed).await?;
    assert_eq!(failed.message(), "exited with code 5");
    assert!(
        tokio::time::timeout(PATIENCE, messages.message()).await??.is_none(),
        "the stream ends with the task"
    );
    // Everything is in the file, and a reader whose agent is gone was told so.
    let answer = agent.call(read_file("t", "stdout")).await?;
    let file = String::from_utf8(answer.read_file.unwrap_or_default().data)?;
    assert!(file.starts_with("/dev/pts/") && file.contains("30 90\r\n"), "{file}");
    assert!(
        file.contains("<one>\r\n") && file.contains("<two>\r\n") && file.ends_with("over\r\n"),
        "{file}"
    );
    while let Ok(Some(_)) = slow.message().await {}
    Ok(())
}

#[tokio::test]
async fn a_task_with_a_pipe_sees_the_end_of_its_input() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let mut task = shell("t", "cat; echo over >&2");
    let mut container = v1::ContainerInfo {
        stdin: Some(true),
        ..Default::default()
    };
    container.set_type(v1::container_info::Type::Mesos);
    task.container = Some(Box::new(container));
    master.launch(task).await?;
    master.launch(shell("deaf", "sleep 1000")).await?;
    let (id, deaf) = (running(&master, "t").await?, running(&master, "deaf").await?);
    let mut operator = Operator::new(&agent).await?;
    let refused = operator.request(tokio_stream::iter([attach(&deaf)]));
    let refused = operator.client.input(refused).await.expect_err("it has no input");
    assert!(refused.message().contains("container.stdin"), "{refused}");
    let messages = operator.output(attach_output(&id)).await?;
    // Who leaves without a word leaves the input open.
    let request = operator.request(tokio_stream::iter([attach(&id), typed(b"one ")]));
    operator.client.input(request).await?;
    let request = operator.request(tokio_stream::iter([attach(&id), typed(b"two"), typed(b"")]));
    operator.client.input(request).await?;
    assert_eq!(all_of(messages).await?, ("one two".into(), "over\n".into()));
    master.update("t", TaskFinished).await?;
    Ok(())
}

#[tokio::test]
async fn a_task_cannot_enter_containers_through_the_agent() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let operator = Operator::new(&agent).await?;
    master.launch(shell("victim", "sleep 1000")).await?;
    let victim = running(&master, "victim").await?;
    let (_, call) = session(&victim, "evil", "touch taken");
    let body = String::from_utf8(proffer_proto::json::to_vec(&call))?;
    let (host, port) = operator.address.rsplit_once(':').expect("an address");
    // With no token, with a wrong one, and by looking for the right one.
    let script = format!(
        r#"for bearer in '' 'Authorization: Bearer 0123456789abcdef0123456789abcdef'; do
exec 3<>/dev/tcp/{host}/{port}
body='{body}'
printf 'POST /api/v1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n' >&3
[ -n "$bearer" ] && printf '%s\r\n' "$bearer" >&3
printf 'Content-Length: %d\r\n\r\n%s' ${{#body}} "$body" >&3
read -r status <&3; echo "answer $status"
done
cat {token} && echo token read
grep -l . /proc/*/environ {work}/token 2>/dev/null | grep token && echo token found
echo end"#,
        token = agent.path("work").join("token").display(),
        work = agent.path("work").display(),
    );
    let mut intruder = shell("intruder", "");
    let command = intruder.command.as_mut().expect("set");
    *command = v1::CommandInfo {
        shell: Some(false),
        value: Some("/bin/bash".into()),
        arguments: vec!["bash".into(), "-c".into(), script],
        ..Default::default()
    };
    if !std::path::Path::new("/bin/bash").exists() {
        eprintln!("skipped: the host has no bash");
        return Ok(());
    }
    master.launch(intruder).await?;
    master.update("intruder", TaskFinished).await?;
    let answer = agent.call(read_file("intruder", "stdout")).await?;
    let said = String::from_utf8(answer.read_file.unwrap_or_default().data)?;
    assert_eq!(said.matches("answer HTTP/1.1 401").count(), 2, "{said}");
    assert!(!said.contains("token") && said.ends_with("end\n"), "{said}");
    let answer = agent.call(read_file("victim", "taken")).await;
    assert!(answer.is_err(), "the victim was entered");
    Ok(())
}
