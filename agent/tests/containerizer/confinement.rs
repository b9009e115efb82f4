//! What a container may do at all: capabilities, limits, files, system calls.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use proffer_agent::containerizer::{Config, Containerizer, Error, ISOLATORS, Policy, ResourceLimit};

use crate::host::{Host, block_on, on_host};

const NET_RAW: u64 = 1 << 13;
const CHOWN: u64 = 1;
/// `RLIMIT_NOFILE`.
const OPEN_FILES: u32 = 7;

fn with_policy<F: Future<Output = ()>>(test: &str, policy: Policy, run: impl FnOnce(Host) -> F) {
    if let Some(host) = Host::with_policy("/tmp", test, policy) {
        block_on(run(host));
    }
}

#[test]
fn a_container_has_the_capabilities_that_it_asks_for_where_they_are_allowed() {
    let policy = Policy {
        capabilities: NET_RAW | CHOWN,
        ..Policy::default()
    };
    with_policy("capabilities", policy, async |host| {
        for (id, uid) in [("user", 65534), ("root", 0)] {
            let mut spec = host.shell(id, "grep ^Cap /proc/self/status; chown 7:7 owned && echo owns");
            (spec.user.uid, spec.root_allowed) = (uid, true);
            (spec.confinement.effective, spec.confinement.bounding) = (CHOWN, NET_RAW | CHOWN);
            fs::write(host.sandbox(id).join("owned"), "").unwrap();
            host.run(&spec).await;
            let output = host.output(id);
            for set in ["CapPrm", "CapEff", "CapAmb"] {
                assert!(
                    output.contains(&format!("{set}:\t{CHOWN:016x}")),
                    "{id} {set}: {output}"
                );
            }
            assert!(
                output.contains(&format!("CapBnd:\t{:016x}", NET_RAW | CHOWN)),
                "{output}"
            );
            assert!(output.contains("owns"), "{output}");
        }
        let mut spec = host.shell("plain", "grep ^Cap /proc/self/status");
        host.run(&spec).await;
        assert_eq!(host.output("plain").matches("0000000000000000").count(), 5);
        spec.id.0 = "greedy".into();
        spec.confinement.bounding = 1 << 21;
        let refused = host.containerizer().launch(&spec).await.unwrap_err();
        assert!(refused.reason.contains("SYS_ADMIN is not for tasks"), "{refused}");
        host.finish().await;
    });
}

#[test]
fn resource_limits_are_set_and_those_that_cannot_be_are_refused() {
    on_host("rlimits", async |host| {
        let mut spec = host.shell("c", "ulimit -Sn; ulimit -Hn");
        let limit = |soft, hard| ResourceLimit {
            resource: OPEN_FILES,
            soft,
            hard,
        };
        spec.confinement.rlimits = vec![limit(32, 64)];
        host.run(&spec).await;
        assert_eq!(host.output("c"), "32\n64\n");
        spec.id.0 = "refused".into();
        spec.confinement.rlimits = vec![limit(32, u64::MAX - 1)];
        let refused = host.containerizer().launch(&spec).await.unwrap_err();
        assert!(
            refused.reason.contains("RLMT_NOFILE: a hard limit of up to"),
            "{refused}"
        );
        host.finish().await;
    });
}

