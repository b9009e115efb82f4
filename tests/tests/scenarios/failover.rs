//! A master is lost, and nobody notices.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use proffer_proto::v1::{FrameworkId, TaskId, TaskState, TaskStatus};
use proffer_sdk::offers::Matcher;
use proffer_sdk::{Context, Framework, Masters, Offers, Options, Scheduler, Sender, Task};
use proffer_tests::{Cluster, DEADLINE, TestFramework, require_isolation};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::{shell, until};

/// What the scheduler tells its test.
#[derive(Debug)]
enum Heard {
    Registered(FrameworkId),
    Again,
    Update(Box<TaskStatus>),
}

/// A scheduler that launches what its test wants, and does nothing about a lost master.
struct Plain {
    wanted: Vec<Task>,
    tell: mpsc::UnboundedSender<(Heard, Sender<Task>)>,
}

impl Plain {
    fn tell(&self, context: &Context<Task>, heard: Heard) {
        // The test may have ended.
        let _ = self.tell.send((heard, context.sender()));
    }
}

impl Scheduler for Plain {
    type Message = Task;

    async fn registered(&mut self, context: &mut Context<Task>, id: &FrameworkId) {
        self.tell(context, Heard::Registered(id.clone()));
    }

    async fn reregistered(&mut self, context: &mut Context<Task>) {
        self.tell(context, Heard::Again);
    }

    async fn offers(&mut self, context: &mut Context<Task>, offers: Offers) {
        let mut matcher = Matcher::new(&offers);
        while let Some(task) = self.wanted.pop() {
            let Some(place) = matcher.place(task.shape()) else {
                self.wanted.push(task);
                return;
            };
            context.launch(place, task);
        }
    }

    async fn message(&mut self, context: &mut Context<Task>, task: Task) {
        self.wanted.push(task);
        context.revive();
    }

    async fn update(&mut self, context: &mut Context<Task>, status: TaskStatus) {
        self.tell(context, Heard::Update(Box::new(status)));
    }
}

/// The test's end of a [`Plain`].
pub(crate) struct Playing {
    id: FrameworkId,
    sender: Sender<Task>,
    heard: mpsc::UnboundedReceiver<(Heard, Sender<Task>)>,
    /// Every state of every task, in order.
    pub(crate) states: BTreeMap<TaskId, Vec<TaskState>>,
    /// What an agent said of the end of every task.
    pub(crate) ends: BTreeMap<TaskId, TaskStatus>,
    again: usize,
    running: JoinHandle<()>,
}

impl Playing {
    pub(crate) async fn start(masters: Masters, name: &str) -> anyhow::Result<Self> {
        let (tell, mut heard) = mpsc::unbounded_channel();
        let plain = Plain {
            wanted: Vec::new(),
            tell,
        };
        let running = proffer_sdk::run(plain, Options::new(masters, Framework::new(name)));
        let running = tokio::spawn(async move { drop(running.await) });
        let first = tokio::time::timeout(DEADLINE, heard.recv()).await?;
        let Some((Heard::Registered(id), sender)) = first else {
            anyhow::bail!("the first news is {first:?}");
        };
        Ok(Playing {
            id,
            sender,
            heard,
            states: BTreeMap::new(),
            ends: BTreeMap::new(),
            again: 0,
            running,
        })
    }

    /// Has a task launched as soon as there is an offer.
    pub(crate) fn want(&self, task: Task) -> anyhow::Result<TaskId> {
        let id = task.id().clone();
        let sent = self.sender.send(task);
        sent.map_err(|_| anyhow::anyhow!("the scheduler has ended"))?;
        Ok(id)
    }

    pub(crate) async fn launch(&mut self, task: Task) -> anyhow::Result<TaskId> {
        let id = self.want(task)?;
        self.until(|playing| playing.last(&id) == Some(TaskState::TaskRunning))
            .await?;
        Ok(id)
    }

    pub(crate) fn last(&self, task: &TaskId) -> Option<TaskState> {
        self.states.get(task).and_then(|states| states.last()).copied()
    }

