//! The scheduler against a scripted master.

use std::net::SocketAddr;
use std::time::Duration;

use proffer_sdk::proto::v1::check_status_info::Http;
use proffer_sdk::proto::v1::scheduler::{Event, call, event};
use proffer_sdk::proto::v1::{CheckStatusInfo, InverseOffer, Offer, TaskInfo, TaskState, TimeInfo, Unavailability};
use proffer_sdk::state::State as Kept;
use proffer_sdk::testing::{self, FakeMaster};
use proffer_services::catalogue::{State, UpdateState};
use proffer_services::spec::{Backoff, Constraint, HealthCheck, Operator, PortSpec, Probe, ReadinessCheck};
use proffer_services::versions::Change;
use proffer_services::{Config, Handle, ServiceSpec, listen, run};
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
        ports: vec![PortSpec::any("http")],
        backoff: Backoff {
            initial_ms: 20,
            max_ms: 40,
            factor: 2.0,
            reset_after_seconds: 10.0,
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
    ask_at(services.control(), head, body).await
}

async fn ask_at(control: SocketAddr, head: &str, body: &str) -> (u16, serde_json::Value) {
    let mut stream = TcpStream::connect(control).await.unwrap();
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
    unique.constraints = vec![Constraint::new("hostname", Operator::Unique)];
    bench.put(unique).await;
    let first = bench.launch_on(vec![big("o3", "a1")]).await;
    assert_eq!(first.len(), 1);
    bench.master.offers(vec![big("o4", "a1")]);
    bench.master.call(call::Type::Decline).await;
    assert_eq!(bench.launch_on(vec![big("o5", "a2")]).await.len(), 1);
}

#[tokio::test]
async fn what_a_specification_says_is_in_the_task() {
    let mut bench = Bench::start().await;
    let checksum = format!("sha256:{}", "ab".repeat(32));
    let spec = format!(
        "
id: web
argv: [./web, '--id={{{{instance}}}}', '--port={{{{port.http}}}}']
instances: 2
ports: [{{name: http}}]
env: {{PEERS: '{{{{peers.http}}}}', HOME_OF: '{{{{host}}}}'}}
labels: {{team: red}}
artifacts: [{{uri: 'http://h/web', checksum: '{checksum}', executable: true, cache: true, path: bin/web}}]
files: [{{path: conf/web.conf, content: 'me={{{{service}}}}.{{{{instance}}}} of {{{{instances}}}}'}}]
volumes: [{{host: /data, path: data, mode: rw}}]
user: nobody
health: {{http: {{port: http, path: /health}}, grace_seconds: 7, failures: 2}}
readiness: {{command: 'check {{{{port.http}}}}', interval_seconds: 0.5}}
"
    );
    bench.put(ServiceSpec::from_yaml(&spec).unwrap()).await;
    let tasks = bench.launch_on(vec![big("o1", "a1")]).await;
    let port = |index: usize| env(&tasks[index], "PORT_HTTP");
    let command = tasks[1].command.clone().unwrap();
    assert_eq!(
        command.arguments,
        ["./web".to_owned(), "--id=1".to_owned(), format!("--port={}", port(1))]
    );
    assert_eq!(env(&tasks[1], "PEERS"), format!("a1:{}", port(0)));
    assert_eq!(env(&tasks[1], "HOME_OF"), "a1");
    assert_eq!(command.user.as_deref(), Some("nobody"));
    let uri = &command.uris[0];
    assert_eq!(
        (uri.value.as_str(), uri.checksum.as_deref()),
        ("http://h/web", Some(checksum.as_str()))
    );
    assert_eq!(
        (uri.executable, uri.cache, uri.output_file.as_deref()),
        (Some(true), Some(true), Some("bin/web"))
    );
    let volumes = tasks[1].container.clone().unwrap().volumes;
    let host = volumes[0].source.clone().unwrap().host_path.unwrap();
    assert_eq!(
        (host.path.as_str(), volumes[0].container_path.as_str()),
        ("/data", "data")
    );
    let file = volumes[1].source.clone().unwrap().secret.unwrap().value.unwrap();
    assert_eq!(String::from_utf8(file.data).unwrap(), "me=web.1 of 2");
    let health = tasks[1].health_check.clone().unwrap();
    assert_eq!(
        (health.grace_period_seconds, health.consecutive_failures),
        (Some(7.0), Some(2))
    );
    let http = health.http.unwrap();
    assert_eq!(
        (http.port.to_string(), http.path.as_deref()),
        (port(1), Some("/health"))
    );
    let check = tasks[1].check.clone().unwrap();
    let line = check.command.unwrap().command.value.unwrap();
    assert_eq!(
        (check.interval_seconds, line),
        (Some(0.5), format!("check {}", port(1)))
    );
    let labels = tasks[1].labels.clone().unwrap().labels;
    assert!(
        labels
            .iter()
            .any(|label| label.key == "team" && label.value.as_deref() == Some("red"))
    );
}

