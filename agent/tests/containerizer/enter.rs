//! Programs that enter a container which runs.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use proffer_agent::containerizer::{ContainerId, ContainerSpec, EnteredProgram, Exit, Resources, Streams, WindowSize};

use crate::host::{Host, UID, lives, on_host, until};

const SLEEP: &str = "echo ready; exec sleep 1000";

async fn enter(host: &Host, container: &ContainerSpec, script: &str, streams: Streams) -> EnteredProgram {
    let spec = ContainerSpec {
        argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
        ..container.clone()
    };
    let entered = host.containerizer().enter(&spec, streams).await;
    entered.unwrap_or_else(|error| panic!("{error}"))
}

/// What a program wrote until nobody could write any more; a terminal says that by an error.
async fn all_of(stream: Option<OwnedFd>) -> String {
    let mut file = File::from(stream.expect("a stream"));
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let _ = file.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    tokio::time::timeout(Duration::from_secs(60), read)
        .await
        .expect("the stream ends")
        .expect("read")
}

async fn finish(host: Host, id: &str) {
    host.containerizer().destroy(&ContainerId(id.into())).expect("destroy");
    host.wait(id).await;
    host.finish().await;
}

#[test]
fn a_program_that_enters_is_confined_like_the_container() {
    on_host("enter", async |host| {
        let mut spec = host.shell("c", &format!("echo here > /tmp/mark; {SLEEP}"));
        spec.resources = Resources {
            ports: vec![31_950..=31_950],
            ..spec.resources
        };
        spec.environment.push(("COLOUR".into(), "green".into()));
        let bind = host.payload("c", "bind 31950 31951");
        let main = host.launch(&spec).await;
        host.output_with("c", "ready").await;
        let script = format!(
            "id -u; pwd; cat /tmp/mark; echo $COLOUR; grep -E '^(CapBnd|CapEff|NoNewPrivs)' /proc/self/status; cat; \
             cat /proc/self/cgroup; echo problem >&2; {bind}; exit 7"
        );
        let mut program = enter(&host, &spec, &script, Streams::Pipes).await;
        let mut input = File::from(program.input.take().expect("an input"));
        input.write_all(b"what was said\n").expect("write");
        drop(input);
        let (output, errors) = (program.output.take(), program.errors.take());
        let (output, errors) = (all_of(output).await, all_of(errors).await);
        assert_eq!(program.wait().await.code, Some(7), "{output}{errors}");
        let lines: Vec<&str> = output.lines().collect();
        let sandbox = host.sandbox("c");
        assert_eq!(
            &lines[..4],
            [&UID.to_string(), sandbox.to_str().unwrap(), "here", "green"],
            "{output}"
        );
        assert!(
            output.contains("CapBnd:\t0000000000000000") && output.contains("CapEff:\t0000000000000000"),
            "{output}"
        );
        assert!(
            output.contains("NoNewPrivs:\t1") && output.contains("what was said"),
            "{output}"
        );
        assert!(
            output.contains("tcp4 31950 ok") && output.contains("tcp4 31951 Some(1)"),
            "{output}"
        );
        assert!(output.contains("udp6-reuse 31951 Some(1)"), "{output}");
        assert!(errors.starts_with("problem"), "{errors}");
        // The same limits hold: each of its cgroups is the container's, or lies below it.
        let own = std::fs::read_to_string(format!("/proc/{main}/cgroup")).expect("the container's cgroups");
        for line in own.lines().filter(|line| line.contains("proffer-test")) {
            assert!(output.contains(line), "{line} in {output}");
        }
        // The container's processes, and only those, are seen.
        let mut program = enter(&host, &spec, "read word; kill -0 2 && kill 2", Streams::Pipes).await;
        drop(program.input.take());
        program.wait().await;
        host.wait("c").await;
        host.finish().await;
    });
}

#[test]
fn a_program_that_enters_has_a_terminal_of_the_container() {
    on_host("enter terminal", async |host| {
        let spec = host.shell("c", SLEEP);
        host.launch(&spec).await;
        let size = WindowSize { rows: 30, columns: 99 };
        let script = "trap 'stty size; exit 5' WINCH; tty; stty size; test -t 0 && test -w $(tty) && echo terminal; \
                      while :; do sleep 0.05; done";
        let mut program = enter(&host, &spec, script, Streams::Terminal(size)).await;
        let output = program.output.take().expect("an output");
        let mut reader = File::from(output.try_clone().expect("another descriptor"));
        let mut seen = String::new();
        until(
            || {
                let mut some = [0; 512];
                if let Ok(length) = reader.read(&mut some) {
                    seen.push_str(&String::from_utf8_lossy(&some[..length]));
                }
                seen.contains("terminal\r\n").then_some(())
            },
            "the terminal answers",
        )
        .await;
        assert!(
            seen.starts_with("/dev/pts/") && seen.contains("\r\n30 99\r\n"),
            "{seen}"
        );
        program.resize(WindowSize { rows: 31, columns: 100 }).expect("resize");
        assert_eq!(program.wait().await.code, Some(5), "{seen}");
        assert!(all_of(Some(output)).await.contains("31 100"));
        finish(host, "c").await;
    });
}