    pub(crate) async fn until(&mut self, holds: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        while !holds(self) {
            let heard = tokio::time::timeout(DEADLINE, self.heard.recv()).await;
            let heard = heard.with_context(|| format!("nothing more is heard after {:?}", self.states))?;
            match heard.context("the scheduler has ended")?.0 {
                Heard::Registered(id) => anyhow::bail!("registered a second time, as {id}"),
                Heard::Again => self.again += 1,
                // Only a master that was asked says so: the questions of a new
                // subscription may be answered when the next task is launched.
                Heard::Update(status) if status.state() == TaskState::TaskStaging => {}
                Heard::Update(status) => {
                    let states = self.states.entry(status.task_id.clone()).or_default();
                    states.push(status.state());
                    // What reconciliation answers has no uuid.
                    if status.uuid.is_some() && proffer_sdk::is_terminal(status.state()) {
                        self.ends.insert(status.task_id.clone(), *status);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// The containers of the first agent, which have other names if anything was started again.
async fn containers(cluster: &mut Cluster) -> anyhow::Result<Vec<String>> {
    let containers = cluster.agent_client(0).await?.get_containers().await?.containers;
    let mut ids: Vec<_> = containers
        .into_iter()
        .map(|container| container.container_id.value)
        .collect();
    ids.sort();
    Ok(ids)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_costs_no_task_no_update_and_no_id() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("leader").masters(3).start().await?;
    let mut framework = Playing::start(cluster.masters(), "leader").await?;
    let long = framework.launch(shell("sleep 1000").with_id("long")).await?;
    let gate = cluster.local().directory().join("gate");
    let line = format!("while ! [ -e {} ]; do sleep 0.05; done", gate.display());
    let short = framework.launch(shell(&line).with_id("short")).await?;
    let before = containers(&mut cluster).await?;

    let killed = cluster.kill_leader().await?;
    // It ends while nobody leads: the agent has to keep the update.
    std::fs::write(&gate, "")?;
    framework
        .until(|playing| playing.last(&short) == Some(TaskState::TaskFinished))
        .await?;
    framework.until(|playing| playing.again == 1).await?;
    ensure!(cluster.leader().await? != killed);
    let third = framework.launch(shell("sleep 1000").with_id("third")).await?;

    let after = containers(&mut cluster).await?;
    ensure!(
        before.iter().filter(|id| after.contains(id)).count() == 1,
        "{before:?} {after:?}"
    );
    ensure!(framework.states[&short] == [TaskState::TaskRunning, TaskState::TaskFinished]);
    ensure!(
        framework.states[&long] == [TaskState::TaskRunning],
        "{:?}",
        framework.states
    );
    ensure!(framework.states[&third] == [TaskState::TaskRunning]);
    let known = cluster.operator().get_frameworks().await?.frameworks;
    ensure!(
        known.len() == 1 && known[0].framework_info.id.as_ref() == Some(&framework.id),
        "{known:?}"
    );

    cluster.local().restart_master(killed).await?;
    cluster.caught_up().await?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_that_a_follower_is_killed() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("follower").masters(3).start().await?;
    let mut framework = cluster.framework("follower").await?;
    let offer = framework.next_offer().await?;
    let first = framework.launch(offer, shell("sleep 1000")).await?;
    framework.wait_for(&first, TaskState::TaskRunning).await?;

    let leader = cluster.leader().await?;
    let follower = (leader + 1) % 3;
    cluster.local().kill_master(follower);
    // In the same subscription, which this framework does not renew.
    let offer = framework.next_offer().await?;
    let second = framework.launch(offer, shell("true")).await?;
    framework.wait_for(&second, TaskState::TaskFinished).await?;
    ensure!(cluster.leader().await? == leader);

    cluster.local().restart_master(follower).await?;
    cluster.caught_up().await?;
    ensure!(
        cluster.leader().await? == leader,
        "a returning follower must not disturb"
    );
    framework.kill(&first, None).await?;
    framework.wait_for(&first, TaskState::TaskKilled).await?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_outlive_all_masters() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("all-masters").masters(3).start().await?;
    let mut framework = Playing::start(cluster.masters(), "all-masters").await?;
    let task = framework.launch(shell("sleep 1000").with_id("lasting")).await?;
    let before = containers(&mut cluster).await?;
    for index in 0..3 {
        cluster.local().kill_master(index);
    }
    for index in 0..3 {
        cluster.local().restart_master(index).await?;
    }
    framework.until(|playing| playing.again == 1).await?;
    let second = framework.launch(shell("sleep 1000").with_id("second")).await?;
    ensure!(
        framework.states[&task] == [TaskState::TaskRunning],
        "{:?}",
        framework.states
    );
    ensure!(framework.states[&second] == [TaskState::TaskRunning]);
    let after = containers(&mut cluster).await?;
    ensure!(before.iter().all(|id| after.contains(id)), "{before:?} {after:?}");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_deadlines_outlive_the_leader() -> anyhow::Result<()> {
    let mut cluster = Cluster::builder("deadlines")
        .masters(3)
        .agents(0)
        .master_arg("--framework-resubscribe-timeout=500ms")
        .start()
        .await?;
    let patient = Framework::new("patient")
        .failover_timeout(Duration::from_secs(3600))
        .build();
    let patient = TestFramework::subscribe(cluster.masters(), patient).await?;
    let hasty = Framework::new("hasty").failover_timeout(Duration::from_secs(3)).build();
    let hasty = TestFramework::subscribe(cluster.masters(), hasty).await?;
    let (patient_info, hasty_info) = (patient.info().clone(), hasty.info().clone());
    drop((patient, hasty));
    let mut operator = cluster.operator();
    until("both to be disconnected", async || {
        let known = operator.get_frameworks().await?.frameworks;
        Ok(known.iter().all(|framework| !framework.connected))
    })
    .await?;

    let killed = cluster.kill_leader().await?;
    cluster.leader().await?;
    let mut operator = cluster.operator();
    until("the hasty one to be removed", async || {
        let frameworks = operator.get_frameworks().await?;
        let completed = frameworks.completed_frameworks.iter();
        let names: Vec<_> = completed
            .map(|framework| framework.framework_info.name.clone())
            .collect();
        ensure!(!names.contains(&"patient".to_owned()), "removed long before its time");
        Ok(names == ["hasty"])
    })
    .await?;
    let back = TestFramework::subscribe(cluster.masters(), patient_info.clone()).await?;
    ensure!(Some(back.id()) == patient_info.id.as_ref());
    let refused = TestFramework::subscribe(cluster.masters(), hasty_info).await;
    let refused = refused.expect_err("its id is used up").to_string();
    ensure!(refused.contains("removed"), "{refused}");
    cluster.local().restart_master(killed).await?;
    cluster.stop().await
}