#[test]
fn files_change_where_they_may_and_nowhere_else() {
    let name = format!("/var/tmp/proffer-test-landlock-{}", std::process::id());
    let open = |path: &str| {
        fs::create_dir_all(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    };
    let (closed, added) = (format!("{name}/closed"), format!("{name}/added"));
    open(&closed);
    open(&added);
    fs::write(format!("{closed}/file"), "text").unwrap();
    fs::set_permissions(format!("{closed}/file"), fs::Permissions::from_mode(0o666)).unwrap();
    let policy = Policy {
        writable: vec![added.clone().into()],
        ..Policy::default()
    };
    with_policy("landlock", policy, async |host| {
        if !host.enforces("landlock") {
            return host.finish().await;
        }
        for (id, uid) in [("user", 65534), ("root", 0)] {
            let script = format!(
                "cat {closed}/file; echo x > {closed}/new && echo made; echo x >> {closed}/file && echo wrote; \
                 mkdir {closed}/directory && echo directory; rm {closed}/file && echo removed; \
                 mv {added}/nothing {closed}/ ; ln -s x {closed}/link && echo linked; \
                 mkdir a b && echo y > a/f && mv a/f b/f && cat b/f && echo z > /tmp/t && mv /tmp/t t && \
                 echo w > /dev/shm/w && echo v > /dev/null && echo u > {added}/{id} && echo 5 > /proc/self/oom_score_adj && \
                 rm -r a b && echo sandbox"
            );
            let mut spec = host.shell(id, &script);
            (spec.user.uid, spec.root_allowed) = (uid, true);
            chown(host.sandbox(id), Some(uid), None).unwrap();
            host.run(&spec).await;
            let out = fs::read_to_string(host.sandbox(id).join("stdout")).unwrap();
            assert_eq!(out, "texty\nsandbox\n", "{id}: {}", host.output(id));
            assert_eq!(fs::read_to_string(format!("{added}/{id}")).unwrap(), "u\n");
        }
        assert_eq!(fs::read_dir(&closed).unwrap().count(), 1);
        host.finish().await;
    });
    fs::remove_dir_all(name).unwrap();
}

#[test]
fn system_calls_of_no_use_are_denied() {
    let policy = Policy {
        unconfined: true,
        ..Policy::default()
    };
    with_policy("seccomp", policy, async |host| {
        if !host.enforces("seccomp") {
            return host.finish().await;
        }
        let script = |id: &str| {
            format!(
                "{}; unshare -U true && echo namespace; (echo a; echo b) | (read x; read y; echo $x$y); grep ^Seccomp: /proc/self/status",
                host.payload(id, "sockets")
            )
        };
        host.run(&host.shell("c", &script("c"))).await;
        let output = host.output("c");
        for passes in ["1 0", "2 0", "10 0", "16 0"] {
            assert!(output.contains(&format!("\n{passes} passes\n")), "{passes}: {output}");
        }
        for denied in ["2 132", "38 0", "40 0"] {
            assert!(output.contains(&format!("\n{denied} denied\n")), "{denied}: {output}");
        }
        assert!(
            !output.contains("namespace\n") && output.contains("Operation not permitted"),
            "{output}"
        );
        assert!(output.contains("\nab\n") && output.contains("Seccomp:\t2"), "{output}");
        let mut spec = host.shell("free", &script("free"));
        spec.confinement.unconfined = true;
        host.run(&spec).await;
        let output = host.output("free");
        assert!(!output.contains("denied") && output.contains("Seccomp:\t0"), "{output}");
        host.finish().await;
    });
}

#[test]
fn every_isolator_says_what_enforces_it_and_what_is_left_out_is_warned_of() {
    on_host("notes", async |host| {
        let names: Vec<_> = host.notes().iter().map(|note| note.isolator).collect();
        assert_eq!(names, ISOLATORS);
        assert!(host.notes().iter().all(|note| !note.text.is_empty()));
        let config = Config {
            runtime_dir: host.directory().join("other"),
            cgroup_root: format!("{}-other", host.config().cgroup_root),
            isolation: vec!["cpu".into(), "user".into()],
            ..host.config().clone()
        };
        let (other, notes) = Containerizer::open(config).unwrap();
        let enforced: Vec<_> = notes.iter().filter(|note| note.enforced).collect();
        let names: Vec<_> = enforced.iter().map(|note| note.isolator).collect();
        assert_eq!((names, notes.len()), (vec!["cpu", "user"], ISOLATORS.len()));
        assert!(enforced[0].text.starts_with("cgroup v"), "{:?}", enforced[0]);
        let out = notes.iter().find(|note| note.isolator == "memory").unwrap();
        assert_eq!(out.text, "switched off by --isolation");
        drop(other);
        host.finish().await;
    });
}

#[test]
fn open_files_are_as_many_as_the_agent_was_started_with_unless_a_task_says_otherwise() {
    const STARTED_WITH: &str = "PROFFER_TEST_OPEN_FILES";
    if std::env::var_os(STARTED_WITH).is_some() {
        return on_host("open files", async |host| {
            host.run(&host.shell("c", "ulimit -Sn; ulimit -Hn")).await;
            assert_eq!(host.output("c"), "700\n900\n");
            let own = rustix::process::getrlimit(rustix::process::Resource::Nofile);
            assert_eq!((own.current, own.maximum), (Some(900), Some(900)));
            host.finish().await;
        });
    }
    // In a process of its own: the limit is the process's.
    let name = "confinement::open_files_are_as_many_as_the_agent_was_started_with_unless_a_task_says_otherwise";
    let output = std::process::Command::new("sh")
        .args([
            "-c",
            "ulimit -Sn 700 && ulimit -Hn 900 && exec \"$0\" --exact \"$1\" --nocapture",
        ])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(STARTED_WITH, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

#[test]
fn what_the_agent_itself_cannot_do_is_refused_at_start() {
    on_host("unenforceable", async |host| {
        let own = fs::read_to_string("/proc/self/status").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("CapPrm:")).unwrap();
        let own = u64::from_str_radix(own.trim(), 16).unwrap();
        let Some(missing) = (0..41).find(|number| own >> number & 1 == 0) else {
            eprintln!("skipped: the agent has every capability");
            return host.finish().await;
        };
        let config = Config {
            runtime_dir: host.directory().join("other"),
            cgroup_root: format!("{}-other", host.config().cgroup_root),
            policy: Policy {
                capabilities: 1 << missing,
                ..Policy::default()
            },
            ..host.config().clone()
        };
        let error = Containerizer::open(config).unwrap_err();
        assert!(
            matches!(&error, Error::Unenforceable { isolator: "capabilities", reason } if reason.contains("itself")),
            "{error}"
        );
        host.finish().await;
    });
}
