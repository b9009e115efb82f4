//! What the kernel enforces on a container.

use std::time::Instant;

use proffer_agent::containerizer::{ContainerId, Limit, Resources};

use crate::host::{Host, UID, on_host, until};

#[test]
fn the_cpu_quota_holds_and_can_be_changed() {
    on_host("cpu", async |host| {
        let mut spec = host.shell("c", "while :; do :; done");
        spec.resources.cpus_thousandths = 100;
        host.launch(&spec).await;
        measure_cpu(&host, 0.1).await;
        let resources = Resources {
            cpus_thousandths: 500,
            ..spec.resources.clone()
        };
        host.containerizer().update(&spec.id, &resources).await.unwrap();
        measure_cpu(&host, 0.5).await;
        host.containerizer().destroy(&spec.id).unwrap();
        host.wait("c").await;
        host.finish().await;
    });
}

#[test]
fn what_may_be_taken_back_weighs_next_to_nothing() {
    on_host("lent", async |host| {
        for (name, revocable) in [("firm", 0), ("lent", 1000)] {
            let mut spec = host.shell(name, "sleep 1000");
            spec.resources.cpus_thousandths = 1000;
            spec.resources.cpus_revocable_thousandths = revocable;
            host.launch(&spec).await;
        }
        let weight = |name: &str| {
            let files = host.cgroup_roots().into_iter();
            let files = files.flat_map(|root| ["cpu.shares", "cpu.weight"].map(|file| root.join(name).join(file)));
            let found = files.filter_map(|file| std::fs::read_to_string(file).ok()).next();
            found.expect("a weight").trim().parse::<u64>().unwrap()
        };
        let (firm, lent) = (weight("firm"), weight("lent"));
        assert!(matches!((firm, lent), (1024, 10) | (100, 1)), "{firm} and {lent}");
        for name in ["firm", "lent"] {
            host.containerizer().destroy(&ContainerId(name.into())).unwrap();
            host.wait(name).await;
        }
        host.finish().await;
    });
}

/// Over 20 periods of the quota. A busy machine can only make it less.
async fn measure_cpu(host: &Host, quota: f64) {
    let id = ContainerId("c".into());
    let usage = || host.containerizer().usage(&id).unwrap();
    // What was saved up before the quota changed is used up after two periods.
    let settled = usage().cpu_periods.unwrap() + 2;
    until(
        || (usage().cpu_periods.unwrap() >= settled).then_some(()),
        "the quota settles",
    )
    .await;
    let (start, before) = (Instant::now(), usage());
    let end = before.cpu_periods.unwrap() + 20;
    let after = until(
        || Some(usage()).filter(|usage| usage.cpu_periods.unwrap() >= end),
        "periods pass",
    )
    .await;
    let used = (after.cpu_usec.unwrap() - before.cpu_usec.unwrap()) as f64 / 1e6;
    let share = used / start.elapsed().as_secs_f64();
    eprintln!("quota {quota}: used {share:.3} of a CPU");
    assert!(share > 0.0 && share < quota * 1.2, "quota {quota}, used {share}");
    assert!(after.cpu_user_usec.is_some() && after.cpu_system_usec.is_some());
}

#[test]
fn running_out_of_memory_ends_the_whole_container_and_is_told() {
    on_host("memory", async |host| {
        let script = format!("sleep 1000 & {} & wait; sleep 1000; :", host.payload("c", "memory"));
        let mut spec = host.shell("c", &script);
        spec.resources.memory_bytes = 48 << 20;
        let exit = host.run(&spec).await;
        let oom = exit.oom.unwrap_or_else(|| panic!("{exit:?}: {}", host.output("c")));
        assert_eq!(oom.limit_bytes, 48 << 20);
        assert!(oom.used_bytes > 40 << 20 && oom.used_bytes <= 48 << 20, "{oom:?}");
        assert_eq!((exit.code, exit.signal), (None, Some(9)));
        host.finish().await;
    });
}

#[test]
fn the_memory_limit_can_be_changed() {
    on_host("memory update", async |host| {
        let spec = host.program("c", &["sleep", "1000"]);
        host.launch(&spec).await;
        let limit = || host.containerizer().usage(&spec.id).unwrap().memory_limit_bytes;
        assert_eq!(limit(), Some(256 << 20));
        for memory_limit in [Limit::At(512 << 20), Limit::At(64 << 20)] {
            let resources = Resources {
                memory_limit,
                ..spec.resources.clone()
            };
            host.containerizer().update(&spec.id, &resources).await.unwrap();
            assert_eq!(Some(memory_limit), limit().map(Limit::At));
        }
        host.containerizer().destroy(&spec.id).unwrap();
        host.finish().await;
    });
}