#[test]
fn everything_that_entered_ends_when_asked_and_with_the_container() {
    on_host("enter end", async |host| {
        let spec = host.shell("c", SLEEP);
        host.launch(&spec).await;
        // Daemons, and the remainder of a program that ended by itself.
        let leave = "setsid sleep 1000 & (setsid sleep 1000 &) ; echo started";
        let stay = format!("{leave}; wait; sleep 1000");
        let left = enter(&host, &spec, &format!("{leave}; exit 3"), Streams::Pipes).await;
        assert_eq!(left.wait().await.code, Some(3));
        let mut asked = enter(&host, &spec, &stay, Streams::Pipes).await;
        let output = asked.output.take().expect("an output");
        let mut reader = File::from(output.try_clone().expect("another descriptor"));
        let mut started = [0; 8];
        reader.read_exact(&mut started).expect("it starts");
        drop(asked);
        assert_eq!((&started, all_of(Some(output)).await), (b"started\n", String::new()));
        let pids = |host: &Host| {
            let roots = host.cgroup_roots().into_iter().map(|root| root.join("c"));
            let inside = roots.flat_map(|root| [root.clone()].into_iter().chain(children(&root)));
            let pids = inside.flat_map(|path| {
                let text = std::fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
                text.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
            });
            let mut pids: Vec<u32> = pids.filter(|pid| lives(*pid)).collect();
            pids.sort_unstable();
            pids.dedup();
            pids
        };
        until(|| (pids(&host).len() == 1).then_some(()), "only the container is left").await;

        let with = enter(&host, &spec, &stay, Streams::Pipes).await;
        host.containerizer().destroy(&spec.id).expect("destroy");
        let exit: Exit = with.wait().await;
        assert_eq!(exit.code, None, "{exit:?}");
        host.wait("c").await;
        let refused = host
            .containerizer()
            .enter(&spec, Streams::Pipes)
            .await
            .expect_err("it has ended");
        assert!(refused.to_string().contains("does not run"), "{refused}");
        host.finish().await;
    });
}

fn children(path: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

#[test]
fn what_entered_ends_with_the_agent_and_a_new_one_can_enter() {
    on_host("enter restart", async |mut host| {
        let spec = host.shell("c", SLEEP);
        host.launch(&spec).await;
        let program = enter(&host, &spec, "sleep 1000", Streams::Pipes).await;
        program.signal(9).expect("kill");
        assert_eq!(program.wait().await.signal, Some(9));
        host.close();
        host.reopen();
        let recovered = host
            .containerizer()
            .recover(std::slice::from_ref(&spec.id))
            .await
            .expect("recover");
        assert_eq!(recovered.len(), 1);
        let program = enter(&host, &spec, "exit 9", Streams::Pipes).await;
        assert_eq!(program.wait().await.code, Some(9));
        let mut absent = spec.clone();
        absent.argv = vec!["/no/such/program".into()];
        let refused = host
            .containerizer()
            .enter(&absent, Streams::Pipes)
            .await
            .expect_err("there is none");
        assert!(
            refused.to_string().contains("execute /no/such/program failed"),
            "{refused}"
        );
        finish(host, "c").await;
    });
}

#[test]
fn a_container_that_ends_while_it_is_entered_ends() {
    on_host("enter race", async |host| {
        for round in 0..10 {
            let id = format!("c{round}");
            let spec = host.shell(&id, SLEEP);
            host.launch(&spec).await;
            // It may be gone before anybody hears that it was entered.
            let killer = ContainerSpec {
                argv: vec!["/bin/sh".into(), "-c".into(), "kill -9 2".into()],
                ..spec.clone()
            };
            match host.containerizer().enter(&killer, Streams::Pipes).await {
                Ok(program) => {
                    program.wait().await;
                }
                Err(error) => assert!(error.to_string().contains("the container ended meanwhile"), "{error}"),
            }
            host.wait(&id).await;
            host.containerizer()
                .forget(&spec.id)
                .await
                .expect("nothing of it is left");
        }
        host.finish().await;
    });
}

#[test]
fn many_enter_at_once() {
    on_host("enter many", async |host| {
        let spec = host.shell("c", SLEEP);
        host.launch(&spec).await;
        let start = std::time::Instant::now();
        let mut entered = Vec::new();
        for number in 0..40 {
            let spec = ContainerSpec {
                argv: vec!["/bin/sh".into(), "-c".into(), format!("exit {number}")],
                ..spec.clone()
            };
            let containerizer = host.containerizer().clone();
            entered.push(tokio::spawn(async move {
                let program = containerizer.enter(&spec, Streams::Pipes).await;
                program.unwrap_or_else(|error| panic!("{error}")).wait().await.code
            }));
        }
        for (number, entered) in entered.into_iter().enumerate() {
            assert_eq!(entered.await.expect("no panic"), Some(number as i32));
        }
        eprintln!("40 programs entered and ended in {:?}", start.elapsed());
        for root in host.cgroup_roots() {
            assert_eq!(children(&root.join("c")), Vec::<std::path::PathBuf>::new());
        }
        finish(host, "c").await;
    });
}
