//! Task groups in pods, and custom executors with the executor API, in real containers.

mod support;

use std::path::Path;

use anyhow::{Context, ensure};
use proffer_proto::api::executor_client::ExecutorClient;
use proffer_proto::v1;
use proffer_proto::v1::TaskState::*;
use proffer_proto::v1::executor::{Call, Event, call, event};
use proffer_proto::v1::executor_info::Type;
use proffer_proto::v1::task_status::Reason;
use support::{AgentProcess, FRAMEWORK, FakeMaster, can_contain, shell, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;
use tonic::{Code, Request};

fn executor(id: &str, kind: Type, command: Option<&str>) -> v1::ExecutorInfo {
    v1::ExecutorInfo {
        executor_id: id.into(),
        framework_id: Some(FRAMEWORK.into()),
        r#type: Some(kind.into()),
        resources: shell("none", "").resources,
        command: command.map(|command| v1::CommandInfo {
            value: Some(command.into()),
            ..Default::default()
        }),
        shutdown_grace_period: Some(v1::DurationInfo {
            nanoseconds: 200_000_000,
        }),
        ..Default::default()
    }
}

/// The one sandbox of an executor.
async fn sandbox(agent: &AgentProcess, executor: &str) -> anyhow::Result<std::path::PathBuf> {
    let runs = agent.path("work").join("sandboxes").join(FRAMEWORK).join(executor);
    until("the executor has a sandbox", || {
        let mut entries = std::fs::read_dir(&runs).ok()?;
        Some(entries.next()?.ok()?.path())
    })
    .await
}

async fn text(path: &Path) -> anyhow::Result<String> {
    until(&format!("{} is written", path.display()), || {
        std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'))
    })
    .await
}

#[tokio::test]
async fn a_group_shares_its_pod_and_ends_together() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    // Each has its own working directory, `/tmp` and memory.
    let writer = shell("writer", "echo mine > /tmp/note; echo $MESOS_EXECUTOR_ID; sleep 1000");
    let reader = shell("reader", "ls /tmp | wc -l; cat /proc/self/cgroup; echo; sleep 1000");
    master
        .launch_on(executor("pod", Type::Default, None), vec![writer, reader], true, true)
        .await?;
    master.update("writer", TaskRunning).await?;
    let running = master.update("reader", TaskRunning).await?;
    let container = running.container_status.and_then(|status| status.container_id);
    let container = container.context("a container")?;
    let pod = container.parent.context("a pod")?.value;
    let run = sandbox(&agent, "pod").await?;
    ensure!(run.ends_with(&pod), "{} is not of the pod {pod}", run.display());
    assert_eq!(text(&run.join("tasks/writer/stdout")).await?, "pod\n");
    let read = until("the reader has looked", || {
        let text = std::fs::read_to_string(run.join("tasks/reader/stdout")).ok()?;
        text.ends_with("\n\n").then_some(text)
    })
    .await?;
    assert!(read.starts_with("0\n"), "{read}");
    assert!(read.contains(&format!("/{pod}/{}", container.value)), "{read}");

    // The agent is killed and takes the pod over; then one task is killed, and the other with it.
    agent.kill().await?;
    agent.restart()?;
    let register = master.registered(2).await?;
    assert_eq!((register.tasks.len(), register.executors.len()), (2, 1));
    master.kill("reader", std::time::Duration::from_millis(200)).await?;
    master.update("reader", TaskKilled).await?;
    let killed = master.update("writer", TaskKilled).await?;
    assert!(
        killed
            .message()
            .starts_with("another task of its group failed or was killed"),
        "{killed:?}"
    );
    assert_eq!(master.exited("pod").await?, 0);
    until("the containers are gone", || {
        agent.cgroups_left().is_empty().then_some(())
    })
    .await
}

