//! Persistent volumes and reservations outlive everything that may end.

use anyhow::{Context, ensure};
use proffer_proto::v1::offer::Operation;
use proffer_proto::v1::{Filters, Offer, OperationState, Resource, TaskInfo, TaskState};
use proffer_sdk::offers::Placement;
use proffer_sdk::{Framework, operations};
use proffer_tests::{Cluster, TestFramework, require_isolation};

use crate::shell;

const ROLE: &str = "db";

async fn subscribed(cluster: &mut Cluster) -> anyhow::Result<TestFramework> {
    let framework = Framework::new("db")
        .role(ROLE)
        .failover_timeout(std::time::Duration::from_secs(3600));
    TestFramework::subscribe(cluster.masters(), framework.build()).await
}

/// A volume of so many mebibytes on reserved disk, and the disk.
fn volume(mebibytes: f64) -> (Resource, Resource) {
    let space = operations::reserved(operations::scalar("disk", mebibytes), ROLE);
    (operations::volume(space.clone(), "table", "data"), space)
}

/// A task that has the volume.
fn task(id: &str, offer: &Offer, volume: &Resource, line: &str) -> TaskInfo {
    let placement = Placement {
        offer_ids: vec![offer.id.clone()],
        agent_id: offer.agent_id.clone(),
        hostname: offer.hostname.clone(),
        resources: Vec::new(),
        ports: Vec::new(),
    };
    let mut info = shell(line).at(&placement);
    info.task_id = id.into();
    info.resources = vec![
        operations::scalar("cpus", 0.1),
        operations::scalar("mem", 32.0),
        volume.clone(),
    ];
    info
}

/// The next offer that holds the volume.
async fn offer_of_volume(framework: &mut TestFramework) -> anyhow::Result<Offer> {
    let holds = |offer: &Offer| {
        let mut volumes = offer.resources.iter().filter_map(operations::volume_id);
        volumes.any(|id| id == "table")
    };
    framework
        .until("an offer of the volume", |framework| framework.take_offer(holds))
        .await
}

/// Has operations done with the volume and so much disk space, which may be in another offer.
async fn accept_all(framework: &mut TestFramework, space: f64, operations: Vec<Operation>) -> anyhow::Result<()> {
    let mut offers: Vec<Offer> = Vec::new();
    framework
        .until("offers of the volume and of disk space", |framework| {
            while let Some(offer) = framework.take_offer(|_| true) {
                offers.push(offer);
            }
            let all = || offers.iter().flat_map(|offer| &offer.resources);
            let plain = all().filter(|resource| resource.name == "disk" && resource.reservations.is_empty());
            let plain: f64 = plain.filter_map(|disk| Some(disk.scalar.as_ref()?.value)).sum();
            (plain >= space && all().any(|resource| operations::volume_id(resource).is_some())).then_some(())
        })
        .await?;
    let ids = offers.into_iter().map(|offer| offer.id).collect();
    let filters = Filters {
        refuse_seconds: Some(0.0),
    };
    Ok(framework.calls().accept(ids, operations, Some(filters)).await?)
}

