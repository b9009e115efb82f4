//! What the kernel does not let a task do, seen from a framework.

use proffer_proto::v1::{TaskState, task_status};
use proffer_tests::{Cluster, require_isolation};

use crate::shell;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_takes_too_much_memory_is_told_so() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("oom").start().await?;
    let mut framework = cluster.framework("oom").await?;
    let offer = framework.next_offer().await?;
    let probe = proffer_tests::cluster::built("proffer-probe")?;
    let task = framework
        .launch(offer, shell(&format!("{} hog 200", probe.display())))
        .await?;
    let status = framework.wait_for(&task, TaskState::TaskFailed).await?;
    assert_eq!(
        status.reason(),
        task_status::Reason::ContainerLimitationMemory,
        "{}",
        status.message()
    );
    assert!(status.limitation.is_some(), "the limit is told");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_binds_its_own_ports_and_no_other() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("ports").start().await?;
    let mut framework = cluster.framework("ports").await?;
    let offer = framework.next_offer_of(0.1, 32.0).await?;
    let (_, last) = cluster.ports(0);
    let probe = proffer_tests::cluster::built("proffer-probe")?;
    // The last port of the agent is not among those that the task gets.
    let line = format!(
        "for kind in tcp4 udp4 tcp6 mapped; do {} bind $kind $PORT0 {last}; done",
        probe.display()
    );
    let task = framework.launch(offer, shell(&line).port("http")).await?;
    framework.wait_for(&task, TaskState::TaskFinished).await?;
    let path = format!(
        "/frameworks/{}/executors/{}/runs/latest/stdout",
        framework.id(),
        task.task_id
    );
    let output = cluster.agent_client(0).await?.read_file(&path, 0, None).await?.data;
    // 1 is EPERM.
    assert_eq!(String::from_utf8_lossy(&output), "bound\n1\n".repeat(4));
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_has_its_own_processes_and_temporary_files() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("namespaces").start().await?;
    let mut framework = cluster.framework("namespaces").await?;
    let offer = framework.next_offer().await?;
    let line = "ls /proc | grep -c '^[0-9]'; ls /tmp | wc -l; grep NoNewPrivs /proc/self/status; \
                grep CapBnd /proc/self/status";
    let task = framework.launch(offer, shell(line)).await?;
    framework.wait_for(&task, TaskState::TaskFinished).await?;
    let path = format!(
        "/frameworks/{}/executors/{}/runs/latest/stdout",
        framework.id(),
        task.task_id
    );
    let output = cluster.agent_client(0).await?.read_file(&path, 0, None).await?.data;
    let text = String::from_utf8_lossy(&output).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].trim().parse::<u32>()? < 10,
        "only its own processes are seen: {text}"
    );
    assert_eq!(lines[1].trim(), "0", "its /tmp is its own: {text}");
    assert!(lines[2].ends_with('1'), "{text}");
    assert!(lines[3].ends_with("0000000000000000"), "{text}");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_confined_and_what_it_uses_is_counted() -> anyhow::Result<()> {
    require_isolation!();
    let mut cluster = Cluster::builder("confined").start().await?;
    let mut framework = cluster.framework("confined").await?;
    let offer = framework.next_offer().await?;
    let probe = proffer_tests::cluster::built("proffer-probe")?;
    let line = format!(
        "grep -c 'Seccomp:.2' /proc/self/status; (echo x > /var/tmp/proffer-none) 2> /dev/null || echo closed; \
         (unshare -U true) 2> /dev/null || echo no namespace; echo x > /dev/null && echo null; \
         {} talk $PORT0; echo ready; exec sleep 1000",
        probe.display()
    );
    let task = framework.launch(offer, shell(&line).port("http")).await?;
    framework.wait_for(&task, TaskState::TaskRunning).await?;
    let path = format!(
        "/frameworks/{}/executors/{}/runs/latest/stdout",
        framework.id(),
        task.task_id
    );
    let mut agent = cluster.agent_client(0).await?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let text = loop {
        let output = agent.read_file(&path, 0, None).await?.data;
        let text = String::from_utf8_lossy(&output).into_owned();
        if text.ends_with("ready\n") {
            break text;
        }
        anyhow::ensure!(std::time::Instant::now() < deadline, "{text}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!(text, "1\nclosed\nno namespace\nnull\nready\n");
    let containers = agent.get_containers().await?.containers;
    let statistics = containers[0].resource_statistics.clone().unwrap_or_default();
    // Ten datagrams of a hundred bytes and their headers.
    let traffic = (
        statistics.net_tx_bytes,
        statistics.net_rx_bytes,
        statistics.net_rx_packets,
    );
    assert_eq!(traffic, (Some(1280), Some(1280), Some(10)), "{statistics:?}");
    assert!(statistics.cpus_user_time_secs.is_some() && statistics.cpus_nr_periods.is_some());
    assert!(statistics.mem_peak_bytes >= statistics.mem_rss_bytes && statistics.mem_cache_bytes.is_some());
    assert!(statistics.blkio_statistics.is_some() && statistics.threads >= statistics.processes);
    assert!(statistics.processes > Some(0));
    assert_eq!(
        statistics.pressure.is_some(),
        std::fs::read("/proc/pressure/cpu").is_ok()
    );
    cluster.stop().await
}