#[tokio::test]
async fn the_sum_of_a_pod_and_each_task_are_limited() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let tasks = vec![
        shell("greedy", "a=x; while :; do a=$a$a; done"),
        shell("quiet", "sleep 1000"),
    ];
    master
        .launch_on(executor("pod", Type::Default, None), tasks, true, true)
        .await?;
    let failed = master.update("greedy", TaskFailed).await?;
    assert_eq!(failed.reason(), Reason::ContainerLimitationMemory, "{failed:?}");
    assert!(failed.message().contains("the limit is 64.0 MiB"), "{failed:?}");
    master.update("quiet", TaskKilled).await?;
    master.exited("pod").await?;

    // What fails to start ends the group too.
    let mut absent = shell("absent", "/no/such/program");
    absent.command.as_mut().context("a command")?.shell = Some(false);
    let tasks = vec![shell("other", "sleep 1000"), absent];
    master
        .launch_on(executor("second", Type::Default, None), tasks, true, true)
        .await?;
    let failed = master.update("absent", TaskFailed).await?;
    assert_eq!(failed.reason(), Reason::ContainerLaunchFailed);
    master.update("other", TaskKilled).await?;
    master.exited("second").await?;
    until("the containers are gone", || {
        agent.cgroups_left().is_empty().then_some(())
    })
    .await
}

/// What an executor's environment holds, as its program wrote it down.
async fn environment(run: &Path) -> anyhow::Result<impl Fn(&str) -> String + use<>> {
    let text = text(&run.join("environment")).await?;
    Ok(move |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_default().to_owned()
    })
}

fn base(kind: call::Type) -> Call {
    Call {
        executor_id: "custom".into(),
        framework_id: FRAMEWORK.into(),
        r#type: Some(kind.into()),
        ..Default::default()
    }
}

fn update(task: &str, state: v1::TaskState, uuid: u8) -> call::Update {
    call::Update {
        status: v1::TaskStatus {
            task_id: task.into(),
            state: state.into(),
            uuid: Some(vec![uuid; 16]),
            ..Default::default()
        },
    }
}

fn with_token(call: Call, token: &str) -> anyhow::Result<Request<Call>> {
    let mut request = Request::new(call);
    let bearer = format!("Bearer {token}").parse()?;
    request.metadata_mut().insert("authorization", bearer);
    Ok(request)
}

async fn connect(agent: &AgentProcess) -> anyhow::Result<ExecutorClient<Channel>> {
    let path = agent.path("address");
    let address = until("the agent listens", || std::fs::read_to_string(&path).ok()).await?;
    Ok(ExecutorClient::connect(format!("http://{address}")).await?)
}

