//! The framework against a master that does what the test says. Workers are not started here: their files are written by
//! the test.

use std::time::Duration;

use proffer_sdk::proto::v1::scheduler::call;
use proffer_sdk::proto::v1::{TaskInfo, TaskState};
use proffer_sdk::testing::{self, FakeMaster};
use proffer_streaming::output::Layout;
use proffer_streaming::scheduler::{JobHandle, JobSpec, JobStatus, Outcome, Phase, prepare};

type Running = tokio::task::JoinHandle<Result<Outcome, proffer_sdk::RunError>>;

struct Cluster {
    dir: tempfile::TempDir,
    master: FakeMaster,
    handle: JobHandle,
    running: Running,
    offers: u32,
}

impl Cluster {
    async fn start(change: impl FnOnce(JobSpec) -> JobSpec) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let mut master = FakeMaster::start().await;
        let spec = JobSpec::new("requests", 2, dir.path().join("out")).source("/nowhere/*.log");
        let (handle, job) = prepare(change(spec), master.masters()).unwrap();
        let running = tokio::spawn(job.run());
        let subscribe = master.subscribe().await;
        assert_eq!(subscribe.framework_info.name, "streaming");
        Cluster {
            dir,
            master,
            handle,
            running,
            offers: 0,
        }
    }

    /// Offers an agent with room for this many workers.
    fn offer(&mut self, agent: &str, workers: u16) {
        self.offers += 1;
        let id = format!("o{}", self.offers);
        let cpus = 0.25 * f64::from(workers);
        self.master.offers(vec![testing::offer(
            &id,
            agent,
            cpus,
            1024.0,
            31000..=31000 + 10 * workers,
        )]);
    }

    /// The tasks of one attempt, in the order of their index.
    async fn launched(&mut self, count: usize) -> Vec<TaskInfo> {
        let mut tasks = Vec::new();
        while tasks.len() < count {
            let accept = self.master.accept().await;
            tasks.extend(
                accept
                    .operations
                    .into_iter()
                    .flat_map(|operation| operation.launch.unwrap().task_infos),
            );
        }
        tasks.sort_by(|left, right| left.name.cmp(&right.name));
        tasks
    }

    fn update(&self, task: &TaskInfo, state: TaskState) {
        self.master
            .update(testing::status(&task.task_id, &task.agent_id.value, state));
    }

    async fn wait(&self, holds: impl FnMut(&JobStatus) -> bool) -> JobStatus {
        let mut watch = self.handle.watch();
        let status = tokio::time::timeout(Duration::from_secs(20), watch.wait_for(holds)).await;
        status.expect("in time").expect("the scheduler runs").clone()
    }

    async fn outcome(self) -> Outcome {
        tokio::time::timeout(Duration::from_secs(20), self.running)
            .await
            .unwrap()
            .unwrap()
            .unwrap()
    }
}

/// The value of an argument of a worker.
fn argument<'a>(task: &'a TaskInfo, name: &str) -> &'a str {
    let arguments = &task.command.as_ref().unwrap().arguments;
    let position = arguments.iter().position(|argument| argument == name).unwrap();
    &arguments[position + 1]
}

fn token(task: &TaskInfo) -> &str {
    let variables = &task.command.as_ref().unwrap().environment.as_ref().unwrap().variables;
    variables
        .iter()
        .find(|variable| variable.name == "PROFFER_STREAM_TOKEN")
        .unwrap()
        .value()
}