#[tokio::test]
async fn an_instance_is_an_endpoint_while_its_checks_say_that_it_is_ready() {
    let mut bench = Bench::start().await;
    let mut spec = web(1);
    spec.health = Some(HealthCheck::new(Probe::Tcp {
        port: "http".to_owned(),
    }));
    spec.readiness = Some(ReadinessCheck::new(Probe::Http {
        port: "http".to_owned(),
        path: "/".to_owned(),
    }));
    bench.put(spec).await;
    let task = bench.launch_on(vec![big("o1", "a1")]).await.remove(0);
    let remote = bench.services.remote().clone();
    for (healthy, answer, ready) in [
        (None, None, false),
        (Some(true), None, false),
        (Some(true), Some(503), false),
        (Some(true), Some(200), true),
        (None, None, true),
        (Some(false), Some(200), false),
        (Some(true), Some(302), true),
        (Some(true), Some(404), false),
    ] {
        let mut status = testing::status(&task.task_id, "a1", TaskState::TaskRunning);
        status.healthy = healthy;
        status.check_status = answer.map(|status_code| CheckStatusInfo {
            http: Some(Http {
                status_code: Some(status_code),
            }),
            ..Default::default()
        });
        bench.master.update(status);
        bench.master.acknowledge().await;
        let told = remote.wait_for(|catalogue| {
            let web = &catalogue.services["web"];
            web.running == 1 && web.instances[0].ready == ready
        });
        let told = tokio::time::timeout(Duration::from_secs(20), told).await;
        let catalogue = told.unwrap_or_else(|_| panic!("{healthy:?} {answer:?}")).unwrap();
        assert_eq!(catalogue.addresses("web", "http").len(), usize::from(ready));
    }
}

