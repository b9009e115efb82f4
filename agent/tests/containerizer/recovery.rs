//! Containers outlive the agent.

use proffer_agent::containerizer::{ContainerId, Recovered};

use crate::host::{Host, lives, on_host, until};

fn id(name: &str) -> ContainerId {
    ContainerId(name.into())
}

async fn recover(host: &mut Host, known: &[&str]) -> Vec<(ContainerId, Recovered)> {
    host.close();
    host.reopen();
    let known: Vec<_> = known.iter().map(|name| id(name)).collect();
    host.containerizer().recover(&known).await.unwrap()
}

#[test]
fn a_container_outlives_the_agent_and_its_exit_code_is_true() {
    on_host("recovery", async |mut host| {
        let script = "echo ready; until [ -e go ]; do sleep 0.01; done; exit 7";
        let first = host.launch(&host.shell("early", script)).await;
        let second = host.launch(&host.shell("late", script)).await;
        host.output_with("early", "ready").await;
        host.output_with("late", "ready").await;
        host.close();
        assert!(lives(first) && lives(second));
        std::fs::write(host.sandbox("early").join("go"), "").unwrap();
        let exit = host.records("early").join("exit");
        until(|| exit.exists().then_some(()), "the record of the exit").await;
        let recovered = recover(&mut host, &["early", "late", "never"]).await;
        let Recovered::Exited(exit) = &recovered[0].1 else {
            panic!("{recovered:?}")
        };
        assert_eq!(exit.code, Some(7));
        assert_eq!(recovered[1], (id("late"), Recovered::Running { pid: second }));
        assert_eq!(recovered[2], (id("never"), Recovered::Unknown));
        assert_eq!(host.wait("early").await.code, Some(7));
        assert!(host.containerizer().usage(&id("late")).unwrap().pids.is_some());
        std::fs::write(host.sandbox("late").join("go"), "").unwrap();
        assert_eq!(host.wait("late").await.code, Some(7));
        host.finish().await;
    });
}

#[test]
fn a_recovered_container_can_be_signalled_and_killed() {
    on_host("recovered kill", async |mut host| {
        host.launch(&host.program("signal", &["sleep", "1000"])).await;
        let pid = host
            .launch(&host.shell("kill", "setsid sleep 1000 & sleep 1000; :"))
            .await;
        recover(&mut host, &["signal", "kill"]).await;
        host.containerizer().signal(&id("signal"), 15).unwrap();
        assert_eq!(host.wait("signal").await.signal, Some(15));
        host.containerizer().destroy(&id("kill")).unwrap();
        assert_eq!(host.wait("kill").await.signal, Some(9));
        assert!(!lives(pid));
        host.finish().await;
    });
}

#[test]
fn what_nobody_knows_is_destroyed() {
    on_host("orphans", async |mut host| {
        let pid = host
            .launch(&host.shell("orphan", "setsid sleep 1000 & sleep 1000; :"))
            .await;
        host.run(&host.shell("ended", "exit 1")).await;
        for root in host.cgroup_roots() {
            std::fs::create_dir(root.join("empty")).unwrap();
        }
        assert_eq!(recover(&mut host, &[]).await, []);
        assert!(!lives(pid));
        for root in host.cgroup_roots() {
            assert!(!root.join("orphan").exists() && !root.join("empty").exists() && !root.join("ended").exists());
        }
        host.finish().await;
    });
}

#[test]
fn a_container_that_was_never_started_is_given_up() {
    on_host("given up", async |mut host| {
        std::fs::create_dir(host.records("c")).unwrap();
        assert_eq!(recover(&mut host, &["c"]).await, [(id("c"), Recovered::Unknown)]);
        assert!(!host.records("c").exists());
        host.finish().await;
    });
}

#[test]
fn no_pid_is_trusted_that_another_process_may_have() {
    on_host("foreign pid", async |mut host| {
        let own = std::process::id();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let state = |boot: &str| format!("proffer-state 1\nboot {boot}\nshim {own} 1\ntask {own} 1\nend\n");
        let states = [
            ("other", state(boot.trim())),
            ("rebooted", state("another")),
            ("torn", "proffer-st".into()),
        ];
        for (name, state) in states {
            std::fs::create_dir(host.records(name)).unwrap();
            std::fs::write(host.records(name).join("state"), state).unwrap();
        }
        let recovered = recover(&mut host, &["other", "rebooted", "torn"]).await;
        assert!(
            matches!(&recovered[0].1, Recovered::Exited(exit) if exit.lost),
            "{recovered:?}"
        );
        assert_eq!(recovered[1].1, Recovered::Unknown);
        assert_eq!(recovered[2].1, Recovered::Unknown);
        host.containerizer().signal(&id("other"), 9).unwrap();
        host.containerizer().destroy(&id("other")).unwrap();
        host.finish().await;
    });
}
