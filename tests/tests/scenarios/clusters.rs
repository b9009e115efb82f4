//! Masters of two clusters in one list mislead nobody.

use std::time::{Duration, Instant};

use proffer_proto::v1::TaskState;
use proffer_sdk::operator::OperatorClient;
use proffer_tests::{Cluster, DEADLINE, require_isolation};

use crate::shell;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_keeps_its_tasks_from_masters_of_another_cluster() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("strangers").start().await?;
    let (mut stranger, address) = cluster.newcomer("stranger", &["--cluster=other".to_owned()]).await?;
    let mut framework = cluster.framework("strangers").await?;
    let offer = framework.next_offer().await?;
    let task = framework
        .launch(offer, shell("while [ ! -e go ]; do sleep 0.05; done; exit 7"))
        .await?;
    framework.wait_for(&task, TaskState::TaskRunning).await?;
    let known = cluster.operator().get_agents().await?.agents;

    let masters = format!("--master={}", cluster.masters());
    let agent = cluster.agent(0);
    let argument = agent.spec().args.iter().position(|argument| *argument == masters);
    let argument = argument.expect("the agent is told its masters");
    agent.kill();
    agent.spec_mut().args[argument] = format!("--master={address}");
    agent.restart()?;
    let began = Instant::now();
    while !agent.log_tail().contains("of cluster `other`") {
        anyhow::ensure!(began.elapsed() < DEADLINE, "the stranger did not refuse the agent");
        tokio::task::yield_now().await;
    }
    let mut theirs = OperatorClient::new(address.parse()?);
    assert!(theirs.get_agents().await?.agents.is_empty());

    let agent = cluster.agent(0);
    agent.kill();
    agent.spec_mut().args[argument] = masters;
    agent.restart()?;
    agent.address(DEADLINE).await?;
    let sandbox = crate::agent_recovery::sandbox_of(&mut cluster, &task.task_id.value)?;
    std::fs::write(sandbox.join("go"), "")?;
    let status = framework.wait_for(&task, TaskState::TaskFailed).await?;
    assert!(status.message().contains('7'), "{}", status.message());
    let again = cluster.operator().get_agents().await?.agents;
    assert_eq!(again[0].agent_info.id, known[0].agent_info.id, "it is the same agent");

    stranger.kill();
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_knows_its_cluster_takes_no_answers_of_another() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("answers").start().await?;
    let (mut stranger, address) = cluster.newcomer("stranger", &["--cluster=other".to_owned()]).await?;
    let own = cluster.masters();
    let mut client = OperatorClient::new(own.clone());
    assert_eq!(client.get_agents().await?.agents.len(), 1);
    assert_eq!(
        OperatorClient::new(address.parse()?).get_agents().await?.agents.len(),
        0
    );

    // The first to answer tells which cluster it is.
    let mut mixed = OperatorClient::new(format!("{own},{address}").parse()?).timeout(Duration::from_secs(3));
    assert_eq!(mixed.get_agents().await?.agents.len(), 1);
    cluster.master().kill();
    let refused = mixed.get_agents().await;
    assert!(refused.is_err(), "the stranger's answer was taken: {refused:?}");
    cluster.master().restart()?;
    mixed.get_agents().await?;

    stranger.kill();
    cluster.stop().await
}