#[tokio::test]
async fn a_master_is_told_what_for_offers_are_wanted() {
    let mut bench = Bench::start().await;
    let mut spec = web(2);
    spec.constraints = vec![Constraint::new("rack", Operator::Like("r[12]".to_owned()))];
    bench.put(spec).await;
    let update = bench
        .master
        .call(call::Type::UpdateFramework)
        .await
        .update_framework
        .unwrap();
    let told = update.offer_constraints.unwrap();
    assert_eq!(told.role_constraints["*"].groups[0].attribute_constraints.len(), 1);
    let request = bench.master.call(call::Type::Request).await.request.unwrap();
    assert_eq!(request.requests.len(), 1);
    assert_eq!(request.requests[0].count(), 2);
    bench.put(ServiceSpec::command("free", "x")).await;
    let update = bench
        .master
        .call(call::Type::UpdateFramework)
        .await
        .update_framework
        .unwrap();
    assert!(
        update
            .offer_constraints
            .is_none_or(|told| told.role_constraints.is_empty())
    );
    let request = bench.master.call(call::Type::Request).await.request.unwrap();
    assert_eq!(request.requests.len(), 2);
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
async fn an_agent_that_is_asked_back_is_left_when_the_replacement_runs() {
    let mut bench = Bench::start().await;
    bench.put(web(1)).await;
    let old = bench.launch_on(vec![big("o1", "a1")]).await.remove(0);
    bench.says(&old, TaskState::TaskRunning);
    bench.running("web", 1).await;
    bench.master.calls_so_far(call::Type::Revive);
    let unavailability = Unavailability {
        start: TimeInfo { nanoseconds: 1 },
        duration: None,
    };
    bench.master.send(Event {
        r#type: Some(event::Type::InverseOffers.into()),
        inverse_offers: Some(event::InverseOffers {
            inverse_offers: vec![InverseOffer {
                id: "inverse".into(),
                framework_id: "framework-1".into(),
                agent_id: Some("a1".into()),
                unavailability,
                ..Default::default()
            }],
        }),
        ..Default::default()
    });
    bench.master.call(call::Type::Revive).await;
    let going = Offer {
        unavailability: Some(unavailability),
        ..big("o2", "a1")
    };
    let new = bench.launch_on(vec![going, big("o3", "a2")]).await.remove(0);
    assert_eq!(
        (new.agent_id.value.as_str(), env(&new, "INSTANCE")),
        ("a2", "web.1".to_owned())
    );
    assert!(bench.master.calls_so_far(call::Type::Kill).is_empty());
    bench.says(&new, TaskState::TaskRunning);
    let kill = bench.master.call(call::Type::Kill).await.kill.unwrap();
    assert_eq!(kill.task_id, old.task_id);
    let accept = bench.master.call(call::Type::AcceptInverseOffers).await;
    let accepted = accept.accept_inverse_offers.unwrap().inverse_offer_ids;
    assert_eq!(accepted, ["inverse".into()]);
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
    assert_eq!((again.0, &again.1["instance_version"]), (200, &accepted["version"]));
    let changed = ask(
        &bench.services,
        "PUT /v1/services/web",
        "id: web\ncommand: y\ninstances: 3",
    )
    .await;
    assert!(changed.1["instance_version"].as_u64() > accepted["version"].as_u64());
    assert_eq!(ask(&bench.services, "GET /health", "").await.0, 200);
}

#[tokio::test]
async fn a_scheduler_without_a_directory_finds_all_with_the_masters() {
    let mut master = FakeMaster::start().await;
    let config = Config::replicated(master.masters(), "fake services");
    let services = run(config.clone()).await.unwrap();
    assert_eq!(master.subscribe().await.framework_info.id, None);
    let directory = tempfile::tempdir().unwrap();
    let mut bench = Bench {
        master,
        services,
        directory,
    };
    bench.put(web(2)).await;
    let tasks = bench.launch_on(vec![big("o1", "a1")]).await;
    tasks.iter().for_each(|task| bench.says(task, TaskState::TaskRunning));
    bench.running("web", 2).await;
    let change = Change::Scale(3);
    bench.services.remote().change("web", change, Some(1)).await.unwrap();
    let more = bench.launch_on(vec![big("o2", "a2")]).await.remove(0);

    // Another one stands by, and takes over when the old one is gone.
    let seat = listen(config.clone()).await.unwrap();
    let (standby, active) = (seat.control(), bench.services.control());
    let waiting = tokio::spawn(seat.lead());
    let head = "POST /v1/services/web/scale?version=2";
    while ask_at(standby, head, "{}").await.0 != 307 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (_, answer) = ask_at(standby, head, "{}").await;
    assert_eq!(answer["active"], active.to_string());
    assert_eq!(ask_at(standby, "GET /health", "").await.0, 503);
    assert!(!waiting.is_finished());
    bench.services.abort();
    bench.services = waiting.await.unwrap().unwrap();
    assert_eq!(bench.services.control(), standby);
    let subscribe = bench.master.subscribe().await;
    assert_eq!(
        subscribe.framework_info.id.map(|id| id.value).as_deref(),
        Some("framework-1")
    );
    let catalogue = bench.services.remote().catalogue();
    assert_eq!(
        (
            catalogue.services["web"].version,
            catalogue.services["web"].spec.instances
        ),
        (2, 3)
    );
    let known: Vec<_> = catalogue.services["web"]
        .instances
        .iter()
        .map(|one| one.task_id.clone())
        .collect();
    let launched = tasks.iter().chain([&more]).map(|task| Some(task.task_id.value.clone()));
    assert_eq!(known, launched.collect::<Vec<_>>());
    bench
        .services
        .remote()
        .change("web", Change::Restart, Some(2))
        .await
        .unwrap();

    bench
        .services
        .remote()
        .change("web", Change::Scale(1), None)
        .await
        .unwrap();
    bench.services.abort();
    bench.services = run(config.clone()).await.unwrap();
    bench.master.subscribe().await;
    let history = bench
        .services
        .remote()
        .versions("web")
        .await
        .unwrap()
        .unwrap()
        .numbers();
    assert_eq!(history, [1, 2, 3]);

    // After a teardown nothing is left of it.
    bench.services.teardown().await.unwrap();
    bench.master.calls_so_far(call::Type::Subscribe);
    bench.services = run(config).await.unwrap();
    assert_eq!(bench.master.subscribe().await.framework_info.id, None);
    assert!(bench.services.remote().catalogue().services.is_empty());
}

#[tokio::test]
async fn one_that_is_not_named_any_more_changes_and_launches_nothing() {
    for launches in [true, false] {
        let mut master = FakeMaster::start().await;
        let config = Config::replicated(master.masters(), "fake");
        let services = run(config).await.unwrap();
        master.subscribe().await;
        services.remote().put(web(1)).await.unwrap();
        let state = Kept::of(master.masters(), "services/fake");
        let (services_kept, tasks_kept) = (state.keys("service/").await.unwrap(), usize::from(launches));
        let other = r#"{"id": "another", "control": "127.0.0.1:1", "network": "far away", "beat": 7}"#;
        state.put("leader", other).await.unwrap();
        if launches {
            master.offers(vec![big("o1", "a1")]);
        } else {
            let refused = services.remote().change("web", Change::Scale(2), None).await;
            let refused = format!("{:?}", refused.unwrap_err());
            assert!(refused.contains("Overtaken") || refused == "Ended", "{refused}");
        }
        let ended = tokio::time::timeout(Duration::from_secs(20), services.wait()).await;
        assert!(matches!(ended, Ok(Err(proffer_services::Error::Replaced))), "{ended:?}");
        assert!(master.calls_so_far(call::Type::Accept).is_empty());
        // A launch that was kept and not made is of no use, and found out to be so by whoever reads it.
        assert!(state.keys("task/").await.unwrap().len() <= tasks_kept);
        assert_eq!(state.keys("service/").await.unwrap().len(), services_kept.len());
        assert_eq!(state.get("leader").await.unwrap().unwrap().value, other.as_bytes());
    }
}

#[tokio::test]
async fn a_change_is_made_only_to_the_version_that_is_expected() {
    let bench = Bench::start().await;
    let web = "id: web\ncommand: x";
    for (head, body, status, version) in [
        ("PUT /v1/services/web?version=7", web, 409, Some(0)),
        ("PUT /v1/services/web?version=0", web, 201, Some(1)),
        ("PUT /v1/services/web?version=0", web, 409, Some(1)),
        (
            "POST /v1/services/web/scale?version=1",
            "{\"instances\": 4}",
            200,
            Some(2),
        ),
        (
            "POST /v1/services/web/scale?version=1",
            "{\"instances\": 5}",
            409,
            Some(2),
        ),
        ("POST /v1/services/web/scale", "{\"instances\": 100001}", 400, None),
        ("POST /v1/services/web/scale", "{\"size\": 1}", 400, None),
        ("POST /v1/services/web/scale", "", 400, None),
        ("POST /v1/services/none/scale", "{\"instances\": 5}", 404, None),
        ("POST /v1/services/web/rollback", "", 400, None),
        ("POST /v1/services/web/restart?version=2", "", 200, Some(3)),
        ("PUT /v1/services/web?version=3", "id: web\ncommand: y", 200, Some(4)),
        ("POST /v1/services/web/rollback?version=4", "", 200, Some(5)),
        ("POST /v1/services/web/rollback", "{\"version\": 1}", 200, Some(6)),
        ("POST /v1/services/web/rollback", "{\"version\": 99}", 400, None),
    ] {
        let (got, answer) = ask(&bench.services, head, body).await;
        assert_eq!(
            (got, answer["version"].as_u64()),
            (status, version),
            "{head} {body}: {answer}"
        );
    }
    let (_, versions) = ask(&bench.services, "GET /v1/services/web/versions", "").await;
    assert_eq!(
        (versions["version"].as_u64(), versions["instance_version"].as_u64()),
        (Some(6), Some(3))
    );
    let history = versions["history"].as_array().unwrap().iter();
    let instances: Vec<_> = history.map(|past| past["instance_version"].as_u64().unwrap()).collect();
    assert_eq!(instances, [1, 1, 3, 4, 3]);
}

#[tokio::test]
async fn a_rolling_update_ends_no_instance_before_another_is_ready_and_reverts_what_makes_no_progress() {
    let mut bench = Bench::start().await;
    let mut spec = web(2);
    spec.update.progress_deadline_seconds = 1.0;
    spec.readiness = Some(ReadinessCheck::new(Probe::Http {
        port: "http".to_owned(),
        path: "/".to_owned(),
    }));
    let ready = |bench: &Bench, task: &TaskInfo| {
        let mut status = testing::status(&task.task_id, "a1", TaskState::TaskRunning);
        status.check_status = Some(CheckStatusInfo {
            http: Some(Http { status_code: Some(200) }),
            ..Default::default()
        });
        bench.master.update(status);
    };
    bench.put(spec.clone()).await;
    let old = bench.launch_on(vec![big("o1", "a1")]).await;
    old.iter().for_each(|task| ready(&bench, task));
    let settled = async |bench: &Bench| {
        let remote = bench.services.remote();
        let done = |catalogue: &proffer_services::Catalogue| {
            let web = &catalogue.services["web"];
            web.update.state == UpdateState::Done && web.is_settled()
        };
        tokio::time::timeout(Duration::from_secs(20), remote.wait_for(done))
            .await
            .unwrap()
            .unwrap()
    };
    settled(&bench).await;
    spec.env.insert("NEW".to_owned(), "1".to_owned());
    bench.put(spec.clone()).await;
    // One more than wanted; it is ready, and only then one of the others ends.
    let extra = bench.launch_on(vec![big("o2", "a1")]).await;
    assert_eq!(
        extra.iter().map(|task| env(task, "INSTANCE")).collect::<Vec<_>>(),
        ["web.2"]
    );
    ready(&bench, &extra[0]);
    for task in &old {
        assert_eq!(bench.master.kill().await.task_id, task.task_id);
        bench.says(task, TaskState::TaskKilled);
        let next = bench
            .launch_on(vec![big(&format!("o-{}", task.task_id.value), "a1")])
            .await
            .remove(0);
        assert_eq!(
            (env(&next, "INSTANCE"), env(&next, "NEW")),
            (env(task, "INSTANCE"), "1".to_owned())
        );
        ready(&bench, &next);
    }
    assert_eq!(bench.master.kill().await.task_id, extra[0].task_id);
    bench.says(&extra[0], TaskState::TaskKilled);
    let before = settled(&bench).await.services["web"].instance_version;

    // The next version is never ready: what was there comes back, and none of it was ended.
    spec.env.insert("NEW".to_owned(), "2".to_owned());
    bench.put(spec).await;
    let bad = bench.launch_on(vec![big("o3", "a1")]).await.remove(0);
    bench.says(&bad, TaskState::TaskRunning);
    assert_eq!(bench.master.kill().await.task_id, bad.task_id);
    bench.says(&bad, TaskState::TaskKilled);
    let catalogue = settled(&bench).await;
    let web = &catalogue.services["web"];
    assert_eq!(web.instance_version, before);
    assert_eq!(web.spec.env["NEW"], "1");
    let reason = web.update.reverts.as_deref().unwrap();
    assert!(reason.contains("0 of 2 instances are ready"), "{reason}");
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