#[tokio::test]
async fn all_workers_are_launched_together_and_know_each_other() {
    let mut cluster = Cluster::start(|spec| JobSpec { workers: 3, ..spec }).await;
    cluster.offer("agent1", 2);
    // Not enough yet: it is held until another offer makes it enough.
    cluster.offer("agent2", 2);
    let tasks = cluster.launched(3).await;
    let peers = argument(&tasks[0], "--peers").to_owned();
    assert_eq!(peers.split(',').count(), 3);
    for (index, task) in tasks.iter().enumerate() {
        assert_eq!(argument(task, "--index"), index.to_string());
        assert_eq!(argument(task, "--attempt"), "1");
        assert_eq!(argument(task, "--peers"), peers);
        assert_eq!(token(task), token(&tasks[0]));
        let port = task.resources.iter().find(|resource| resource.name == "ports").unwrap();
        let port = port.ranges.as_ref().unwrap().range[0].begin;
        assert_eq!(
            peers.split(',').nth(index).unwrap(),
            format!("{}:{port}", task.agent_id.value)
        );
    }
    cluster.master.call(call::Type::Suppress).await;
    tasks
        .iter()
        .for_each(|task| cluster.update(task, TaskState::TaskRunning));
    let status = cluster.wait(|status| status.phase == Phase::Running).await;
    assert_eq!((status.attempt, status.restarts, status.workers.len()), (1, 0, 3));
}

#[tokio::test]
async fn when_a_worker_ends_the_others_are_killed_and_a_new_attempt_is_launched() {
    let mut cluster = Cluster::start(|spec| spec).await;
    cluster.offer("agent1", 2);
    let first = cluster.launched(2).await;
    first
        .iter()
        .for_each(|task| cluster.update(task, TaskState::TaskRunning));
    cluster.wait(|status| status.phase == Phase::Running).await;

    cluster.update(&first[0], TaskState::TaskFailed);
    let kill = cluster.master.kill().await;
    assert_eq!(kill.task_id, first[1].task_id);
    assert_eq!(kill.kill_policy.unwrap().grace_period.unwrap().nanoseconds, 0);
    cluster.update(&first[1], TaskState::TaskKilled);
    cluster.master.call(call::Type::Revive).await;

    cluster.offer("agent2", 2);
    let second = cluster.launched(2).await;
    assert_eq!(argument(&second[0], "--attempt"), "2");
    assert_ne!(
        token(&second[0]),
        token(&first[0]),
        "an old worker cannot join the new attempt"
    );
    let status = cluster.wait(|status| status.attempt == 2).await;
    assert_eq!(status.restarts, 1);
    assert!(status.last_failure.unwrap().starts_with("worker 0: TASK_FAILED"));
    // One that turns up from before is killed.
    cluster.update(&first[0], TaskState::TaskRunning);
    second
        .iter()
        .for_each(|task| cluster.update(task, TaskState::TaskRunning));
    cluster.wait(|status| status.phase == Phase::Running).await;
}

#[tokio::test]
async fn an_unreachable_worker_does_not_hold_up_the_new_attempt_and_is_killed_when_it_comes_back() {
    let mut cluster = Cluster::start(|spec| spec).await;
    cluster.offer("agent1", 1);
    cluster.offer("agent2", 1);
    let first = cluster.launched(2).await;
    first
        .iter()
        .for_each(|task| cluster.update(task, TaskState::TaskRunning));
    cluster.update(&first[0], TaskState::TaskUnreachable);
    // Both are asked to end; the unreachable one cannot hear it now.
    cluster.master.kill().await;
    cluster.master.kill().await;
    cluster.update(&first[1], TaskState::TaskKilled);
    cluster.master.call(call::Type::Revive).await;
    cluster.offer("agent3", 2);
    cluster.launched(2).await;
    cluster.update(&first[0], TaskState::TaskRunning);
    assert_eq!(cluster.master.kill().await.task_id, first[0].task_id);
}

#[tokio::test]
async fn draining_asks_by_file_and_ends_the_framework_when_all_workers_have_finished() {
    let mut cluster = Cluster::start(|spec| spec).await;
    cluster.offer("agent1", 2);
    let tasks = cluster.launched(2).await;
    tasks
        .iter()
        .for_each(|task| cluster.update(task, TaskState::TaskRunning));
    cluster.wait(|status| status.phase == Phase::Running).await;
    cluster.handle.drain();
    cluster.wait(|status| status.phase == Phase::Draining).await;
    let layout = Layout::new(cluster.dir.path().join("out"));
    assert!(layout.drain().exists());
    tasks
        .iter()
        .for_each(|task| cluster.update(task, TaskState::TaskFinished));
    cluster.master.call(call::Type::Teardown).await;
    assert_eq!(cluster.handle.wait_ended().await.outcome, Some(Outcome::Drained));
    assert_eq!(cluster.outcome().await, Outcome::Drained);
}