async fn next(events: &mut tonic::Streaming<Event>, kind: event::Type) -> anyhow::Result<Event> {
    let event = tokio::time::timeout(support::PATIENCE, events.message()).await??;
    let event = event.context("the stream ended")?;
    ensure!(event.r#type() == kind, "{event:?} instead of {kind:?}");
    Ok(event)
}

const WRITE_DOWN: &str = "env > environment.new; mv environment.new environment; sleep 1000";

#[tokio::test]
async fn a_custom_executor_outlives_the_agent_and_no_update_is_lost() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let custom = executor("custom", Type::Custom, Some(WRITE_DOWN));
    let mut tasks = vec![shell("one", ""), shell("two", "")];
    tasks.iter_mut().for_each(|task| task.command = None);
    master.launch_on(custom, tasks.clone(), false, true).await?;
    let run = sandbox(&agent, "custom").await?;
    let variable = environment(&run).await?;
    let token = variable("MESOS_EXECUTOR_AUTHENTICATION_TOKEN");
    let expected = [
        ("MESOS_FRAMEWORK_ID", FRAMEWORK),
        ("MESOS_EXECUTOR_ID", "custom"),
        ("MESOS_CHECKPOINT", "1"),
        ("MESOS_RECOVERY_TIMEOUT", "900000ms"),
        ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "200ms"),
        ("MESOS_TASK_ID", ""),
    ];
    for (name, value) in expected {
        assert_eq!(variable(name), value, "{name}");
    }

    // Nobody speaks for it without its token, neither on the port nor on the socket.
    let mut client = connect(&agent).await?;
    let wrong = client
        .subscribe(with_token(base(call::Type::Subscribe), "wrong")?)
        .await;
    assert_eq!(wrong.err().map(|status| status.code()), Some(Code::Unauthenticated));
    let without = client.subscribe(base(call::Type::Subscribe)).await;
    assert_eq!(without.err().map(|status| status.code()), Some(Code::Unauthenticated));
    let socket = variable("MESOS_DOMAIN_SOCKET");
    let answer = post(
        &socket,
        "wrong",
        "{\"type\":\"SUBSCRIBE\",\"executor_id\":{\"value\":\"custom\"},\"framework_id\":{\"value\":\"framework-1\"}}",
    )
    .await?;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");

    let subscribe = with_token(base(call::Type::Subscribe), &token)?;
    let mut events = client.subscribe(subscribe).await?.into_inner();
    let subscribed = next(&mut events, event::Type::Subscribed).await?;
    let subscribed = subscribed.subscribed.context("a payload")?;
    assert_eq!(subscribed.agent_info.id, Some("agent-1".into()));
    for wanted in ["one", "two"] {
        let launched = next(&mut events, event::Type::Launch).await?;
        assert_eq!(launched.launch.context("a payload")?.task.task_id.value, wanted);
    }
    let say = Call {
        update: Some(update("one", TaskRunning, 1)),
        ..base(call::Type::Update)
    };
    client.submit(with_token(say, &token)?).await?;
    let acknowledged = next(&mut events, event::Type::Acknowledged).await?;
    assert_eq!(acknowledged.acknowledged.context("a payload")?.uuid, [1; 16]);
    master.update("one", TaskRunning).await?;
    let stranger = Call {
        update: Some(update("three", TaskRunning, 2)),
        ..base(call::Type::Update)
    };
    let refused = client.submit(with_token(stranger, &token)?).await;
    let refused = refused.err().context("a task that is not there")?;
    assert!(
        refused.message().starts_with("`update.status.task_id` is \"three\""),
        "{refused}"
    );

    // The agent is killed. While it is away one task goes on and the other ends; the executor says so when it is back.
    agent.kill().await?;
    agent.restart()?;
    let register = master.registered(2).await?;
    assert_eq!((register.tasks.len(), register.executors.len()), (2, 1));
    let mut client = connect(&agent).await?;
    let again = Call {
        subscribe: Some(call::Subscribe {
            unacknowledged_tasks: vec![tasks[1].clone()],
            unacknowledged_updates: vec![update("one", TaskRunning, 1), update("two", TaskFinished, 3)],
        }),
        ..base(call::Type::Subscribe)
    };
    let mut events = client.subscribe(with_token(again, &token)?).await?.into_inner();
    next(&mut events, event::Type::Subscribed).await?;
    next(&mut events, event::Type::Acknowledged).await?;
    let acknowledged = next(&mut events, event::Type::Acknowledged).await?;
    assert_eq!(acknowledged.acknowledged.context("a payload")?.task_id.value, "two");
    master.update("two", TaskFinished).await?;
    let ones = master.look(|state| {
        let updates = state.updates.iter();
        updates.filter(|update| update.status.uuid == Some(vec![1; 16])).count()
    });
    assert_eq!(ones, 1, "an update that was acknowledged came again");

    // Asked to end, it does not listen: it is killed, and its task with it.
    let shutdown = proffer_proto::link::ShutdownExecutor {
        framework_id: FRAMEWORK.into(),
        executor_id: "custom".into(),
    };
    master
        .send(proffer_proto::link::master_message::Body::ShutdownExecutor(shutdown))
        .await?;
    next(&mut events, event::Type::Shutdown).await?;
    let killed = master.update("one", TaskKilled).await?;
    assert_eq!(killed.reason(), Reason::ExecutorTerminated);
    assert_eq!(master.exited("custom").await?, -9);
    until("the containers are gone", || {
        agent.cgroups_left().is_empty().then_some(())
    })
    .await
}

