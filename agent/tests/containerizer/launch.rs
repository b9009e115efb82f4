//! Starting, ending, signalling and killing.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use proffer_agent::containerizer::{ContainerId, Containerizer, Error};

use crate::host::{Host, UID, block_on, lives, on_host, until};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

#[test]
fn a_program_runs_and_its_exit_code_is_told() {
    on_host("exit code", async |host| {
        let mut spec = host.shell("c", "echo to out; echo to err >&2; pwd; env; exit 3");
        spec.environment.push(("GREETING".into(), "hello".into()));
        let exit = host.run(&spec).await;
        assert_eq!(
            (exit.code, exit.signal, exit.oom, exit.lost),
            (Some(3), None, None, false)
        );
        assert!(exit.memory_peak_bytes.is_some_and(|bytes| bytes > 0), "{exit:?}");
        let sandbox = host.sandbox("c");
        let out = std::fs::read_to_string(sandbox.join("stdout")).unwrap();
        assert!(out.starts_with(&format!("to out\n{}\n", sandbox.display())), "{out}");
        assert!(out.contains("GREETING=hello") && !out.contains("CARGO"), "{out}");
        assert_eq!(std::fs::read_to_string(sandbox.join("stderr")).unwrap(), "to err\n");
        assert_eq!(std::fs::metadata(sandbox.join("stdout")).unwrap().uid(), UID);
        assert_eq!(host.wait("c").await, exit, "the exit can be asked for again");
        host.finish().await;
    });
}

#[test]
fn a_sandbox_need_not_lie_below_tmp() {
    let Some(host) = Host::below("/var/tmp", "sandbox elsewhere") else {
        return;
    };
    block_on(async {
        let exit = host
            .run(&host.program("c", &["sh", "-c", "echo found in PATH > file; cat file"]))
            .await;
        assert_eq!(exit.code, Some(0));
        assert_eq!(host.output("c"), "found in PATH\n");
        host.finish().await;
    });
}

#[test]
fn a_signal_that_ends_it_is_told() {
    on_host("signal", async |host| {
        assert_eq!(
            host.run(&host.shell("itself", "kill -9 $$")).await.signal,
            Some(SIGKILL)
        );
        host.launch(&host.program("sleeper", &["sleep", "1000"])).await;
        host.containerizer()
            .signal(&ContainerId("sleeper".into()), SIGTERM)
            .unwrap();
        let exit = host.wait("sleeper").await;
        assert_eq!((exit.code, exit.signal), (None, Some(SIGTERM)));
        host.containerizer()
            .signal(&ContainerId("sleeper".into()), SIGTERM)
            .expect("after its end");
        // The whole group is reached; a shell waits for a signal without a gap only in `wait`.
        let script = "trap 'echo handled; exit 5' TERM; sleep 1000 & echo ready; wait";
        host.launch(&host.shell("handler", script)).await;
        host.output_with("handler", "ready").await;
        host.containerizer()
            .signal(&ContainerId("handler".into()), SIGTERM)
            .unwrap();
        assert_eq!(host.wait("handler").await.code, Some(5));
        assert!(host.output("handler").contains("handled"));
        host.finish().await;
    });
}

#[test]
fn what_cannot_be_launched_says_why_and_leaves_nothing() {
    on_host("refused", async |host| {
        let containerizer = host.containerizer();
        let error = containerizer
            .launch(&host.program("c", &["/no/such/program"]))
            .await
            .unwrap_err();
        assert_eq!(
            (error.stage.as_str(), error.errno),
            ("execute /no/such/program", 2),
            "{error}"
        );
        let error = containerizer
            .launch(&host.program("c", &["no-such-program"]))
            .await
            .unwrap_err();
        assert_eq!(
            (error.stage.as_str(), error.errno),
            ("execute no-such-program", 2),
            "{error}"
        );
        let mut spec = host.shell("c", "true");
        spec.sandbox = host.sandbox("nowhere");
        let error = containerizer.launch(&spec).await.unwrap_err();
        assert!(error.errno == 2 && error.stage.contains("nowhere"), "{error}");
        spec = host.shell("c", "true");
        spec.user.uid = 0;
        let error = containerizer.launch(&spec).await.unwrap_err();
        assert!(error.errno == 0 && error.stage == "check user", "{error}");
        spec = host.shell("c", "true");
        spec.sandbox = "/dev/shm".into();
        let error = containerizer.launch(&spec).await.unwrap_err();
        assert!(error.errno == 0 && error.stage == "check sandbox", "{error}");
        for (id, argv, name) in [
            ("../c", "true", "A"),
            ("c", "", "A"),
            ("c", "tr\0ue", "A"),
            ("c", "true", "A=B"),
        ] {
            spec = host.shell("c", "true");
            spec.id = ContainerId(id.into());
            spec.argv = vec![argv.into()];
            spec.environment.push((name.into(), "x".into()));
            let error = containerizer.launch(&spec).await.unwrap_err();
            assert!(error.errno == 0 && error.stage.starts_with("check "), "{error}");
        }
        assert_eq!(containerizer.containers(), []);
        assert_eq!(
            host.run(&host.shell("c", "exit 1")).await.code,
            Some(1),
            "the name is free again"
        );
        let error = containerizer.launch(&host.shell("c", "true")).await.unwrap_err();
        assert!(error.stage == "check id" && error.reason.contains("in use"), "{error}");
        host.finish().await;
    });
}

