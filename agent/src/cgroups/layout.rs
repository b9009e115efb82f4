//! Finds the hierarchies of this host and opens those that are wanted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::gauges::Gauges;
use super::moves::CheapMoves;
use super::{Controller, Cpu, Error, Hierarchy, Io, Memory, Pids, Unified, Version};
use crate::containerizer::{ContainerId, Usage};

/// The mounted hierarchies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounted {
    /// Version 1: controller and mount point.
    pub v1: Vec<(String, PathBuf)>,
    /// The unified tree.
    pub v2: Option<PathBuf>,
}

impl Mounted {
    /// Whether the host has a controller, in either version.
    pub fn has(&self, controller: &str) -> bool {
        let file = self.v2.as_ref().map(|mount| mount.join("cgroup.controllers"));
        let listed = file
            .and_then(|file| std::fs::read_to_string(file).ok())
            .unwrap_or_default();
        self.v1(controller).is_some() || listed.split_whitespace().any(|name| name == controller)
    }

    fn v1(&self, controller: &str) -> Option<&Path> {
        let controller = if controller == "io" { "blkio" } else { controller };
        self.v1
            .iter()
            .find(|(name, _)| name == controller)
            .map(|(_, path)| path.as_path())
    }
}

/// Reads `/proc/self/mountinfo` (proc(5)); of several mounts of the same hierarchy the first that shows its root counts.
pub fn parse_mounts(mountinfo: &str) -> Mounted {
    let mut mounted = Mounted::default();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let (mut before, mut after) = (before.split(' ').skip(3), after.split(' '));
        let (Some(root), Some(point)) = (before.next(), before.next()) else {
            continue;
        };
        let (Some(kind), Some(options)) = (after.next(), after.nth(1)) else {
            continue;
        };
        if root != "/" {
            continue;
        }
        let point = PathBuf::from(point.replace("\\040", " "));
        match kind {
            "cgroup2" if mounted.v2.is_none() => mounted.v2 = Some(point),
            "cgroup" => {
                for name in options
                    .split(',')
                    .filter(|name| matches!(*name, "cpu" | "memory" | "pids" | "blkio"))
                {
                    if mounted.v1(name).is_none() {
                        mounted.v1.push((name.to_owned(), point.clone()));
                    }
                }
            }
            _ => {}
        }
    }
    mounted
}

/// The hierarchies that the containers use.
#[derive(Debug)]
pub struct Cgroups {
    /// Quota and weight, when wanted.
    pub cpu: Option<Arc<Cpu>>,
    /// The memory limit, when wanted.
    pub memory: Option<Arc<Memory>>,
    /// The limit of processes, when wanted.
    pub pids: Option<Arc<Pids>>,
    /// Disk input and output, when wanted.
    pub io: Option<Arc<Io>>,
    /// The unified tree, wherever there is one.
    pub unified: Option<Arc<Unified>>,
    /// Every hierarchy once.
    all: Vec<Arc<Hierarchy>>,
    gauges: Gauges,
    _cheap_moves: Option<CheapMoves>,
}

impl Cgroups {
    /// Opens what `wanted` names (of `cpu`, `memory`, `pids`, `io`) below `root`. A controller that the host lacks is an error.
    pub fn open(mounted: &Mounted, root: &str, wanted: &[&'static str]) -> Result<Self, Error> {
        let mut all: Vec<Arc<Hierarchy>> = Vec::new();
        let from_v2: Vec<_> = wanted
            .iter()
            .copied()
            .filter(|name| mounted.v1(name).is_none())
            .collect();
        let unified = match &mounted.v2 {
            Some(mount) => {
                check_available(mount, &from_v2)?;
                Some(Arc::new(Hierarchy::open(Version::V2, mount, root, &from_v2)?))
            }
            None => None,
        };
        all.extend(unified.clone());
        let mut by_mount: Vec<(&Path, Arc<Hierarchy>)> = Vec::new();
        let mut controller = |name: &'static str| -> Result<Option<Arc<Hierarchy>>, Error> {
            if !wanted.contains(&name) {
                return Ok(None);
            }
            let Some(mount) = mounted.v1(name) else {
                let reason =
                    "neither a version 1 hierarchy nor cgroup2 is mounted; mount cgroup2 on /sys/fs/cgroup".into();
                return unified.clone().map(Some).ok_or(Error::Missing { what: name, reason });
            };
            if let Some((_, opened)) = by_mount.iter().find(|(path, _)| *path == mount) {
                return Ok(Some(opened.clone()));
            }
            let opened = Arc::new(Hierarchy::open(Version::V1, mount, root, &[])?);
            by_mount.push((mount, opened.clone()));
            all.push(opened.clone());
            Ok(Some(opened))
        };
        let cpu = controller("cpu")?.map(|hierarchy| Arc::new(Cpu::new(hierarchy)));
        let memory = controller("memory")?.map(|hierarchy| Arc::new(Memory::new(hierarchy)));
        let pids = controller("pids")?.map(|hierarchy| Arc::new(Pids::new(hierarchy)));
        let io = controller("io")?.map(|hierarchy| Arc::new(Io::new(hierarchy)));
        let mut gauges = Vec::new();
        if let Some(hierarchy) = &unified {
            gauges.extend(Unified::gauges().iter().map(|gauge| (hierarchy.clone(), *gauge)));
        }
        let controllers: [Option<&dyn Controller>; 4] = [
            cpu.as_deref().map(|controller| controller as _),
            memory.as_deref().map(|controller| controller as _),
            pids.as_deref().map(|controller| controller as _),
            io.as_deref().map(|controller| controller as _),
        ];
        for controller in controllers.into_iter().flatten() {
            let own = controller.gauges().iter();
            gauges.extend(own.map(|gauge| (controller.hierarchy().clone(), *gauge)));
        }
        let unified = unified.map(|hierarchy| Arc::new(Unified::new(hierarchy)));
        let _cheap_moves = cheap_moves(&all);
        Ok(Cgroups {
            cpu,
            memory,
            pids,
            io,
            unified,
            all,
            gauges: Gauges::new(gauges),
            _cheap_moves,
        })
    }