async fn run(framework: &mut TestFramework, offer: &Offer, task: TaskInfo) -> anyhow::Result<()> {
    framework.launch_infos(offer, vec![task.clone()]).await?;
    framework.wait_for(&task, TaskState::TaskFinished).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_a_volume_outlives_tasks_agents_and_masters() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("volumes").masters(3).start().await?;
    let mut framework = subscribed(&mut cluster).await?;
    let offer = framework.next_offer().await?;
    let (volume, space) = volume(16.0);
    let write = task("write", &offer, &volume, "echo kept > data/file");
    framework
        .accept(
            &offer,
            vec![
                operations::reserve(vec![space]),
                operations::named(operations::create(vec![volume.clone()]), "create"),
                operations::launch(vec![write.clone()]),
            ],
        )
        .await?;
    let status = framework.wait_for_operation("create").await?;
    assert_eq!(status.state(), OperationState::OperationFinished, "{status:?}");
    framework.wait_for(&write, TaskState::TaskFinished).await?;

    let held = offer_of_volume(&mut framework).await?;
    cluster.restart_agent(0).await?;
    framework.wait_for_rescind(&held.id).await?;
    let offer = offer_of_volume(&mut framework).await?;
    let read = task(
        "read",
        &offer,
        &operations::read_only(volume.clone()),
        "test $(cat data/file) = kept && ! touch data/x",
    );
    run(&mut framework, &offer, read).await?;

    cluster.kill_leader().await?;
    let mut framework = framework.fail_over().await?;
    let offer = offer_of_volume(&mut framework).await?;
    let again = task(
        "again",
        &offer,
        &volume,
        "test $(cat data/file) = kept && echo more >> data/file",
    );
    run(&mut framework, &offer, again).await?;

    let offer = offer_of_volume(&mut framework).await?;
    let destroy = operations::named(operations::destroy(vec![volume.clone()]), "destroy");
    framework.accept(&offer, vec![destroy]).await?;
    let status = framework.wait_for_operation("destroy").await?;
    assert_eq!(status.state(), OperationState::OperationFinished, "{status:?}");
    let left = cluster.local().agent_work_directory(0).join("volumes");
    ensure!(!left.join(ROLE).exists(), "something is left in {}", left.display());
    let unknown = vec![("destroy".into(), None), ("never".into(), None)];
    framework.calls().reconcile_operations(unknown).await?;
    let status = framework.wait_for_operation("never").await?;
    assert_eq!(status.state(), OperationState::OperationUnknown);
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_holds_exactly_its_size_and_grows() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("volume-size").start().await?;
    let mut framework = subscribed(&mut cluster).await?;
    let offer = framework.next_offer().await?;
    let (small, space) = volume(8.0);
    framework
        .accept(
            &offer,
            vec![
                operations::reserve(vec![space]),
                operations::named(operations::create(vec![small.clone()]), "create"),
            ],
        )
        .await?;
    let status = framework.wait_for_operation("create").await?;
    assert_eq!(status.state(), OperationState::OperationFinished, "{status:?}");
    let note = std::fs::read_to_string(cluster.agent(0).log_file()).context("the agent's log")?;
    if note.contains("no limit is enforced by the kernel") {
        println!("skipped: nothing limits volumes here");
        return cluster.stop().await;
    }
    let fill = |id, offer: &Offer, volume: &Resource, fits: u32| {
        let line = format!(
            "test -z \"$(ls -A data | grep -v big)\" || exit 2; rm -f data/big; dd if=/dev/zero of=data/big bs=64k 2>/dev/null; \
             n=$(stat -c %s data/big); test $n -le $(({fits} * 1048576)) && test $n -ge $(({fits} * 1048576 - 131072))"
        );
        task(id, offer, volume, &line)
    };
    let offer = offer_of_volume(&mut framework).await?;
    let first = fill("first", &offer, &small, 8);
    run(&mut framework, &offer, first).await?;
    let (large, addition) = (volume(12.0).0, volume(4.0).1);
    let grow = vec![
        operations::reserve(vec![addition.clone()]),
        operations::named(operations::grow(small, addition), "grow"),
    ];
    accept_all(&mut framework, 4.0, grow).await?;
    let status = framework.wait_for_operation("grow").await?;
    assert_eq!(status.state(), OperationState::OperationFinished, "{status:?}");
    let offer = offer_of_volume(&mut framework).await?;
    let second = fill("second", &offer, &large, 12);
    run(&mut framework, &offer, second).await?;
    let offer = offer_of_volume(&mut framework).await?;
    let shrink = operations::named(operations::shrink(large, 9.0), "shrink");
    framework.accept(&offer, vec![shrink]).await?;
    let status = framework.wait_for_operation("shrink").await?;
    assert_eq!(status.state(), OperationState::OperationFinished, "{status:?}");
    let offer = offer_of_volume(&mut framework).await?;
    let third = fill("third", &offer, &volume(3.0).0, 3);
    run(&mut framework, &offer, third).await?;
    cluster.stop().await
}
