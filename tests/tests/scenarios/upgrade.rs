//! What earlier releases left is opened by this one, and masters of two releases work in one group.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use proffer::local::{LocalProcess, ProcessSpec};
use proffer_master::applied::AppliedRegistry;
use proffer_master_core::LEVEL;
use proffer_proto::v1::{FrameworkId, FrameworkInfo};
use proffer_sdk::operator::OperatorClient;
use proffer_sdk::state::{State, StateError};
use proffer_sdk::{Framework, Masters};
use proffer_tests::cluster::{built, group_at};
use proffer_tests::fixture::{AgentRejected, AgentState, Fixture, FrameworkState, NAMESPACE, agent_info, attach};
use proffer_tests::{Cluster, DEADLINE, TestFramework};
use rustix::process::Signal;

use crate::until;

/// A directory that is removed when the test has passed.
fn directory(name: &str) -> PathBuf {
    PathBuf::from(format!("/var/tmp/proffer-test-{}-{name}", std::process::id()))
}

async fn master(name: &str, directory: &Path, args: &[&str]) -> anyhow::Result<(LocalProcess, String)> {
    let mut all = vec![
        "master".to_owned(),
        "--listen=127.0.0.1:0".to_owned(),
        format!("--work-dir={}", directory.join("work").display()),
        // A removal is not put off for longer than the test takes.
        "--framework-resubscribe-timeout=500ms".to_owned(),
    ];
    all.extend(args.iter().map(|&arg| arg.to_owned()));
    let mut master = LocalProcess::start(ProcessSpec {
        name: name.to_owned(),
        program: built("proffer-under-test")?,
        args: all,
        environment: Vec::new(),
        directory: directory.to_owned(),
    })?;
    let address = master.address(DEADLINE).await?;
    Ok((master, address))
}

/// The master knows what the recorded one knew, and acts on it.
async fn check(address: &str, fixture: &Fixture) -> anyhow::Result<()> {
    let masters: Masters = address.parse()?;
    let mut operator = OperatorClient::new(masters.clone()).timeout(DEADLINE);
    // The overdue one too: its deadline came while no master ran.
    let completed = ["ended", "overdue"];
    until("the overdue framework to be removed", async || {
        let known = operator.get_frameworks().await?.completed_frameworks;
        Ok(known
            .iter()
            .map(|framework| framework.framework_info.name.as_str())
            .eq(completed))
    })
    .await?;
    let known = operator.get_frameworks().await?.frameworks;
    let id_of = |info: &FrameworkInfo| info.id.clone().unwrap_or_default().value;
    for framework in &fixture.expected.frameworks {
        let is_known = known
            .iter()
            .any(|known| known.framework_info.name == framework.name && id_of(&known.framework_info) == framework.id);
        ensure!(
            is_known != completed.contains(&framework.name.as_str()),
            "{framework:?} of {known:?}"
        );
        let mut info = Framework::new(&framework.name).user("nobody").build();
        info.id = Some(FrameworkId {
            value: framework.id.clone(),
        });
        if framework.state == FrameworkState::Connected {
            let back = TestFramework::subscribe(masters.clone(), info).await?;
            ensure!(back.id().value == framework.id);
        } else if !is_known {
            let refused = TestFramework::subscribe(masters.clone(), info).await;
            let refused = format!("{:#}", refused.err().context("its id is used up")?);
            ensure!(refused.contains("removed"), "{refused}");
        }
    }
    for agent in &fixture.expected.agents {
        match (
            agent.state,
            attach(address, agent_info(&agent.hostname, Some(&agent.id))).await,
        ) {
            (AgentState::Gone, Err(error)) => {
                let rejected = error.downcast::<AgentRejected>()?;
                ensure!(rejected.0.gone(), "{rejected}");
            }
            (AgentState::Gone, Ok(_)) => anyhow::bail!("an agent that was marked gone is back"),
            (state, attached) => {
                let attached = attached?;
                ensure!(attached.id.value == agent.id);
                let listed = operator.get_agents().await?.agents;
                let listed = listed
                    .into_iter()
                    .find(|listed| listed.agent_info.id.as_ref() == Some(&attached.id));
                let deactivated = listed.context("it is attached")?.deactivated();
                ensure!(deactivated == (state == AgentState::Deactivated), "{agent:?}");
            }
        }
    }
    let namespace = State::of(masters, NAMESPACE).timeout(DEADLINE);
    for (key, value) in &fixture.expected.state {
        let entry = namespace.get(key).await?;
        ensure!(entry.is_some_and(|entry| entry.value == value.as_bytes()), "{key}");
    }
    let windows = operator.get_maintenance_schedule().await?.windows;
    let scheduled = windows.iter().flat_map(|window| &window.machine_ids);
    ensure!(
        scheduled
            .map(|machine| machine.hostname())
            .eq(&fixture.expected.scheduled)
    );
    Ok(())
}