    /// Every hierarchy in use, once.
    pub fn hierarchies(&self) -> &[Arc<Hierarchy>] {
        &self.all
    }

    /// Creates the container's directory in each hierarchy; all or none.
    pub fn create(&self, container: &ContainerId) -> Result<(), Error> {
        for (index, hierarchy) in self.all.iter().enumerate() {
            if let Err(error) = hierarchy.create(container) {
                for created in &self.all[..index] {
                    let _ = created.remove(container);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Adds what a container uses now.
    pub fn usage(&self, container: &ContainerId, usage: &mut Usage) -> Result<(), Error> {
        self.gauges.read(container, usage)
    }

    /// Creates the directories of a pod, for the containers in it; those that exist are no error.
    pub fn create_pod(&self, pod: &ContainerId) -> Result<(), Error> {
        self.all.iter().try_for_each(|hierarchy| hierarchy.create_pod(pod))
    }

    /// Removes the container's directories once its processes have ended.
    pub fn remove(&self, container: &ContainerId) -> Result<(), Error> {
        self.gauges.forget(container);
        self.all.iter().try_for_each(|hierarchy| hierarchy.remove(container))
    }

    /// Kills every process in the container's cgroups.
    pub fn kill(&self, container: &ContainerId) -> Result<(), Error> {
        if let Some(unified) = &self.unified
            && unified.kill(container)?
        {
            return Ok(());
        }
        for hierarchy in &self.all {
            for pid in hierarchy.processes(container).unwrap_or_default() {
                if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
        }
        Ok(())
    }

    /// Every container that has a directory somewhere.
    pub fn containers(&self) -> Result<Vec<ContainerId>, Error> {
        let mut found = Vec::new();
        for hierarchy in &self.all {
            found.extend(hierarchy.containers()?);
        }
        found.sort();
        found.dedup();
        Ok(found)
    }
}

fn cheap_moves(hierarchies: &[Arc<Hierarchy>]) -> Option<CheapMoves> {
    if hierarchies.iter().all(|hierarchy| hierarchy.version == Version::V2) {
        return None;
    }
    match CheapMoves::new() {
        Ok(moves) => Some(moves),
        Err(error) => {
            tracing::info!(%error, "the kernel has no favordynmods: a launch after a pause takes some milliseconds more");
            None
        }
    }
}

fn check_available(mount: &Path, wanted: &[&'static str]) -> Result<(), Error> {
    let file = mount.join("cgroup.controllers");
    let available = std::fs::read_to_string(&file).unwrap_or_default();
    for name in wanted {
        if !available.split_whitespace().any(|have| have == *name) {
            let reason = format!(
                "the controller is missing in {} and has no version 1 hierarchy",
                file.display()
            );
            return Err(Error::Missing { what: name, reason });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_hosts_have_both() {
        let mounted = parse_mounts(
            "30 25 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755\n\
             31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
             32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
             33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             34 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
             35 30 0:29 /docker/x /mnt rw - cgroup cgroup rw,memory\n",
        );
        assert_eq!(mounted.v1("cpu"), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(mounted.v1("memory"), Some(Path::new("/sys/fs/cgroup/memory")));
        assert_eq!(mounted.v1("pids"), None);
        assert_eq!(mounted.v2.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
    }

    #[test]
    fn lines_that_make_no_sense_are_passed_over() {
        assert_eq!(
            parse_mounts("\nx\n1 2 3 - cgroup2\n - \n1 2 0:3 / /a rw - cgroup2"),
            Mounted::default()
        );
    }
}