#[tokio::test]
async fn a_cancelled_job_kills_its_workers() {
    let mut cluster = Cluster::start(|spec| spec).await;
    cluster.offer("agent1", 2);
    let tasks = cluster.launched(2).await;
    cluster.handle.cancel();
    cluster.master.kill().await;
    cluster.master.kill().await;
    tasks
        .iter()
        .for_each(|task| cluster.update(task, TaskState::TaskKilled));
    cluster.master.call(call::Type::Teardown).await;
    assert_eq!(cluster.outcome().await, Outcome::Cancelled);
}

#[tokio::test]
async fn a_job_that_fails_at_once_again_and_again_is_given_up() {
    let mut cluster = Cluster::start(|spec| JobSpec {
        workers: 1,
        quick_failures_max: 3,
        ..spec
    })
    .await;
    for attempt in 1..=3 {
        cluster.offer("agent1", 1);
        let tasks = cluster.launched(1).await;
        assert_eq!(argument(&tasks[0], "--attempt"), attempt.to_string());
        cluster.update(&tasks[0], TaskState::TaskFailed);
        if attempt < 3 {
            cluster.master.call(call::Type::Revive).await;
        }
    }
    let outcome = cluster.outcome().await;
    assert!(
        matches!(&outcome, Outcome::Failed(reason) if reason.contains("TASK_FAILED")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn attempts_go_on_counting_where_an_earlier_scheduler_stopped() {
    let mut cluster = Cluster::start(|spec| spec).await;
    std::fs::create_dir_all(cluster.dir.path().join("out/attempt-7")).unwrap();
    cluster.offer("agent1", 2);
    let tasks = cluster.launched(2).await;
    assert_eq!(argument(&tasks[1], "--attempt"), "8");
}

#[tokio::test]
async fn a_signal_drains_a_job_of_the_command_line_and_a_second_one_cancels_it() {
    use clap::Parser as _;
    use proffer_streaming::scheduler::{JobArgs, run_job};
    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        job: JobArgs,
    }
    let dir = tempfile::tempdir().unwrap();
    let out_dir = dir.path().join("out");
    let arguments = ["run", "--source", "/nowhere/*.log", "-w", "1", "--out-dir"];
    let arguments = arguments
        .into_iter()
        .map(std::ffi::OsStr::new)
        .chain([out_dir.as_os_str()]);
    let args = Command::try_parse_from(arguments).unwrap().job;
    let mut master = FakeMaster::start().await;
    let (told, mut phases) = tokio::sync::mpsc::unbounded_channel();
    let running = tokio::spawn(run_job(args, master.masters(), move |status, totals| {
        assert_eq!(totals.records, 0);
        let _ = told.send(status.phase);
    }));
    master.subscribe().await;
    master.offers(vec![testing::offer("o1", "agent1", 1.0, 1024.0, 31000..=31009)]);
    let accept = master.accept().await;
    let task = &accept.operations[0].launch.as_ref().unwrap().task_infos[0];
    master.update(testing::status(&task.task_id, "agent1", TaskState::TaskRunning));
    let mut wait_for = async |wanted| {
        let reached = async { while phases.recv().await.expect("the job runs") != wanted {} };
        tokio::time::timeout(Duration::from_secs(20), reached)
            .await
            .expect("in time");
    };
    wait_for(Phase::Running).await;
    signal_self(rustix::process::Signal::TERM);
    wait_for(Phase::Draining).await;
    assert!(Layout::new(&out_dir).drain().exists());
    signal_self(rustix::process::Signal::INT);
    wait_for(Phase::Stopping).await;
    assert_eq!(master.kill().await.task_id, task.task_id);
    master.update(testing::status(&task.task_id, "agent1", TaskState::TaskKilled));
    master.call(call::Type::Teardown).await;
    assert_eq!(running.await.unwrap().unwrap(), Outcome::Cancelled);
}

/// Only for signals that are caught by then.
fn signal_self(signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::getpid(), signal).unwrap();
}
