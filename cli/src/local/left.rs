//! What a cluster should not have left behind.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// The control groups whose names begin with `prefix`, in every hierarchy.
pub fn cgroups_left(prefix: &str) -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let hierarchies: BTreeSet<&str> = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let directory = fields.next()?;
            fields.next()?.starts_with("cgroup").then_some(directory)
        })
        .collect();
    let groups = hierarchies
        .into_iter()
        .flat_map(|hierarchy| std::fs::read_dir(hierarchy).into_iter().flatten().flatten());
    groups
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect()
}