#[test]
fn a_fork_bomb_is_contained() {
    on_host("pids", async |host| {
        let mut spec = host.shell("c", "for n in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo all of them");
        spec.resources.pids_max = Some(5);
        let exit = host.run(&spec).await;
        assert!(
            exit.code != Some(0) && !host.output("c").contains("all of them"),
            "{exit:?} {}",
            host.output("c")
        );
        host.finish().await;
    });
}

#[test]
fn tmp_dev_and_the_processes_are_its_own() {
    on_host("filesystem", async |host| {
        let secret = std::env::temp_dir().join(format!("proffer-test-secret-{}", std::process::id()));
        std::fs::write(&secret, "secret").unwrap();
        let script = format!(
            "[ -e {} ] && echo sees the host; echo x > /tmp/x && echo writes; ls -d /proc/[0-9]*; \
             echo pid $$; ls /dev; echo y > /dev/null && echo z > /dev/shm/z && head -c 3 /dev/zero | wc -c; \
             echo w > /dev/w; echo v > {}/v && cat v",
            secret.display(),
            host.sandbox("c").display(),
        );
        let exit = host.run(&host.shell("c", &script)).await;
        std::fs::remove_file(&secret).unwrap();
        let output = host.output("c");
        assert_eq!(exit.code, Some(0), "{output}");
        assert!(
            !output.contains("sees the host") && output.contains("writes"),
            "{output}"
        );
        assert!(
            output.contains("/proc/1\n/proc/2\n") && output.contains("pid 2\n"),
            "{output}"
        );
        assert!(
            output.contains("urandom") && !output.contains("vda") && !output.contains("kmsg"),
            "{output}"
        );
        assert!(output.contains("\n3\n") && output.contains("v\n"), "{output}");
        assert!(output.contains("/dev/w"), "the shell complains: {output}");
        assert!(!std::path::Path::new("/dev/shm/z").exists() && !std::path::Path::new("/tmp/x").exists());
        host.finish().await;
    });
}

#[test]
fn nobody_has_a_capability_and_groups_are_the_given_ones() {
    on_host("capabilities", async |host| {
        for (id, uid) in [("nobody", UID), ("root", 0)] {
            let mut spec = host.shell(id, "cat /proc/self/status; umask");
            spec.user.uid = uid;
            spec.user.gid = 7;
            spec.user.groups = vec![7, 70_000, 12];
            spec.root_allowed = true;
            std::os::unix::fs::chown(host.sandbox(id), Some(uid), Some(7)).unwrap();
            assert_eq!(host.run(&spec).await.code, Some(0));
            let output = host.output(id);
            let field = |name: &str| -> Vec<&str> {
                let line = output
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .unwrap_or_default();
                line.split_whitespace().collect()
            };
            for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
                assert_eq!(field(set), ["0000000000000000"], "{id} {set}");
            }
            assert_eq!(field("NoNewPrivs:"), ["1"]);
            assert_eq!(field("Uid:"), vec![uid.to_string(); 4]);
            assert_eq!(field("Gid:"), ["7"; 4]);
            assert_eq!(field("Groups:"), ["7", "12", "70000"]);
            assert_eq!(
                (field("SigBlk:"), field("SigIgn:")),
                (vec!["0000000000000000"], vec!["0000000000000000"])
            );
            assert!(output.ends_with("0022\n"), "{output}");
        }
        host.finish().await;
    });
}

#[test]
fn not_even_root_in_a_container_writes_control_files() {
    on_host("control files", async |host| {
        let roots: Vec<_> = host
            .cgroup_roots()
            .iter()
            .map(|root| root.display().to_string())
            .collect();
        let script = format!(
            "for root in {}; do mkdir $root/new && echo made; echo 2 > $root/c/cgroup.procs && echo moved; \
             echo 9999 > $root/c/pids.max && echo raised; [ -e $root/c/cgroup.procs ] && echo seen; done; \
             echo x > /proc/sys/kernel/core_pattern && echo pattern; echo x > /proc/sysrq-trigger && echo trigger; \
             mount -t tmpfs x /mnt && echo mounted; mknod /tmp/n b 8 0 && echo device; \
             cat /proc/1/environ > /dev/null && echo supervisor; kill -9 1; echo end",
            roots.join(" ")
        );
        let mut spec = host.shell("c", &script);
        (spec.user.uid, spec.user.gid, spec.root_allowed) = (0, 0, true);
        std::os::unix::fs::chown(host.sandbox("c"), Some(0), Some(0)).unwrap();
        assert_eq!(host.run(&spec).await.code, Some(0));
        let out = std::fs::read_to_string(host.sandbox("c").join("stdout")).unwrap();
        assert_eq!(out, "seen\n".repeat(roots.len()) + "end\n", "{}", host.output("c"));
        host.finish().await;
    });
}
