//! The scheduler against a scripted master.

use std::time::Duration;

use proffer_sdk::proto::v1::scheduler::call;
use proffer_sdk::proto::v1::{Offer, TaskInfo, TaskState};
use proffer_sdk::testing::{self, FakeMaster};
use proffer_services::catalogue::State;
use proffer_services::spec::{Backoff, PortSpec};
use proffer_services::{Config, Handle, ServiceSpec, run};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A scheduler with its master and its state directory.
struct Bench {
    master: FakeMaster,
    services: Handle,
    directory: TempDir,
}

impl Bench {
    async fn start() -> Self {
        let mut master = FakeMaster::start().await;
        let directory = tempfile::tempdir().unwrap();
        let services = run(Config::new(master.masters(), directory.path())).await.unwrap();
        master.subscribe().await;
        Self {
            master,
            services,
            directory,
        }
    }

    /// Ends the scheduler like `kill -9` does and starts another; returns the framework id that it subscribes with.
    async fn restart(&mut self) -> Option<String> {
        self.take_over().await;
        let subscribe = self.master.subscribe().await;
        subscribe.framework_info.id.map(|id| id.value)
    }

    async fn take_over(&mut self) {
        let masters = self.master.masters();
        let config = Config::new(masters, self.directory.path());
        // The lock of the state directory is free once the old scheduler is gone.
        let services = loop {
            self.services.abort();
            match run(config.clone()).await {
                Ok(services) => break services,
                Err(proffer_services::Error::Store(proffer_services::StoreError::Locked(_))) => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        self.services = services;
    }

    /// Waits until offers are wanted, makes these, and returns what is launched on them.
    async fn launch_on(&mut self, offers: Vec<Offer>) -> Vec<TaskInfo> {
        self.master.offers(offers);
        let accept = self.master.accept().await;
        let launches = accept.operations.into_iter().filter_map(|operation| operation.launch);
        launches.flat_map(|launch| launch.task_infos).collect()
    }

    async fn put(&self, spec: ServiceSpec) {
        self.services.remote().put(spec).await.unwrap();
    }

    fn says(&self, task: &TaskInfo, state: TaskState) {
        self.master
            .update(testing::status(&task.task_id, task.agent_id.as_str(), state));
    }

    async fn running(&self, service: &str, count: u32) {
        let running = |catalogue: &proffer_services::Catalogue| {
            catalogue
                .services
                .get(service)
                .is_some_and(|service| service.running == count)
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), self.services.remote().wait_for(running)).await;
        waited
            .unwrap_or_else(|_| panic!("{:#?}", self.services.remote().catalogue()))
            .unwrap();
    }
}

fn web(instances: u32) -> ServiceSpec {
    ServiceSpec {
        instances,
        ports: vec![PortSpec {
            name: "http".to_owned(),
            port: 0,
        }],
        backoff: Backoff {
            initial_ms: 20,
            max_ms: 40,
            factor: 2.0,
            reset_after_s: 10.0,
        },
        ..ServiceSpec::command("web", "exec ./web")
    }
}

fn big(id: &str, agent: &str) -> Offer {
    testing::offer(id, agent, 8.0, 8192.0, 31000..=31099)
}

fn env(task: &TaskInfo, name: &str) -> String {
    let variables = task
        .command
        .iter()
        .flat_map(|command| &command.environment)
        .flat_map(|env| &env.variables);
    let found = variables.into_iter().find(|variable| variable.name == name);
    found.and_then(|variable| variable.value.clone()).unwrap_or_default()
}

/// Asks the control port; answers status and body.
async fn ask(services: &Handle, head: &str, body: &str) -> (u16, serde_json::Value) {
    let mut stream = TcpStream::connect(services.control()).await.unwrap();
    let length = body.len();
    let request =
        format!("{head} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test]
async fn a_scheduler_without_a_master_tells_what_is_wanted() {
    let mut bench = Bench::start().await;
    bench.put(web(2)).await;
    bench.running("web", 0).await;
    bench.master.follow(None);
    bench.take_over().await;
    let catalogue = bench.services.remote().catalogue();
    assert_eq!(catalogue.framework_id.as_deref(), Some("framework-1"));
    assert!(!catalogue.connected);
    assert_eq!(catalogue.services["web"].instances.len(), 2);
}

#[tokio::test]
async fn instances_are_launched_with_ports_and_environment_and_found_in_the_catalogue() {
    let mut bench = Bench::start().await;
    bench.master.call(call::Type::Suppress).await;
    bench
        .put(ServiceSpec {
            env: [("MODE".to_owned(), "fast".to_owned())].into(),
            ..web(2)
        })
        .await;
    bench.master.call(call::Type::Revive).await;
    let tasks = bench.launch_on(vec![big("o1", "a1")]).await;
    assert_eq!(tasks.len(), 2);
    bench.master.call(call::Type::Suppress).await;
    assert_eq!(
        (env(&tasks[0], "INSTANCE"), env(&tasks[1], "INSTANCE")),
        ("web.0".to_owned(), "web.1".to_owned())
    );
    assert_eq!(
        (env(&tasks[1], "SERVICE"), env(&tasks[1], "MODE")),
        ("web".to_owned(), "fast".to_owned())
    );
    assert_eq!(env(&tasks[0], "PORT0"), env(&tasks[0], "PORT_HTTP"));
    assert_ne!(env(&tasks[0], "PORT0"), env(&tasks[1], "PORT0"));
    for task in &tasks {
        bench.says(task, TaskState::TaskRunning);
    }
    bench.running("web", 2).await;
    let catalogue = bench.services.remote().catalogue();
    let expected: Vec<_> = tasks.iter().map(|task| format!("a1:{}", env(task, "PORT0"))).collect();
    assert_eq!(catalogue.addresses("web", "http"), expected);
    assert_eq!((catalogue.counts.launched, catalogue.counts.launch_us.len()), (2, 2));
    let (status, endpoints) = ask(&bench.services, "GET /v1/endpoints?service=web", "").await;
    assert_eq!((status, endpoints.as_array().unwrap().len()), (200, 2));
    assert_eq!(endpoints[1]["task_id"], tasks[1].task_id.value);
}

#[tokio::test]
async fn instances_are_spread_and_unique_ones_share_no_host() {
    let mut bench = Bench::start().await;
    bench.put(web(4)).await;
    bench.master.offers(vec![big("o1", "a1"), big("o2", "a2")]);
    for _ in 0..2 {
        let accept = bench.master.accept().await;
        assert_eq!(accept.operations[0].launch.as_ref().unwrap().task_infos.len(), 2);
    }
    let mut unique = ServiceSpec {
        id: "unique".to_owned(),
        ..web(3)
    };
    unique.constraints.unique_host = true;
    bench.put(unique).await;
    let first = bench.launch_on(vec![big("o3", "a1")]).await;
    assert_eq!(first.len(), 1);
    bench.master.offers(vec![big("o4", "a1")]);
    bench.master.call(call::Type::Decline).await;
    assert_eq!(bench.launch_on(vec![big("o5", "a2")]).await.len(), 1);
}

#[tokio::test]
async fn an_instance_that_ended_is_replaced() {
    let mut bench = Bench::start().await;
    bench.put(web(1)).await;
    let first = bench.launch_on(vec![big("o1", "a1")]).await.remove(0);
    bench.says(&first, TaskState::TaskRunning);
    bench.running("web", 1).await;
    bench.master.calls_so_far(call::Type::Revive);
    bench.says(&first, TaskState::TaskFailed);
    bench.master.call(call::Type::Revive).await;
    let second = bench.launch_on(vec![big("o2", "a1")]).await.remove(0);
    assert_eq!(env(&second, "INSTANCE"), "web.0");
    assert_ne!(second.task_id, first.task_id);
    bench.says(&second, TaskState::TaskRunning);
    bench.running("web", 1).await;
    let catalogue = bench.services.remote().catalogue();
    let instance = &catalogue.services["web"].instances[0];
    assert_eq!((catalogue.counts.restarts, instance.failures), (1, 1));
    assert_eq!(instance.last_end.as_deref(), Some("TASK_FAILED"));
}

#[tokio::test]
async fn a_refused_launch_is_made_again_under_another_id() {
    let mut bench = Bench::start().await;
    bench.put(web(1)).await;
    bench.master.call(call::Type::Revive).await;
    bench.master.refuse(
        call::Type::Accept,
        tonic::Status::invalid_argument("`accept.offer_ids[0]` is unknown"),
    );
    let first = bench.launch_on(vec![big("o1", "a1")]).await.remove(0);
    bench.master.calls_so_far(call::Type::Revive);
    bench.master.call(call::Type::Revive).await;
    let second = bench.launch_on(vec![big("o2", "a1")]).await.remove(0);
    assert_ne!(second.task_id, first.task_id);
    assert_eq!(
        bench.services.remote().catalogue().services["web"].instances[0].failures,
        0
    );
}

#[tokio::test]
async fn a_killed_scheduler_takes_its_instances_over_and_replaces_what_is_gone() {
    let mut bench = Bench::start().await;
    bench.put(web(2)).await;
    let tasks = bench.launch_on(vec![big("o1", "a1")]).await;
    bench.says(&tasks[0], TaskState::TaskRunning);
    bench.running("web", 1).await;
    assert_eq!(bench.restart().await.as_deref(), Some("framework-1"));
    let asked = bench.master.reconcile().await;
    let mut ids: Vec<_> = asked.tasks.iter().map(|task| task.task_id.value.clone()).collect();
    if ids.is_empty() {
        ids = bench
            .master
            .reconcile()
            .await
            .tasks
            .iter()
            .map(|task| task.task_id.value.clone())
            .collect();
    }
    ids.sort();
    let mut launched: Vec<_> = tasks.iter().map(|task| task.task_id.value.clone()).collect();
    launched.sort();
    assert_eq!(ids, launched);
    bench.master.calls_so_far(call::Type::Revive);
    // Nothing is launched in the place of tasks of which nothing is known yet.
    bench.master.offers(vec![big("o2", "a1")]);
    bench.master.decline().await;
    bench.says(&tasks[0], TaskState::TaskRunning);
    bench.says(&tasks[1], TaskState::TaskGone);
    bench.master.call(call::Type::Revive).await;
    let replaced = bench.launch_on(vec![big("o3", "a1")]).await;
    assert_eq!(
        replaced.iter().map(|task| env(task, "INSTANCE")).collect::<Vec<_>>(),
        ["web.1"]
    );
    bench.says(&replaced[0], TaskState::TaskRunning);
    bench.running("web", 2).await;
    let catalogue = bench.services.remote().catalogue();
    assert_eq!(
        catalogue.addresses("web", "http")[0],
        format!("a1:{}", env(&tasks[0], "PORT0"))
    );
}

#[tokio::test]
async fn surplus_and_unknown_tasks_are_killed() {
    let mut bench = Bench::start().await;
    bench.put(web(2)).await;
    let tasks = bench.launch_on(vec![big("o1", "a1")]).await;
    for task in &tasks {
        bench.says(task, TaskState::TaskRunning);
    }
    bench.running("web", 2).await;
    bench.put(web(1)).await;
    let kill = bench.master.kill().await;
    assert_eq!(kill.task_id, tasks[1].task_id);
    assert_eq!(
        kill.kill_policy.unwrap().grace_period.unwrap().nanoseconds,
        5_000_000_000
    );
    bench.says(&tasks[1], TaskState::TaskKilled);
    bench.running("web", 1).await;
    bench
        .master
        .update(testing::status(&"web.0.stranger".into(), "a2", TaskState::TaskRunning));
    assert_eq!(bench.master.kill().await.task_id.value, "web.0.stranger");
    assert_eq!(ask(&bench.services, "DELETE /v1/services/web", "").await.0, 202);
    assert_eq!(bench.master.kill().await.task_id, tasks[0].task_id);
    let catalogue = bench.services.remote().catalogue();
    assert_eq!(catalogue.services["web"].instances[0].state, State::Ending);
    bench.says(&tasks[0], TaskState::TaskKilled);
    bench
        .services
        .remote()
        .wait_for(|catalogue| catalogue.services.is_empty())
        .await
        .unwrap();
    assert_eq!(ask(&bench.services, "DELETE /v1/services/web", "").await.0, 404);
}

#[tokio::test]
async fn the_control_port_rejects_by_field_and_survives_what_it_is_sent() {
    let bench = Bench::start().await;
    let cases = [
        (
            "PUT /v1/services/web",
            "{\"id\":\"web\",\"command\":\"x\",\"cpu\":1}",
            400,
            "cpu",
        ),
        ("PUT /v1/services/web", "id: other\ncommand: x", 400, "id"),
        ("PUT /v1/services/web", "{", 400, ""),
        ("GET /v1/services/web", "", 404, "id"),
    ];
    for (head, body, status, field) in cases {
        let (got, answer) = ask(&bench.services, head, body).await;
        assert_eq!(
            (got, answer["field"].as_str()),
            (status, Some(field)),
            "{head} {body}: {answer}"
        );
    }
    let (status, accepted) = ask(&bench.services, "PUT /v1/services/web", "id: web\ncommand: x").await;
    assert_eq!((status, accepted["created"].as_bool()), (201, Some(true)));
    let again = ask(
        &bench.services,
        "PUT /v1/services/web",
        "id: web\ncommand: x\ninstances: 3",
    )
    .await;
    assert_eq!((again.0, &again.1["version"]), (200, &accepted["version"]));
    let changed = ask(
        &bench.services,
        "PUT /v1/services/web",
        "id: web\ncommand: y\ninstances: 3",
    )
    .await;
    assert!(changed.1["version"].as_u64() > accepted["version"].as_u64());
    assert_eq!(ask(&bench.services, "GET /health", "").await.0, 200);
}

#[tokio::test]
async fn a_service_asked_for_before_there_is_a_master_is_launched_when_there_is() {
    let mut master = FakeMaster::start().await;
    master.follow(None);
    let directory = tempfile::tempdir().unwrap();
    let services = run(Config::new(master.masters(), directory.path())).await.unwrap();
    services.remote().put(web(1)).await.unwrap();
    master.lead();
    master.subscribe().await;
    master.call(call::Type::Revive).await;
    assert!(master.calls_so_far(call::Type::Suppress).is_empty());
    let mut bench = Bench {
        master,
        services,
        directory,
    };
    assert_eq!(bench.launch_on(vec![big("o1", "a1")]).await.len(), 1);
    bench.services.stop().await.unwrap();
}