#[test]
fn a_kill_reaches_the_whole_tree() {
    on_host("tree", async |host| {
        let script = "setsid sh -c 'echo pid $$; sleep 1000 & (setsid sleep 1001 &) ; sleep 1002; :' & \
                      (sleep 1003 &) ; trap '' TERM HUP INT; sleep 1004; :";
        let pid = host.launch(&host.shell("c", script)).await;
        let id = ContainerId("c".into());
        let listed = |root: &Path| -> Vec<u32> {
            let text = std::fs::read_to_string(root.join("c/cgroup.procs")).unwrap();
            text.lines().map(|pid| pid.parse().unwrap()).collect()
        };
        let roots = host.cgroup_roots();
        let sleeps = |pids: &[u32]| {
            let command = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let commands: Vec<_> = pids.iter().map(command).collect();
            (1000..=1004).all(|n| commands.contains(&format!("sleep\0{n}\0")))
        };
        let processes = until(|| Some(listed(&roots[0])).filter(|pids| sleeps(pids)), "the whole tree").await;
        assert!(processes.len() >= 7 && processes.contains(&pid), "{processes:?}");
        for root in &roots {
            assert!(sleeps(&listed(root)), "{} misses a process", root.display());
        }
        assert!(matches!(host.containerizer().forget(&id).await, Err(Error::Running(_))));
        host.containerizer().destroy(&id).unwrap();
        assert_eq!(host.wait("c").await.signal, Some(SIGKILL));
        assert!(!processes.iter().any(|pid| lives(*pid)), "{processes:?}");
        host.containerizer().destroy(&id).expect("after its end");
        host.finish().await;
    });
}

#[test]
fn what_the_main_process_leaves_behind_ends_with_it() {
    on_host("left behind", async |host| {
        let script = "setsid sh -c 'trap \"\" TERM HUP; sleep 1000; :' & echo started; exit 4";
        assert_eq!(host.run(&host.shell("c", script)).await.code, Some(4));
        let processes = host.cgroup_roots()[0].join("c/cgroup.procs");
        assert_eq!(std::fs::read_to_string(processes).unwrap(), "");
        host.finish().await;
    });
}

#[test]
fn many_start_and_end_at_once() {
    on_host("many", async |host| {
        let specs: Vec<_> = (0..40)
            .map(|n| host.shell(&format!("c{n}"), &format!("exit {n}")))
            .collect();
        let launches = specs.into_iter().map(|spec| {
            let containerizer = host.containerizer().clone();
            tokio::spawn(async move { containerizer.launch(&spec).await.map(|_| containerizer) })
        });
        let launches: Vec<_> = launches.collect();
        for launch in launches {
            launch.await.unwrap().unwrap();
        }
        for n in 0..40 {
            assert_eq!(host.wait(&format!("c{n}")).await.code, Some(n));
        }
        host.finish().await;
    });
}

#[test]
fn a_killed_supervisor_takes_its_container_along() {
    on_host("killed supervisor", async |host| {
        let spec = host.shell("c", "setsid sleep 1000 & sleep 1000; :");
        let launched = host.containerizer().launch(&spec).await.unwrap();
        let shim = rustix::process::Pid::from_raw(launched.shim_pid as i32).unwrap();
        rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
        let exit = host.wait("c").await;
        assert!(exit.lost && exit.code.is_none() && exit.signal.is_none(), "{exit:?}");
        assert!(!lives(launched.pid));
        host.finish().await;
    });
}