/// Stops a master in order, and looks at the deadlines in its registry.
async fn check_deadlines(mut master: LocalProcess, work: &Path, fixture: &Fixture) -> anyhow::Result<()> {
    master.signal(Signal::TERM);
    let status = master.wait(DEADLINE).await.context("the master runs")?;
    ensure!(status.success(), "{}", master.log_tail());
    let (_, registry, _) = AppliedRegistry::open(&work.join("registry"))?;
    let away = fixture
        .expected
        .frameworks
        .iter()
        .find(|framework| framework.name == "away");
    let away = away.context("the fixture has one that is away")?;
    let FrameworkState::Away { from_ms, until_ms } = away.state else {
        anyhow::bail!("{away:?}");
    };
    let id = Some(FrameworkId { value: away.id.clone() });
    let known = registry.frameworks.iter().find(|known| known.info.id == id);
    let deadline = known.and_then(|known| known.failover_deadline_ms);
    ensure!(
        deadline.is_some_and(|at| (from_ms..=until_ms).contains(&at)),
        "{deadline:?} of {away:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registry_of_level_1_is_opened() -> anyhow::Result<()> {
    opened(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registry_of_level_2_is_opened() -> anyhow::Result<()> {
    opened(2).await
}

async fn opened(level: u32) -> anyhow::Result<()> {
    let fixture = Fixture::of_level(level)?;
    for with_applied_registry in [true, false] {
        let directory = directory(&format!("level-{level}-{with_applied_registry}"));
        let work = directory.join("work");
        fixture.restore(&work)?;
        if !with_applied_registry {
            std::fs::remove_dir_all(work.join("registry"))?;
        }
        let (master, address) = master("master", &directory, &[]).await?;
        check(&address, &fixture).await?;
        ensure!(group_at(&address).await?.cluster == fixture.expected.cluster);
        check_deadlines(master, &work, &fixture).await?;
        std::fs::remove_dir_all(directory)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_of_level_1_is_raised_and_joined_by_others() -> anyhow::Result<()> {
    let fixture = Fixture::of_level(1)?;
    let directory = directory("raised");
    fixture.restore(&directory.join("0/work"))?;
    let (mut first, address) = master("first", &directory.join("0"), &[]).await?;
    until("the level to be raised", async || {
        let group = group_at(&address).await?;
        Ok(group.level == LEVEL && group.masters.len() == 1 && group.masters[0].address == address)
    })
    .await?;
    let state = State::of(address.parse()?, "upgraded");
    state.put("key", "value").await?;
    let mut others = Vec::new();
    for index in 1..3 {
        let join = format!("--join={address}");
        let other = master(&format!("other-{index}"), &directory.join(index.to_string()), &[&join]).await?;
        crate::masters::command(&address, &["add", &other.1]).await?;
        others.push(other);
    }
    let group = group_at(&address).await?;
    ensure!(group.masters.len() == 3 && group.level == LEVEL, "{group:?}");

    // What was recorded with one master is now held by any two of three.
    first.kill();
    let addresses: Vec<_> = others.iter().map(|(_, address)| address.clone()).collect();
    let masters: Masters = addresses.join(",").parse()?;
    let state = State::of(masters.clone(), "upgraded").timeout(DEADLINE);
    ensure!(state.get("key").await?.is_some_and(|entry| entry.value == "value"));
    let mut operator = OperatorClient::new(masters).timeout(DEADLINE);
    operator.get_master().await?;
    let leader = operator.leader().context("it answered")?.to_owned();
    check(&leader, &fixture).await?;
    drop(others);
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_upgraded_one_master_after_the_other() -> anyhow::Result<()> {
    let mut cluster = Cluster::builder("upgrade")
        .masters(3)
        .agents(0)
        .master_arg("--compatibility=1")
        .start()
        .await?;
    let framework = cluster.framework("upgrade").await?;
    let state = State::of(cluster.masters(), "upgrade").timeout(DEADLINE);
    let refused = state.put("key", "value").await;
    ensure!(
        matches!(refused, Err(StateError::Refused(_) | StateError::Unsupported(_))),
        "{refused:?}"
    );
    for index in 0..3 {
        ensure!(
            cluster.group().await?.level == 1,
            "raised while a member does not understand it"
        );
        let master = cluster.local().master_at(index);
        master.signal(Signal::TERM);
        let status = master.wait(DEADLINE).await.context("it runs")?;
        ensure!(status.success(), "{}", master.log_tail());
        master.spec_mut().args.retain(|arg| !arg.starts_with("--compatibility"));
        cluster.local().restart_master(index).await?;
        cluster.caught_up().await?;
    }
    cluster
        .wait_for_group("the level to be raised", |group| group.level == LEVEL)
        .await?;
    state.put("key", "value").await?;
    let framework = framework.fail_over().await?;
    ensure!(cluster.operator().get_frameworks().await?.frameworks.len() == 1);

    // There is no way back: the registry has what the old version would not understand.
    let leader = cluster.leader().await?;
    let follower = (leader + 1) % 3;
    let master = cluster.local().master_at(follower);
    master.signal(Signal::TERM);
    master.wait(DEADLINE).await;
    let new_args = master.spec().args.clone();
    master.spec_mut().args.push("--compatibility=1".to_owned());
    master.restart()?;
    let status = master.wait(DEADLINE).await.context("it was started")?;
    let said = master.log_tail();
    ensure!(!status.success() && said.contains("level"), "{said}");
    master.spec_mut().args = new_args;
    cluster.expect_error("level");
    cluster.local().restart_master(follower).await?;
    cluster.caught_up().await?;
    drop(framework);
    cluster.stop().await
}
