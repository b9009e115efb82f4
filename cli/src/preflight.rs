//! Whether this machine can isolate containers, and if not, exactly what is missing and how to get it.

use std::path::{Path, PathBuf};

/// One thing that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What.
    pub what: String,
    /// How to get it.
    pub remedy: String,
}

/// The controllers without which an agent cannot isolate.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// Looks at the user, the cgroup mounts and the kernel.
pub fn check() -> Vec<Missing> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push(Missing {
            what: format!(
                "root: this process runs as user id {}",
                rustix::process::geteuid().as_raw()
            ),
            remedy: "run it with sudo; agents create cgroups, namespaces and BPF programs".to_owned(),
        });
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    missing.extend(check_cgroups(&mounts, |directory| {
        std::fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default()
    }));
    missing
}

/// Looks for the controllers in v1 hierarchies and in the unified one, and for the unified tree itself.
fn check_cgroups(mounts: &str, controllers_of: impl Fn(&Path) -> String) -> Vec<Missing> {
    let mut found: Vec<String> = Vec::new();
    let mut unified = None;
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, directory, kind, options, ..] = fields[..] else {
            continue;
        };
        match kind {
            "cgroup" => found.extend(options.split(',').map(str::to_owned)),
            "cgroup2" => unified = Some(PathBuf::from(directory)),
            _ => {}
        }
    }
    let mut missing = Vec::new();
    match unified {
        None => missing.push(Missing {
            what: "the cgroup v2 tree is not mounted".to_owned(),
            remedy: "mount it: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified \
                     (in a Docker container: run with --privileged --cgroupns=host)"
                .to_owned(),
        }),
        Some(directory) => found.extend(controllers_of(&directory).split_whitespace().map(str::to_owned)),
    }
    for controller in CONTROLLERS {
        if !found.iter().any(|name| name == controller) {
            missing.push(Missing {
                what: format!("the cgroup controller `{controller}` is neither in a v1 hierarchy nor in the v2 tree"),
                remedy: format!(
                    "boot with the controller enabled (for memory on some boards: cgroup_enable=memory), or delegate it: \
                     echo +{controller} > cgroup.subtree_control of the parent"
                ),
            });
        }
    }
    missing
}

/// One line a missing thing.
pub fn describe(missing: &[Missing]) -> String {
    missing
        .iter()
        .map(|item| format!("\n  missing: {}\n  how to get it: {}", item.what, item.remedy))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0\n\
                          cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n\
                          cgroup /sys/fs/cgroup/pids cgroup rw,relatime,pids 0 0\n\
                          cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";

    #[test]
    fn a_hybrid_host_lacks_nothing() {
        assert_eq!(check_cgroups(HYBRID, |_| String::new()), vec![]);
    }

    #[test]
    fn a_pure_v2_host_lacks_nothing() {
        let mounts = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        assert_eq!(
            check_cgroups(mounts, |_| "cpuset cpu io memory pids".to_owned()),
            vec![]
        );
    }

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let missing = check_cgroups("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", |_| "cpu pids".to_owned());
        assert_eq!(missing.len(), 1);
        assert!(missing[0].what.contains("`memory`"), "{missing:?}");
        assert_eq!(check_cgroups("", |_| String::new()).len(), 4);
    }
}
