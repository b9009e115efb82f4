//! Discovery of a scheduler at work, before a scripted master.

use std::future::IntoFuture as _;
use std::sync::Arc;
use std::time::Duration;

use proffer_sdk::proto::v1::{TaskInfo, TaskState};
use proffer_sdk::testing::{self, FakeMaster};

use super::*;
use crate::spec::PortSpec;
use crate::{Config, Handle, Remote, ServiceSpec, run};

async fn known(remote: &Remote, wanted: impl Fn(&Directory) -> bool) -> Arc<Directory> {
    let mut directory = remote.directory();
    let told = directory.wait_for(|known| known.as_ref().is_some_and(|known| wanted(known)));
    let told = tokio::time::timeout(Duration::from_secs(20), told).await;
    told.unwrap_or_else(|_| panic!("{:#?}", remote.catalogue()))
        .unwrap()
        .clone()
        .unwrap()
}

async fn start(master: &mut FakeMaster, directory: &tempfile::TempDir) -> Handle {
    let services = loop {
        match run(Config::new(master.masters(), directory.path())).await {
            // The lock of the state directory is free once an old scheduler is gone.
            Err(crate::Error::Store(crate::StoreError::Locked(_))) => tokio::task::yield_now().await,
            other => break other.unwrap(),
        }
    };
    master.subscribe().await;
    services
}

fn says(master: &FakeMaster, task: &TaskInfo) {
    let status = testing::status(&task.task_id, task.agent_id.as_str(), TaskState::TaskRunning);
    master.update(status);
}

fn ready(directory: &Directory) -> usize {
    directory.ready.services["web"].instances.len()
}

/// Runs so many instances of a service until all are found.
async fn deploy(master: &mut FakeMaster, services: &Handle, spec: &ServiceSpec) -> Vec<TaskInfo> {
    services.remote().put(spec.clone()).await.unwrap();
    master.offers(vec![testing::offer("o1", "127.0.0.1", 8.0, 8192.0, 31000..=31099)]);
    let operations = master.accept().await.operations;
    let launches = operations.into_iter().filter_map(|operation| operation.launch);
    let tasks: Vec<_> = launches.flat_map(|launch| launch.task_infos).collect();
    for task in &tasks {
        says(master, task);
    }
    let wanted = usize::try_from(spec.instances).unwrap();
    known(services.remote(), |known| ready(known) == wanted).await;
    tasks
}

fn web(instances: u32) -> ServiceSpec {
    let mut spec = ServiceSpec::command("web", "true");
    spec.instances = instances;
    spec.ports = vec![PortSpec::any("http")];
    spec
}

#[tokio::test]
async fn an_instance_is_found_no_more_before_it_is_ended() {
    let mut master = FakeMaster::start().await;
    let directory = tempfile::tempdir().unwrap();
    let services = start(&mut master, &directory).await;
    let mut spec = web(3);
    spec.drain_seconds = 1.0;
    let tasks = deploy(&mut master, &services, &spec).await;

    let began = tokio::time::Instant::now();
    spec.instances = 1;
    services.remote().put(spec).await.unwrap();
    let left = known(services.remote(), |known| ready(known) == 1).await;
    assert_eq!(left.ready.services["web"].instances[0].task_id, tasks[0].task_id.value);
    assert_eq!(
        left.all.services["web"].instances[2].state,
        crate::catalogue::State::Ending
    );
    // One of the two that drain ends by itself meanwhile: nobody asks it to.
    master.update(testing::status(&tasks[1].task_id, "127.0.0.1", TaskState::TaskFinished));
    let kill = master.kill().await;
    assert_eq!(kill.task_id, tasks[2].task_id);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_scheduler_that_is_started_again_says_nothing_before_it_has_heard_of_its_instances() {
    let mut master = FakeMaster::start().await;
    let directory = tempfile::tempdir().unwrap();
    let services = start(&mut master, &directory).await;
    let tasks = deploy(&mut master, &services, &web(2)).await;
    let first = known(services.remote(), |known| ready(known) == 2).await;
    assert_eq!(first.ready.services["web"].instances[1].address, "127.0.0.1");

    services.abort();
    drop(services);
    let services = start(&mut master, &directory).await;
    says(&master, &tasks[0]);
    let remote = services.remote();
    let heard = remote.wait_for(|catalogue| catalogue.connected && catalogue.unheard == 1);
    heard.await.unwrap();
    assert!(remote.directory().borrow().is_none(), "of the other it knows nothing");
    says(&master, &tasks[1]);
    let second = known(remote, |_| true).await;
    assert_eq!(ready(&second), 2, "it never said that there are fewer");
    assert!(second.ready.index > first.ready.index);
}

#[tokio::test]
async fn one_that_stands_by_repeats_what_the_active_one_tells() {
    use crate::discovery::directory::tests::{addresses, web};
    let mut directory = Directory::new(5);
    directory.update(&web(&[true, false, true]), &addresses());
    let (tell, told) = tokio::sync::watch::channel(Some(Arc::new(directory.clone())));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let active = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(axum::serve(listener, http::router(told)).into_future());
    let (known, mut heard) = tokio::sync::watch::channel(None);
    let repeating = tokio::spawn(echo(active, known));
    for ready in [&[true, false, true], &[true, true, true]] {
        directory.update(&web(ready), &addresses());
        tell.send_replace(Some(Arc::new(directory.clone())));
        let index = directory.all.index;
        let same = heard.wait_for(|known: &Known| known.as_ref().is_some_and(|known| known.all.index == index));
        let same = tokio::time::timeout(Duration::from_secs(20), same)
            .await
            .unwrap()
            .unwrap()
            .clone()
            .unwrap();
        for (told, repeated) in [(&directory.ready, &same.ready), (&directory.all, &same.all)] {
            let (told, repeated) = (&told.services["web"], &repeated.services["web"]);
            assert_eq!(
                (&told.instances, &told.addresses),
                (&repeated.instances, &repeated.addresses)
            );
        }
    }
    server.abort();
    repeating.abort();
}
