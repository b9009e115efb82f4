//! The framework with real workers: the test plays the master and the agent, starts what is launched, and kills.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proffer_sdk::proto::v1::scheduler::call;
use proffer_sdk::proto::v1::{TaskId, TaskInfo, TaskState};
use proffer_sdk::testing::{self, FakeMaster};
use proffer_streaming::scheduler::{JobHandle, JobSpec, Outcome, Phase, distinct_windows, prepare};
use rustix::process::{Pid, Signal};

const DEADLINE: Duration = Duration::from_secs(90);

/// A cluster of one agent, whose host name is a loopback address of its own.
struct Agent {
    master: FakeMaster,
    host: String,
    offers: u32,
    tasks: HashMap<String, (TaskId, Child)>,
}

impl Agent {
    async fn start() -> Agent {
        static NEXT: AtomicU8 = AtomicU8::new(200);
        let (pid, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let host = format!("127.{}.{}.{number}", 1 + (pid >> 8) % 254, pid & 255);
        Agent {
            master: FakeMaster::start().await,
            host,
            offers: 0,
            tasks: HashMap::new(),
        }
    }

    fn offer(&mut self) {
        self.offers += 1;
        let id = format!("o{}", self.offers);
        // Below the ports that the kernel hands out, and seldom those of another test.
        let first = 10_000 + (std::process::id() % 1_250) as u16 * 16;
        let ports = first..=first + 15;
        self.master
            .offers(vec![testing::offer(&id, &self.host, 4.0, 4096.0, ports)]);
    }

    /// Does what the framework has asked for since the last time, and tells what has become of its tasks.
    fn step(&mut self) {
        for accept in self.master.calls_so_far(call::Type::Accept) {
            let operations = accept.accept.unwrap().operations;
            operations
                .into_iter()
                .flat_map(|operation| operation.launch.unwrap().task_infos)
                .for_each(|task| self.launch(task));
        }
        for kill in self.master.calls_so_far(call::Type::Kill) {
            if let Some((_, child)) = self.tasks.get_mut(&kill.kill.unwrap().task_id.value) {
                child.kill().unwrap();
            }
        }
        let ended: Vec<(TaskId, Option<i32>)> = self
            .tasks
            .values_mut()
            .filter_map(|(task_id, child)| Some((task_id.clone(), child.try_wait().unwrap()?.code())))
            .collect();
        for (task_id, code) in ended {
            self.tasks.remove(&task_id.value);
            match code {
                Some(0) => self.update(&task_id, TaskState::TaskFinished, "exited"),
                _ => self.update(&task_id, TaskState::TaskFailed, &format!("exit code {code:?}")),
            }
        }
        if !self.master.calls_so_far(call::Type::Revive).is_empty() {
            self.offer();
        }
    }

    fn launch(&mut self, task: TaskInfo) {
        let command = task.command.unwrap();
        let environment = command.environment.unwrap().variables;
        let child = Command::new(command.value.unwrap())
            .args(&command.arguments[1..])
            .envs(
                environment
                    .iter()
                    .map(|variable| (variable.name.as_str(), variable.value())),
            )
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.tasks
            .insert(task.task_id.value.clone(), (task.task_id.clone(), child));
        self.update(&task.task_id, TaskState::TaskRunning, "");
    }

    fn update(&self, task_id: &TaskId, state: TaskState, message: &str) {
        let mut status = testing::status(task_id, &self.host, state);
        status.message = Some(message.to_owned());
        self.master.update(status);
    }

    fn signal_one(&self, signal: Signal) {
        self.tasks.values().take(1).for_each(|(_, child)| send(child, signal));
    }

    fn signal_all(&self, signal: Signal) {
        self.tasks.values().for_each(|(_, child)| send(child, signal));
    }
}

fn send(child: &Child, signal: Signal) {
    rustix::process::kill_process(Pid::from_child(child), signal).unwrap();
}

impl Drop for Agent {
    fn drop(&mut self) {
        for (_, child) in self.tasks.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A service that writes access logs.
struct Service {
    dir: PathBuf,
    written: u64,
}

impl Service {
    fn serve(&mut self, requests: u64) {
        let ts_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        for _ in 0..requests {
            let n = self.written;
            let (instance, route, latency_us) = (n % 3, n % 5, n % 1_000);
            let mut log = std::fs::File::options()
                .append(true)
                .create(true)
                .open(self.dir.join(format!("{instance}.log")))
                .unwrap();
            writeln!(
                log,
                r#"{{"ts_ms":{ts_ms},"route":"/r{route}","method":"GET","status":200,"latency_us":{latency_us},"instance":"web.{instance}"}}"#
            )
            .unwrap();
            self.written += 1;
        }
    }
}

/// A job of three workers on a service's logs, with the agent to run it.
struct Scene {
    _dir: tempfile::TempDir,
    service: Service,
    agent: Agent,
    handle: JobHandle,
    running: tokio::task::JoinHandle<Result<Outcome, proffer_sdk::RunError>>,
}

impl Scene {
    async fn start(change: impl FnOnce(&mut JobSpec)) -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let mut agent = Agent::start().await;
        let logs = format!("{}/*.log", dir.path().display());
        let mut spec = JobSpec::new("requests", 3, dir.path().join("out")).source(logs);
        spec.worker_binary = Some(env!("CARGO_BIN_EXE_proffer-stream-worker").into());
        spec.worker_arguments.clear();
        spec.window_ms = 100;
        change(&mut spec);
        let (handle, job) = prepare(spec, agent.master.masters()).unwrap();
        let running = tokio::spawn(job.run());
        agent.master.subscribe().await;
        agent.offer();
        let service = Service {
            dir: dir.path().to_path_buf(),
            written: 0,
        };
        Scene {
            _dir: dir,
            service,
            agent,
            handle,
            running,
        }
    }

    async fn until(&mut self, what: &str, mut holds: impl FnMut(&JobHandle) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        let handle = &self.handle;
        while !holds(handle) {
            self.agent.step();
            let known = || (handle.status(), handle.totals());
            assert!(Instant::now() < deadline, "waited in vain for {what}: {:?}", known());
            let failed = matches!(handle.status().outcome, Some(Outcome::Failed(_)));
            assert!(!failed, "{:?}", known());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Until this attempt has counted everything that was served.
    async fn until_counted(&mut self, attempt: u64) {
        let written = self.service.written;
        self.until("all to be counted", |handle| {
            let (status, totals) = (handle.status(), handle.totals());
            status.phase == Phase::Running && status.attempt == attempt && totals.records == written
        })
        .await;
    }

    async fn drain(mut self) {
        self.handle.drain();
        self.until("the end", |handle| handle.status().phase == Phase::Ended)
            .await;
        assert_eq!(self.running.await.unwrap().unwrap(), Outcome::Drained);
        let (totals, rows) = (self.handle.totals(), self.handle.rows());
        assert!(totals.drained);
        assert_eq!(
            (totals.records, totals.malformed, totals.files),
            (self.service.written, 0, 3)
        );
        assert_eq!(totals.routes.values().sum::<u64>(), totals.records);
        assert_eq!(
            rows.iter().map(|row| row.count).sum::<u64>() + totals.late,
            totals.records
        );
        assert!(distinct_windows(&rows) > 0);
    }
}

#[tokio::test]
async fn every_request_is_counted_once_however_often_workers_are_killed() {
    let mut scene = Scene::start(|_| {}).await;
    for attempt in 1..=4 {
        scene.service.serve(500);
        scene.until_counted(attempt).await;
        if attempt < 4 {
            scene.agent.signal_one(Signal::KILL);
        }
    }
    scene
        .until("windows to close by themselves", |handle| !handle.rows().is_empty())
        .await;
    scene.service.serve(250);
    assert_eq!(scene.handle.status().restarts, 3);
    scene.drain().await;
}

#[tokio::test]
async fn a_worker_that_hangs_is_noticed_and_replaced() {
    let mut scene = Scene::start(|spec| spec.stall_timeout_ms = 3_000).await;
    scene.service.serve(100);
    scene.until_counted(1).await;
    scene.agent.signal_one(Signal::STOP);
    scene.service.serve(100);
    scene.until_counted(2).await;
    let failure = scene.handle.status().last_failure.unwrap();
    assert!(failure.contains("no sign of life for 3000 ms"), "{failure}");
    scene.drain().await;
}

#[tokio::test]
async fn a_worker_that_is_killed_while_it_drains_is_replaced_by_one_that_drains() {
    let mut scene = Scene::start(|_| {}).await;
    scene.service.serve(300);
    scene.until_counted(1).await;
    // A stopped worker keeps the others from ending.
    scene.agent.signal_one(Signal::STOP);
    scene.handle.drain();
    scene
        .until("the job to drain", |handle| handle.status().phase == Phase::Draining)
        .await;
    scene.agent.signal_all(Signal::KILL);
    scene.service.serve(30);
    scene.drain().await;
}
