//! Devices as resources: offered to whom may have them, given whole to one task at a time.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use proffer_proto::v1::framework_info::capability;
use proffer_proto::v1::{Offer, Resource, TaskInfo, TaskState, value};
use proffer_sdk::Framework;
use proffer_tests::{Cluster, TestFramework, place, require_isolation};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::shell;

/// Two nodes that stand for GPUs: names of the kernel's log, which may be opened for writing, but not by a container.
struct Nodes(PathBuf);

impl Nodes {
    fn make() -> anyhow::Result<Self> {
        let directory = PathBuf::from(format!("/dev/proffer-test-gpus-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let nodes = Nodes(directory);
        for number in 0..2 {
            let mode = Mode::from_raw_mode(0o666);
            mknodat(CWD, nodes.path(number), FileType::CharacterDevice, mode, makedev(1, 11))?;
        }
        Ok(nodes)
    }

    fn path(&self, number: usize) -> String {
        self.0.join(format!("gpu{number}")).display().to_string()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn gpus(count: f64) -> Resource {
    Resource {
        name: "gpus".into(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(value::Scalar { value: count }),
        ..Default::default()
    }
}

fn offered(offer: &Offer) -> f64 {
    let own = offer.resources.iter().filter(|resource| resource.name == "gpus");
    own.filter_map(|resource| resource.scalar.as_ref())
        .map(|scalar| scalar.value)
        .sum()
}

/// Says of each node whether it is there and can be opened, and stays.
fn looker(nodes: &Nodes, offer: &Offer) -> anyhow::Result<TaskInfo> {
    let script = format!(
        "for node in {} {}; do if [ -e $node ]; then (: >> $node) && echo open; else echo absent; fi; done; exec sleep 1000",
        nodes.path(0),
        nodes.path(1)
    );
    let task = shell(&script).cpus(0.1).mem(32.0);
    let mut info = task.clone().at(&place(offer, &task)?);
    info.resources.push(gpus(1.0));
    Ok(info)
}

async fn seen(cluster: &mut Cluster, framework: &TestFramework, task: &TaskInfo) -> anyhow::Result<String> {
    let path = format!(
        "/frameworks/{}/executors/{}/runs/latest/stdout",
        framework.id(),
        task.task_id
    );
    let mut agent = cluster.agent_client(0).await?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let output = agent.read_file(&path, 0, None).await?.data;
        let text = String::from_utf8_lossy(&output).into_owned();
        if text.lines().count() == 2 {
            return Ok(text);
        }
        anyhow::ensure!(std::time::Instant::now() < deadline, "{text}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gpus_are_given_whole_to_one_task_at_a_time() -> anyhow::Result<()> {
    require_isolation!();
    let nodes = Nodes::make()?;
    let devices = format!("--devices=gpus={},gpus={}", nodes.path(0), nodes.path(1));
    let mut cluster = Cluster::builder("gpus").agent_arg(devices).start().await?;
    let info = Framework::new("gpus")
        .capability(capability::Type::GpuResources)
        .build();
    let mut framework = TestFramework::subscribe(cluster.masters(), info).await?;
    let offer = framework.next_offer_of(0.2, 64.0).await?;
    assert_eq!(offered(&offer), 2.0, "{offer:?}");
    let tasks = vec![looker(&nodes, &offer)?, looker(&nodes, &offer)?];
    framework.launch_infos(&offer, tasks.clone()).await?;
    let mut all = Vec::new();
    for task in &tasks {
        framework.wait_for(task, TaskState::TaskRunning).await?;
        all.push(seen(&mut cluster, &framework, task).await?);
    }
    let first = all[0].clone();
    all.sort();
    assert_eq!(all, ["absent\nopen\n", "open\nabsent\n"]);
    framework.kill(&tasks[0], None).await?;
    framework.wait_for(&tasks[0], TaskState::TaskKilled).await?;
    let offer = framework
        .until("an offer of a GPU", |framework| {
            framework.take_offer(|offer| offered(offer) == 1.0)
        })
        .await?;
    let task = looker(&nodes, &offer).context("the next task")?;
    framework.launch_infos(&offer, vec![task.clone()]).await?;
    framework.wait_for(&task, TaskState::TaskRunning).await?;
    assert_eq!(
        seen(&mut cluster, &framework, &task).await?,
        first,
        "it gets what was freed"
    );
    cluster.stop().await
}
