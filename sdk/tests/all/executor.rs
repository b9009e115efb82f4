//! Executors with a scripted agent.

use std::time::Duration;

use proffer_proto::v1::TaskState::*;
use proffer_proto::v1::executor::event::Subscribed;
use proffer_proto::v1::executor::{call, event};
use proffer_proto::v1::{KillPolicy, TaskId, TaskInfo, TaskStatus};
use proffer_sdk::executor::{Context, Executor, Options, RunError, run};
use proffer_sdk::testing::FakeAgent;
use tokio::sync::mpsc;
use tonic::Status;

/// Tells what it is told; tasks run until they are killed.
struct Teller {
    told: mpsc::UnboundedSender<String>,
}

impl Executor for Teller {
    type Message = TaskId;

    async fn registered(&mut self, _: &mut Context<TaskId>, subscribed: &Subscribed) {
        self.tell(format!("registered {}", subscribed.executor_info.executor_id));
    }

    async fn reregistered(&mut self, _: &mut Context<TaskId>) {
        self.tell("reregistered".into());
    }

    async fn launch(&mut self, context: &mut Context<TaskId>, task: TaskInfo) {
        self.tell(format!("launch {}", task.task_id));
        context.running(&task.task_id);
        if task.data() == b"ends" {
            context.sender().send(task.task_id).expect("the run goes on");
        }
    }

    async fn kill(&mut self, context: &mut Context<TaskId>, task_id: TaskId, _: Option<KillPolicy>) {
        self.tell(format!("kill {task_id}"));
        context.killed(&task_id);
    }

    async fn framework_message(&mut self, context: &mut Context<TaskId>, data: Vec<u8>) {
        context.message(data);
    }

    async fn message(&mut self, context: &mut Context<TaskId>, task_id: TaskId) {
        context.finished(&task_id);
    }

    async fn disconnected(&mut self, _: &mut Context<TaskId>) {
        self.tell("disconnected".into());
    }
}

impl Teller {
    fn tell(&self, text: String) {
        self.told.send(text).expect("the test listens");
    }
}

type Told = mpsc::UnboundedReceiver<String>;
type Running = tokio::task::JoinHandle<Result<Teller, RunError>>;

fn start(options: Options) -> (Running, Told) {
    let (told, hears) = mpsc::unbounded_channel();
    (tokio::spawn(run(Teller { told }, options)), hears)
}

async fn expect(told: &mut Told, text: &str) {
    let heard = tokio::time::timeout(Duration::from_secs(20), told.recv()).await;
    assert_eq!(heard.expect("in time").as_deref(), Some(text));
}

fn task(id: &str, data: &str) -> TaskInfo {
    TaskInfo {
        task_id: id.into(),
        data: Some(data.into()),
        ..Default::default()
    }
}

#[tokio::test]
async fn tasks_run_end_and_are_killed() {
    let mut agent = FakeAgent::start().await;
    let (running, mut told) = start(agent.options());
    agent.subscribed().await;
    expect(&mut told, "registered executor-1").await;
    agent.launch_group(vec![task("a", "ends"), task("b", "")]);
    agent.launch(task("b", ""));
    expect(&mut told, "launch a").await;
    expect(&mut told, "launch b").await;
    for (id, state) in [("a", TaskRunning), ("b", TaskRunning), ("a", TaskFinished)] {
        let status = agent.update().await;
        assert_eq!((status.task_id.value.as_str(), status.state()), (id, state));
        assert_eq!(status.executor_id, Some("executor-1".into()));
        assert!(status.timestamp.is_some());
        agent.acknowledge(&status);
    }
    agent.kill("a", None);
    agent.kill("b", None);
    expect(&mut told, "kill b").await;
    let killed = agent.update().await;
    assert_eq!(killed.state(), TaskKilled);
    agent.acknowledge(&killed);
    agent.message("hello");
    assert_eq!(agent.data().await, b"hello");

    // What still runs is killed when the executor is shut down, and it waits until that is acknowledged.
    agent.launch(task("c", ""));
    let status = agent.update().await;
    agent.acknowledge(&status);
    agent.shut_down();
    let killed = agent.update().await;
    assert_eq!((killed.task_id.value.as_str(), killed.state()), ("c", TaskKilled));
    assert!(!running.is_finished());
    agent.acknowledge(&killed);
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_was_not_acknowledged_is_said_to_the_next_agent() {
    let mut agent = FakeAgent::start().await;
    let (running, mut told) = start(agent.options());
    let first = agent.subscribed().await;
    assert_eq!(first, call::Subscribe::default());
    expect(&mut told, "registered executor-1").await;
    agent.launch(task("a", ""));
    agent.launch(task("b", "ends"));
    let mut said: Vec<TaskStatus> = Vec::new();
    for _ in 0..3 {
        said.push(agent.update().await);
    }
    agent.acknowledge(&said[0]);
    // The order of events is kept: this one is answered after the acknowledgement was heard.
    agent.message("heard?");
    agent.data().await;
    agent.go_away(Status::unavailable("restarting"));
    expect(&mut told, "launch a").await;
    expect(&mut told, "launch b").await;
    expect(&mut told, "disconnected").await;
    agent.come_back();
    let again = agent.subscribed().await;
    let updates: Vec<_> = again
        .unacknowledged_updates
        .iter()
        .map(|update| &update.status)
        .collect();
    assert_eq!(updates, [&said[1], &said[2]]);
    let tasks: Vec<_> = again
        .unacknowledged_tasks
        .iter()
        .map(|task| &task.task_id.value)
        .collect();
    assert_eq!(tasks, ["b"]);
    expect(&mut told, "reregistered").await;
    agent.acknowledge(&said[1]);
    agent.acknowledge(&said[2]);
    agent.message("heard?");
    agent.data().await;
    agent.go_away(Status::unavailable("restarting"));
    agent.come_back();
    assert_eq!(agent.subscribed().await, call::Subscribe::default());
    running.abort();
}

#[tokio::test]
async fn an_executor_ends_without_its_agent() {
    let mut agent = FakeAgent::start().await;
    let (running, _told) = start(agent.options());
    agent.subscribed().await;
    agent.send(event_error("no more"));
    assert_eq!(running.await.unwrap().err(), Some(RunError::Ended("no more".into())));

    let mut options = agent.options();
    options.token = "wrong".into();
    let (running, _told) = start(options);
    assert!(matches!(running.await.unwrap().err(), Some(RunError::Refused(_))));

    let mut options = agent.options();
    options.recovery_timeout = Duration::from_millis(300);
    let (running, _told) = start(options);
    agent.subscribed().await;
    agent.go_away(Status::unavailable("gone for good"));
    assert!(matches!(running.await.unwrap().err(), Some(RunError::AgentLost(_))));
}

fn event_error(message: &str) -> proffer_proto::v1::executor::Event {
    proffer_proto::v1::executor::Event {
        r#type: Some(event::Type::Error.into()),
        error: Some(event::Error {
            message: message.into(),
        }),
        ..Default::default()
    }
}
