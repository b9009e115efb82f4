//! Who holds which device, in memory and in a file a container: it must outlive the agent, but not the machine.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::containerizer::{ContainerId, DeviceUnit};
use crate::isolators::Error;

/// How long a launch waits for the devices of a container that has just ended: its end is told before its traces are removed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The devices, and who holds them.
#[derive(Debug)]
pub(super) struct Holdings {
    directory: PathBuf,
    units: Vec<DeviceUnit>,
    held: Mutex<HashMap<ContainerId, Vec<DeviceUnit>>>,
    released: Condvar,
}

impl Holdings {
    /// Reads what containers of a former agent hold.
    pub(super) fn open(directory: &Path, units: &[DeviceUnit]) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut held = HashMap::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            let lines = fs::read_to_string(entry.path())?;
            held.insert(ContainerId(name), lines.lines().filter_map(parse).collect());
        }
        Ok(Holdings {
            directory: directory.to_owned(),
            units: units.to_vec(),
            held: Mutex::new(held),
            released: Condvar::new(),
        })
    }

    /// The containers that hold something.
    pub(super) fn containers(&self) -> Vec<ContainerId> {
        self.held().keys().cloned().collect()
    }

    /// What a container holds.
    pub(super) fn of(&self, container: &ContainerId) -> Vec<DeviceUnit> {
        self.held().get(container).cloned().unwrap_or_default()
    }

    /// Gives a container as many of each as `wanted` says, and keeps of what it has as much as fits. Written down before it returns.
    pub(super) fn set(
        &self,
        container: &ContainerId,
        wanted: &BTreeMap<String, u64>,
    ) -> Result<Vec<DeviceUnit>, Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut held = self.held();
        let units = loop {
            match choose(&self.units, &held, container, wanted) {
                Ok(units) => break units,
                Err(reason) => {
                    let now = Instant::now();
                    if now >= deadline {
                        return Err(Error::Rejected {
                            field: "devices",
                            reason,
                        });
                    }
                    let waited = self.released.wait_timeout(held, deadline - now);
                    held = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        };
        let unchanged = held
            .get(container)
            .map_or(units.is_empty(), |present| *present == units);
        if unchanged {
            return Ok(units);
        }
        self.write(container, &units).map_err(|source| Error::System {
            attempted: "write down who holds which device".into(),
            source,
        })?;
        held.insert(container.clone(), units.clone());
        self.released.notify_all();
        Ok(units)
    }

    /// Takes all from a container.
    pub(super) fn release(&self, container: &ContainerId) {
        let mut held = self.held();
        if held.remove(container).is_some() {
            if let Err(error) = fs::remove_file(self.directory.join(container.as_str())) {
                tracing::warn!(container_id = %container, %error, "the record of its devices cannot be removed");
            }
            self.released.notify_all();
        }
    }

    fn write(&self, container: &ContainerId, units: &[DeviceUnit]) -> io::Result<()> {
        let lines: String = units.iter().map(|unit| format!("{unit}\n")).collect();
        let temporary = self.directory.join(format!(".{container}"));
        fs::write(&temporary, lines)?;
        fs::rename(temporary, self.directory.join(container.as_str()))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<ContainerId, Vec<DeviceUnit>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn choose(
    units: &[DeviceUnit],
    held: &HashMap<ContainerId, Vec<DeviceUnit>>,
    container: &ContainerId,
    wanted: &BTreeMap<String, u64>,
) -> Result<Vec<DeviceUnit>, String> {
    let own = held.get(container).map_or(&[][..], Vec::as_slice);
    let mut chosen = Vec::new();
    for (resource, count) in wanted {
        let free = units
            .iter()
            .filter(|unit| !held.values().flatten().any(|taken| taken == *unit));
        let candidates = own.iter().chain(free).filter(|unit| unit.resource == *resource);
        let count = usize::try_from(*count).unwrap_or(usize::MAX);
        let before = chosen.len();
        chosen.extend(candidates.take(count).cloned());
        if chosen.len() - before < count {
            let found = chosen.len() - before;
            return Err(format!("{resource}: {count} wanted, {found} free"));
        }
    }
    Ok(chosen)
}

fn parse(line: &str) -> Option<DeviceUnit> {
    let (resource, nodes) = line.split_once('=')?;
    Some(DeviceUnit {
        resource: resource.to_owned(),
        nodes: nodes.split('+').map(PathBuf::from).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(resource: &str, node: &str) -> DeviceUnit {
        DeviceUnit {
            resource: resource.into(),
            nodes: vec![node.into(), "/dev/shared".into()],
        }
    }

    fn wanted(count: u64) -> BTreeMap<String, u64> {
        BTreeMap::from([("gpus".to_owned(), count)])
    }

    #[test]
    fn a_device_has_one_holder_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let units = [
            unit("gpus", "/dev/a"),
            unit("tpus", "/dev/t"),
            unit("gpus", "/dev/b"),
            unit("gpus", "/dev/c"),
        ];
        let (first, second) = (ContainerId("first".into()), ContainerId("second".into()));
        let holdings = Holdings::open(directory.path(), &units).unwrap();
        assert_eq!(holdings.set(&first, &BTreeMap::new()).unwrap(), []);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "most hold nothing");
        assert_eq!(
            holdings.set(&first, &wanted(2)).unwrap(),
            [units[0].clone(), units[2].clone()]
        );
        assert_eq!(holdings.set(&second, &wanted(1)).unwrap(), [units[3].clone()]);
        let holdings = Holdings::open(directory.path(), &units).unwrap();
        assert_eq!(holdings.of(&first), [units[0].clone(), units[2].clone()]);
        assert_eq!(
            holdings.set(&first, &wanted(1)).unwrap(),
            [units[0].clone()],
            "it keeps what it has"
        );
        assert_eq!(
            holdings.set(&second, &wanted(2)).unwrap(),
            [units[3].clone(), units[2].clone()]
        );
        holdings.release(&first);
        assert_eq!(holdings.containers(), [second]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_launch_waits_for_devices_that_are_being_released() {
        let directory = tempfile::tempdir().unwrap();
        let holdings = Holdings::open(directory.path(), &[unit("gpus", "/dev/a")]).unwrap();
        let (first, second) = (ContainerId("first".into()), ContainerId("second".into()));
        holdings.set(&first, &wanted(1)).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| holdings.set(&second, &wanted(1)).map(|units| units.len()));
            holdings.release(&first);
            assert_eq!(waiting.join().unwrap().unwrap(), 1);
        });
    }
}
