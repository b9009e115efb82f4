//! The framework with real workers: the test plays the master and the agent, starts what is launched, and kills.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proffer_sdk::proto::v1::scheduler::call;
use proffer_sdk::proto::v1::{TaskId, TaskInfo, TaskState};
use proffer_sdk::testing::{self, FakeMaster};
use proffer_streaming::scheduler::{JobHandle, JobSpec, Outcome, Phase, distinct_windows, prepare};

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
        let pid = std::process::id();
        let host = format!("127.{}.{}.200", 1 + (pid >> 8) % 254, pid & 255);
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
        self.master
            .offers(vec![testing::offer(&id, &self.host, 4.0, 4096.0, 31000..=31099)]);
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
            self.update(
                &task_id,
                if code == Some(0) {
                    TaskState::TaskFinished
                } else {
                    TaskState::TaskFailed
                },
            );
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
        self.update(&task.task_id, TaskState::TaskRunning);
    }

    fn update(&self, task_id: &TaskId, state: TaskState) {
        self.master.update(testing::status(task_id, &self.host, state));
    }

    /// Kills one task as the kernel would.
    fn kill_one(&mut self) {
        let (_, child) = self.tasks.values_mut().next().unwrap();
        child.kill().unwrap();
    }
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

async fn until(agent: &mut Agent, handle: &JobHandle, what: &str, mut holds: impl FnMut(&JobHandle) -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds(handle) {
        agent.step();
        assert!(
            Instant::now() < deadline,
            "waited in vain for {what}: {:?} {:?}",
            handle.status(),
            handle.totals()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn every_request_is_counted_once_however_often_workers_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut service = Service {
        dir: dir.path().to_path_buf(),
        written: 0,
    };
    let mut agent = Agent::start().await;
    let mut spec =
        JobSpec::new("requests", 3, dir.path().join("out")).source(format!("{}/*.log", dir.path().display()));
    spec.worker_binary = Some(env!("CARGO_BIN_EXE_proffer-stream-worker").into());
    spec.worker_arguments.clear();
    spec.window_ms = 100;
    let (handle, job) = prepare(spec, agent.master.masters()).unwrap();
    let running = tokio::spawn(job.run());
    agent.master.subscribe().await;
    agent.offer();

    for attempt in 1..=4 {
        service.serve(500);
        let written = service.written;
        until(&mut agent, &handle, "all to be counted", |handle| {
            let (status, totals) = (handle.status(), handle.totals());
            status.phase == Phase::Running && status.attempt == attempt && totals.records == written
        })
        .await;
        if attempt < 4 {
            agent.kill_one();
        }
    }
    until(&mut agent, &handle, "windows to close by themselves", |handle| {
        !handle.rows().is_empty()
    })
    .await;
    service.serve(250);
    handle.drain();
    until(&mut agent, &handle, "the end", |handle| {
        handle.status().phase == Phase::Ended
    })
    .await;

    assert_eq!(running.await.unwrap().unwrap(), Outcome::Drained);
    let (totals, rows, status) = (handle.totals(), handle.rows(), handle.status());
    assert_eq!((status.attempt, status.restarts), (4, 3));
    assert!(totals.drained);
    assert_eq!(
        (totals.records, totals.malformed, totals.files),
        (service.written, 0, 3)
    );
    assert_eq!(totals.routes.values().sum::<u64>(), service.written);
    assert_eq!(
        rows.iter().map(|row| row.count).sum::<u64>() + totals.late,
        service.written
    );
    assert!(distinct_windows(&rows) > 0);
}
