//! A host with version 1 hierarchies only, on which cgroup2 is mounted nowhere.

use std::process::Command;

use proffer_agent::cgroups;

/// What needs the unified tree.
const TESTS: [&str; 4] = [
    "devices::what_is_always_there_works_and_nothing_else",
    "isolation::running_out_of_memory_ends_the_whole_container_and_is_told",
    "ports::a_port_outside_the_ranges_is_denied_on_every_kind_of_socket",
    "usage::all_that_a_container_uses_is_counted_also_after_a_restart_of_the_agent",
];
const CHILD: &str = "PROFFER_TEST_LEGACY";

#[test]
fn a_host_without_cgroup2_is_given_it() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounted = cgroups::parse_mounts(&mounts);
    let (false, Some(unified)) = (mounted.v1.is_empty(), mounted.v2) else {
        eprintln!("skipped: a host without cgroup2: this one has no version 1 hierarchies, or no cgroup2");
        return;
    };
    if !rustix::process::geteuid().is_root() || std::env::var_os(CHILD).is_some() {
        eprintln!("skipped: a host without cgroup2: not root");
        return;
    }
    // In a mount namespace of its own, to which unshare(1) lets nothing come and from which it lets nothing go.
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", "umount \"$0\" && exec \"$@\""])
        .arg(unified)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--test-threads=2"])
        .args(TESTS)
        .env(CHILD, "1")
        .output()
        .unwrap();
    // Mounted there in that namespace only.
    let _ = std::fs::remove_dir("/run/proffer/cgroup2");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains(&format!("ok. {} passed", TESTS.len())), "{text}");
    assert!(!text.contains("skipped"), "{text}");
}