/// One call as HTTP/1.1 and JSON over the socket; what is answered, to the end.
async fn post(socket: &str, token: &str, body: &str) -> anyhow::Result<String> {
    let mut stream = tokio::net::UnixStream::connect(socket).await?;
    let length = body.len();
    let request = format!(
        "POST /api/v1/executor HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn executors_speak_json_over_http_on_the_socket() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let mut task = shell("one", "");
    task.command = None;
    let custom = executor("custom", Type::Custom, Some(WRITE_DOWN));
    master.launch_on(custom, vec![task], true, true).await?;
    let variable = environment(&sandbox(&agent, "custom").await?).await?;
    let (socket, token) = (
        variable("MESOS_DOMAIN_SOCKET"),
        variable("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"),
    );
    let ids = format!("\"executor_id\":{{\"value\":\"custom\"}},\"framework_id\":{{\"value\":\"{FRAMEWORK}\"}}");
    let early = post(&socket, &token, &format!("{{\"type\":\"HEARTBEAT\",{ids}}}")).await?;
    assert!(early.starts_with("HTTP/1.1 403 "), "{early}");

    let mut stream = tokio::net::UnixStream::connect(&socket).await?;
    let body = format!("{{\"type\":\"SUBSCRIBE\",{ids},\"subscribe\":{{}}}}");
    let length = body.len();
    let request = format!(
        "POST /api/v1/executor HTTP/1.1\r\nHost: agent\r\nAuthorization: Bearer {token}\r\nAccept: application/json\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut heard = String::new();
    let mut chunk = [0; 4096];
    while !heard.contains("\"LAUNCH_GROUP\"") {
        let length = tokio::time::timeout(support::PATIENCE, stream.read(&mut chunk)).await??;
        ensure!(length > 0, "the stream ended after {heard}");
        heard.push_str(std::str::from_utf8(&chunk[..length])?);
    }
    assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
    assert!(heard.contains("\"SUBSCRIBED\""), "{heard}");
    let uuid = "AQEBAQEBAQEBAQEBAQEBAQ==";
    let status = format!("{{\"task_id\":{{\"value\":\"one\"}},\"state\":\"TASK_FINISHED\",\"uuid\":\"{uuid}\"}}");
    let update = format!("{{\"type\":\"UPDATE\",{ids},\"update\":{{\"status\":{status}}}}}");
    let accepted = post(&socket, &token, &update).await?;
    assert!(accepted.starts_with("HTTP/1.1 202 "), "{accepted}");
    master.update("one", TaskFinished).await?;
    let bad = post(&socket, &token, "{\"type\":1").await?;
    assert!(bad.starts_with("HTTP/1.1 400 "), "{bad}");
    Ok(())
}

/// What a command in the container of a task or an executor says.
async fn said_within(agent: &AgentProcess, container: v1::ContainerId, script: &str) -> anyhow::Result<String> {
    use proffer_proto::api::agent_operator_client::AgentOperatorClient;
    use proffer_proto::v1::agent::call::{LaunchNestedContainerSession, Type};
    let address = std::fs::read_to_string(agent.path("address"))?;
    let mut client = AgentOperatorClient::connect(format!("http://{address}")).await?;
    let launch = LaunchNestedContainerSession {
        container_id: v1::ContainerId {
            value: uuid::Uuid::new_v4().to_string(),
            parent: Some(Box::new(container)),
        },
        command: Some(v1::CommandInfo {
            value: Some(script.into()),
            ..Default::default()
        }),
        container: None,
    };
    let mut call = v1::agent::Call {
        launch_nested_container_session: Some(launch),
        ..Default::default()
    };
    call.set_type(Type::LaunchNestedContainerSession);
    let mut messages = client.output(authorized(agent, call)?).await?.into_inner();
    let mut said = Vec::new();
    while let Some(message) = tokio::time::timeout(support::PATIENCE, messages.message()).await?? {
        said.extend(message.data.and_then(|data| data.data).unwrap_or_default());
    }
    Ok(String::from_utf8(said)?)
}

fn authorized<T>(agent: &AgentProcess, message: T) -> anyhow::Result<Request<T>> {
    let token = std::fs::read_to_string(agent.path("work").join("token"))?;
    let mut request = Request::new(message);
    let bearer = format!("Bearer {}", token.trim()).parse()?;
    request.metadata_mut().insert("authorization", bearer);
    Ok(request)
}

#[tokio::test]
async fn tasks_in_pods_and_executors_are_entered_attached_to_and_checked() -> anyhow::Result<()> {
    use proffer_proto::v1::agent::call::{AttachContainerOutput, Type as CallType};
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let talker = shell("talker", "echo spoken; sleep 1000");
    let mut checked = shell("checked", "sleep 1000");
    let mut check = v1::HealthCheck {
        command: Some(v1::CommandInfo {
            value: Some("[ ! -e ill ]".into()),
            ..Default::default()
        }),
        delay_seconds: Some(0.0),
        interval_seconds: Some(0.1),
        consecutive_failures: Some(2),
        ..Default::default()
    };
    check.set_type(v1::health_check::Type::Command);
    checked.health_check = Some(Box::new(check));
    master
        .launch_on(executor("pod", Type::Default, None), vec![talker, checked], true, true)
        .await?;
    let running = master.update("talker", TaskRunning).await?;
    let container = running.container_status.and_then(|status| status.container_id);
    let container = container.context("a container")?;
    let said = said_within(&agent, container.clone(), "pwd; echo $MESOS_TASK_ID $MESOS_EXECUTOR_ID").await?;
    assert!(said.ends_with("/tasks/talker\ntalker pod\n"), "{said}");
    text(&sandbox(&agent, "pod").await?.join("tasks/talker/stdout")).await?;
    let read = support::read_file("pod", "tasks/talker/stdout");
    let read = agent.call(read).await?.read_file.context("a file")?;
    assert_eq!(read.data, b"spoken\n");
    let mut call = v1::agent::Call {
        attach_container_output: Some(AttachContainerOutput {
            container_id: container.clone(),
        }),
        ..Default::default()
    };
    call.set_type(CallType::AttachContainerOutput);
    use proffer_proto::api::agent_operator_client::AgentOperatorClient;
    let address = std::fs::read_to_string(agent.path("address"))?;
    let mut client = AgentOperatorClient::connect(format!("http://{address}")).await?;
    client.output(authorized(&agent, call)?).await?;

    let custom = executor("custom", Type::Custom, Some(WRITE_DOWN));
    let mut given = shell("given", "");
    given.command = None;
    master.launch_on(custom, vec![given], false, true).await?;
    let run = sandbox(&agent, "custom").await?;
    let variable = environment(&run).await?;
    let id: v1::ContainerId = variable("MESOS_CONTAINER_ID").as_str().into();
    let script = "pwd; echo [$MESOS_EXECUTOR_AUTHENTICATION_TOKEN]";
    let said = said_within(&agent, id, script).await?;
    assert_eq!(
        said,
        format!("{}\n[]\n", run.display()),
        "whoever enters is not the executor"
    );

    // The checks go on when the agent was killed.
    let healthy = until("the task is healthy", || {
        master.look(|state| {
            let mut updates = state.updates.iter();
            updates.find(|update| update.status.healthy == Some(true)).cloned()
        })
    });
    assert_eq!(healthy.await?.status.task_id.value, "checked");
    agent.kill().await?;
    agent.restart()?;
    master.registered(2).await?;
    let path = agent.path("address");
    until("the agent listens", || path.exists().then_some(())).await?;
    std::fs::write(sandbox(&agent, "pod").await?.join("tasks/checked/ill"), "")?;
    let killed = master.update("checked", TaskKilled).await?;
    assert_eq!(killed.reason(), Reason::TaskHealthCheckStatusUpdated, "{killed:?}");
    master.update("talker", TaskKilled).await?;
    Ok(())
}

/// The value of a control file of a container, in whichever hierarchy.
fn limit_of(agent: &AgentProcess, container: &str, names: [&str; 2]) -> Option<u64> {
    let limits = agent.cgroups_left();
    let mut limits = limits
        .iter()
        .flat_map(|root| names.map(|name| root.join(container).join(name)));
    limits.find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok())
}

#[tokio::test]
async fn the_container_of_an_executor_grows_and_shrinks_with_its_tasks() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let custom = executor("custom", Type::Custom, Some(WRITE_DOWN));
    let task = |id: &str| v1::TaskInfo {
        command: None,
        ..shell(id, "")
    };
    master.launch_on(custom.clone(), vec![task("one")], false, true).await?;
    let variable = environment(&sandbox(&agent, "custom").await?).await?;
    let container = variable("MESOS_CONTAINER_ID");
    let memory = |mebibytes: u64| {
        let (agent, container) = (&agent, &container);
        async move {
            let names = ["memory.limit_in_bytes", "memory.max"];
            until(&format!("the limit is {mebibytes} MiB"), || {
                (limit_of(agent, container, names)? == mebibytes << 20).then_some(())
            })
            .await
        }
    };
    memory(128).await?;
    master.launch_on(custom, vec![task("two")], false, false).await?;
    memory(192).await?;
    let token = variable("MESOS_EXECUTOR_AUTHENTICATION_TOKEN");
    let mut client = connect(&agent).await?;
    let subscribe = with_token(base(call::Type::Subscribe), &token)?;
    let mut events = client.subscribe(subscribe).await?.into_inner();
    next(&mut events, event::Type::Subscribed).await?;
    for (uuid, id) in [(1, "one"), (2, "two")] {
        let end = Call {
            update: Some(update(id, TaskFinished, uuid)),
            ..base(call::Type::Update)
        };
        client.submit(with_token(end, &token)?).await?;
        memory(192 - 64 * u64::from(uuid)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_executor_that_does_not_come_back_is_killed_with_its_tasks() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let mut agent = AgentProcess::prepare(&master.address)?;
    agent.flags = ["--executor-reregistration-timeout", "0.5", "--recovery-timeout", "0.5"]
        .map(String::from)
        .to_vec();
    agent.restart()?;
    master.registered(1).await?;
    for (id, restarts) in [("leaves", false), ("stays", true)] {
        let custom = executor(id, Type::Custom, Some(WRITE_DOWN));
        let task = v1::TaskInfo {
            command: None,
            ..shell(id, "")
        };
        master.launch_on(custom, vec![task], false, true).await?;
        let subscribe = Call {
            executor_id: id.into(),
            ..base(call::Type::Subscribe)
        };
        let variable = environment(&sandbox(&agent, id).await?).await?;
        let token = variable("MESOS_EXECUTOR_AUTHENTICATION_TOKEN");
        let mut client = connect(&agent).await?;
        let mut events = client
            .subscribe(with_token(subscribe.clone(), &token)?)
            .await?
            .into_inner();
        next(&mut events, event::Type::Subscribed).await?;
        next(&mut events, event::Type::Launch).await?;
        match restarts {
            // Its stream breaks.
            false => drop((events, client)),
            true => {
                agent.kill().await?;
                agent.restart()?;
            }
        }
        let failed = master.update(id, TaskFailed).await?;
        assert_eq!(failed.reason(), Reason::ExecutorReregistrationTimeout, "{failed:?}");
        // The token is of no use any more.
        let mut client = connect(&agent).await?;
        let late = client.subscribe(with_token(subscribe, &token)?).await;
        assert_eq!(late.err().map(|status| status.code()), Some(Code::Unauthenticated));
    }
    until("the containers are gone", || {
        agent.cgroups_left().is_empty().then_some(())
    })
    .await
}

/// What an untrusted task tries in order to speak for the executor of another, or to learn how.
#[tokio::test]
async fn a_task_cannot_speak_for_the_executor_of_another() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    if !Path::new("/usr/bin/python3").exists() {
        eprintln!("skipped: the host has no python3");
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    let victim = v1::TaskInfo {
        command: None,
        ..shell("victim", "")
    };
    let custom = executor("custom", Type::Custom, Some(WRITE_DOWN));
    master.launch_on(custom, vec![victim], false, true).await?;
    let variable = environment(&sandbox(&agent, "custom").await?).await?;
    let token = variable("MESOS_EXECUTOR_AUTHENTICATION_TOKEN");
    // The sandbox of the victim is readable by its user, whom the intruder is: the token is not to be left there.
    std::fs::remove_file(sandbox(&agent, "custom").await?.join("environment"))?;
    let address = std::fs::read_to_string(agent.path("address"))?;
    let script = format!(
        r#"
import os, socket, sys
ids = '"executor_id":{{"value":"custom"}},"framework_id":{{"value":"{FRAMEWORK}"}}'
calls = ['{{"type":"SUBSCRIBE",%s}}' % ids,
         '{{"type":"MESSAGE",%s,"message":{{"data":"AAAA"}}}}' % ids,
         '{{"type":"UPDATE",%s,"update":{{"status":{{"task_id":{{"value":"victim"}},"state":"TASK_FINISHED","uuid":"AQEBAQEBAQEBAQEBAQEBAQ=="}}}}}}' % ids]
def ask(connection, bearer, call):
    head = 'POST /api/v1/executor HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n'
    if bearer is not None:
        head += 'Authorization: Bearer ' + bearer + '\r\n'
    connection.sendall((head + 'Content-Length: %d\r\n\r\n%s' % (len(call), call)).encode())
    print(connection.recv(12).decode().split()[1])
def over_port():
    host, port = '{address}'.rsplit(':', 1)
    return socket.create_connection((host, int(port)))
def over_socket():
    connection = socket.socket(socket.AF_UNIX)
    connection.connect('{work}/executors.sock')
    return connection
for connect in (over_port, over_socket):
    for bearer in (None, '', '0' * 64):
        for call in calls:
            ask(connect(), bearer, call)
# What the agent keeps, and what the executor's processes have.
tried = ['{work}/journal', '{work}/token', '{work}/lock']
for directory, _, names in os.walk('{run}'):
    tried += [os.path.join(directory, name) for name in names]
tried += ['/proc/%s/environ' % pid for pid in os.listdir('/proc') if pid.isdigit()]
own = '/proc/%d/environ' % os.getpid()
for path in tried:
    for mode in ('rb', 'r+b'):
        try:
            with open(path, mode) as file:
                if mode == 'r+b' and path != own:
                    print('writable', path)
                if b'AUTHENTICATION_TOKEN=' in file.read():
                    print('token in', path)
        except OSError:
            pass
for path in ('{work}/executors.sock', '{work}/journal', '{run}'):
    try:
        os.rename(path, path + '.taken')
        print('moved', path)
    except OSError:
        pass
try:
    os.listdir('{run}')
    for directory, names, _ in os.walk('{run}'):
        for name in names:
            open(os.path.join(directory, name, 'exit'), 'w').close()
            print('forged', directory, name)
except OSError:
    pass
print('end')
"#,
        work = agent.path("work").display(),
        run = agent.path("run").display(),
    );
    let mut intruder = shell("intruder", "");
    intruder.command = Some(v1::CommandInfo {
        shell: Some(false),
        value: Some("/usr/bin/python3".into()),
        arguments: vec!["python3".into(), "-c".into(), script],
        ..Default::default()
    });
    master.launch(intruder).await?;
    until("the intruder has ended", || {
        master.look(|state| {
            let mut updates = state.updates.iter();
            updates
                .any(|update| update.status.task_id.value == "intruder" && update.latest_state().is_terminal())
                .then_some(())
        })
    })
    .await?;
    let problem = agent.call(support::read_file("intruder", "stderr")).await?;
    assert_eq!(String::from_utf8(problem.read_file.context("its errors")?.data)?, "");
    let said = agent.call(support::read_file("intruder", "stdout")).await?;
    let said = String::from_utf8(said.read_file.context("its output")?.data)?;
    assert_eq!(said, format!("{}end\n", "401\n".repeat(18)), "{said}");
    ensure!(!said.contains(&token));
    let victim = master.look(|state| {
        let mut updates = state.updates.iter();
        updates.any(|update| update.status.task_id.value == "victim")
    });
    ensure!(!victim, "something was said of the victim");
    // The true executor is served.
    let mut client = connect(&agent).await?;
    let subscribe = with_token(base(call::Type::Subscribe), &token)?;
    let mut events = client.subscribe(subscribe).await?.into_inner();
    next(&mut events, event::Type::Subscribed).await?;
    Ok(())
}

#[tokio::test]
async fn a_group_that_runs_too_long_ends_with_all_that_it_started() -> anyhow::Result<()> {
    if !can_contain()? {
        return Ok(());
    }
    let master = FakeMaster::start().await?;
    let agent = AgentProcess::start(&master)?;
    master.registered(1).await?;
    // Neither listens to SIGTERM, nor does what they put into sessions of their own.
    let stubborn = "trap '' TERM; setsid sh -c \"trap '' TERM; echo begun > begun; while :; do sleep 1; done\" & \
                    until [ -e begun ]; do :; done; while :; do sleep 1; done";
    let span = |millis: i64| v1::DurationInfo {
        nanoseconds: millis * 1_000_000,
    };
    let group = [("limited", Some(1500)), ("other", None)].map(|(id, longest)| v1::TaskInfo {
        kill_policy: Some(v1::KillPolicy {
            grace_period: Some(span(200)),
        }),
        max_completion_time: longest.map(span),
        ..shell(id, stubborn)
    });
    master
        .launch_on(executor("pod", Type::Default, None), group.to_vec(), true, true)
        .await?;
    let limited = master.update("limited", TaskFailed).await?;
    assert_eq!(limited.reason(), Reason::MaxCompletionTimeReached, "{limited:?}");
    let other = master.update("other", TaskKilled).await?;
    assert!(other.message().starts_with("another task of its group"), "{other:?}");
    master.exited("pod").await?;
    // No cgroup that still has a process can be removed.
    until("the containers are gone", || {
        agent.cgroups_left().is_empty().then_some(())
    })
    .await
}