#[test]
fn a_killed_launcher_is_started_again_and_its_containers_run_on() {
    on_host("killed launcher", async |host| {
        let script = "until [ -e go ]; do sleep 0.01; done; exit 6";
        let before = host
            .containerizer()
            .launch(&host.shell("before", script))
            .await
            .unwrap();
        let launcher = host.launchers().into_iter().find(|pid| *pid != before.shim_pid);
        let launcher = launcher.expect("a launcher besides the supervisor");
        let pid = rustix::process::Pid::from_raw(launcher as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        until(|| (!lives(launcher)).then_some(()), "its end").await;
        assert_eq!(host.run(&host.shell("after", "exit 5")).await.code, Some(5));
        assert!(lives(before.pid) && lives(before.shim_pid));
        std::fs::write(host.sandbox("before").join("go"), "").unwrap();
        assert_eq!(host.wait("before").await.code, Some(6));
        host.finish().await;
    });
}

#[test]
fn no_launcher_outlives_its_agent() {
    on_host("launcher ends", async |mut host| {
        host.launch(&host.program("c", &["sleep", "1000"])).await;
        assert_eq!(host.launchers().len(), 2, "a launcher and a supervisor");
        host.close();
        assert_eq!(host.launchers().len(), 1, "the supervisor");
        host.reopen();
        host.containerizer().recover(&[]).await.unwrap();
        host.finish().await;
    });
}

#[test]
fn nothing_is_started_that_is_not_ready() {
    on_host("not ready", async |host| {
        let spec = host.shell("c", "echo ran");
        let error = host.containerizer().launch_blocking(&spec, || false).unwrap_err();
        assert_eq!(
            (error.stage.as_str(), error.errno),
            ("wait for the checkpoint", 0),
            "{error}"
        );
        assert_eq!(host.containerizer().containers(), []);
        for root in host.cgroup_roots() {
            assert!(!root.join("c").exists());
        }
        assert!(!host.records("c").exists());
        assert_eq!(
            host.run(&host.shell("c", "exit 1")).await.code,
            Some(1),
            "the name is free"
        );
        assert_eq!(host.output("c"), "");
        host.finish().await;
    });
}

#[test]
fn a_supervisor_is_small() {
    on_host("small", async |host| {
        let launched = host
            .containerizer()
            .launch(&host.program("c", &["sleep", "1000"]))
            .await
            .unwrap();
        let status = std::fs::read_to_string(format!("/proc/{}/status", launched.shim_pid)).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        eprintln!("resident memory of a supervisor: {}", resident.trim());
        let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kilobytes <= 1536, "{kilobytes} kB");
        host.containerizer().destroy(&ContainerId("c".into())).unwrap();
        host.finish().await;
    });
}

#[test]
fn a_runtime_directory_has_one_agent() {
    on_host("one agent", async |host| {
        assert!(matches!(
            Containerizer::open(host.config().clone()),
            Err(Error::Busy(_))
        ));
        let mut config = host.config().clone();
        config.isolation.push("magic".into());
        assert!(matches!(
            Containerizer::open(config),
            Err(Error::UnknownIsolator { .. })
        ));
        host.finish().await;
    });
}

/// Not a check: prints how long a launch takes.
#[test]
#[ignore = "a measurement"]
fn measure_launches() {
    // `/var/tmp` unless `PROFFER_TEST_DIRECTORY` names another file system.
    let parent = std::env::var("PROFFER_TEST_DIRECTORY").unwrap_or_else(|_| "/var/tmp".into());
    let Some(host) = Host::below(&parent, "measure") else {
        return;
    };
    block_on(async {
        let mut launches = Vec::new();
        let mut forgets = Vec::new();
        for n in 0..300 {
            let spec = host.program(&format!("c{n}"), &["/bin/true"]);
            let start = Instant::now();
            host.launch(&spec).await;
            launches.push(start.elapsed());
            host.wait(spec.id.as_str()).await;
            let start = Instant::now();
            host.containerizer().forget(&spec.id).await.unwrap();
            forgets.push(start.elapsed());
        }
        for (name, mut times) in [("launch", launches), ("forget", forgets)] {
            times.sort();
            eprintln!("{name}: p50 {:?} p90 {:?} p99 {:?}", times[150], times[270], times[297]);
        }
        host.finish().await;
    });
}
