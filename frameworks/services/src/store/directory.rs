//! A directory of this host keeps it.
//!
//! ```text
//! <state-dir>/
//!   lock                  held by the one process that may use the directory
//!   framework-id
//!   services/<id>.json    {"version": 3, "spec": {...}, "history": [...], ...}: its versions
//!   homes/<id>.json       where the persistent volumes of an instance lie
//!   tasks.log             one JSON object a line: {"launch": {...}} or {"forget": "<task id>"}
//! ```
//!
//! A launch is on disk before its ACCEPT is sent, so that no process launches an instance of which an earlier one has a
//! task. A line that is lost after the end of a task does no harm: reconciliation tells of the end again.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::plan::Launch;
use crate::plan::homes::Home;
use crate::versions::Versions;

use super::{Recovered, StoreError};

/// The log is written anew when it has so many lines that say nothing any more.
const STALE_LINES_MAX: usize = 4_096;

/// The state directory of a running scheduler.
#[derive(Debug)]
pub struct Directory {
    directory: PathBuf,
    log: File,
    /// The launches in the log that were not forgotten, by their order.
    live: BTreeMap<u64, Launch>,
    order: HashMap<String, u64>,
    next: u64,
    lines: usize,
    _lock: File,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Launch(std::borrow::Cow<'a, Launch>),
    Forget(String),
}

impl Directory {
    /// Opens the directory, and makes it where it is missing.
    pub fn open(directory: &Path) -> Result<(Self, Recovered), StoreError> {
        let services = directory.join("services");
        fs::create_dir_all(&services).map_err(failed("create the directory", &services))?;
        let homes = directory.join("homes");
        fs::create_dir_all(&homes).map_err(failed("create the directory", &homes))?;
        let lock = lock(directory)?;
        let launches = read_log(&directory.join("tasks.log"))?;
        let recovered = Recovered {
            framework_id: read_framework_id(&directory.join("framework-id"))?,
            services: read_services(&services)?,
            homes: read_homes(&homes)?,
            launches: launches.clone(),
        };
        let path = directory.join("tasks.log");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(failed("open", &path))?;
        let mut store = Self {
            directory: directory.to_owned(),
            log,
            live: BTreeMap::new(),
            order: HashMap::new(),
            next: 0,
            lines: 0,
            _lock: lock,
        };
        for launch in launches {
            store.remember(launch);
        }
        store.compact()?;
        Ok((store, recovered))
    }

    /// Keeps the id of the framework.
    pub(super) fn keep_framework_id(&self, id: &str) -> Result<(), StoreError> {
        write_whole(&self.directory.join("framework-id"), id.as_bytes())
    }

    /// Keeps the versions of a service.
    pub(super) fn keep_service(&self, versions: &Versions) -> Result<(), StoreError> {
        let path = self.service_path(&versions.current.spec.id);
        let text = serde_json::to_vec_pretty(versions).map_err(|error| failed("encode", &path)(error.into()))?;
        write_whole(&path, &text)
    }

    /// Drops a specification.
    pub(super) fn drop_service(&self, id: &str) -> Result<(), StoreError> {
        remove(&self.service_path(id))
    }

    /// Keeps where persistent volumes lie.
    pub(super) fn keep_home(&self, home: &Home) -> Result<(), StoreError> {
        let path = self.home_path(&home.id);
        let text = serde_json::to_vec_pretty(home).map_err(|error| failed("encode", &path)(error.into()))?;
        write_whole(&path, &text)
    }

    /// Drops what is known of persistent volumes that are no more.
    pub(super) fn drop_home(&self, id: &str) -> Result<(), StoreError> {
        remove(&self.home_path(id))
    }

    /// Keeps launches; when it returns they are on disk.
    pub(super) fn launching(&mut self, launches: &[Launch]) -> Result<(), StoreError> {
        let mut lines = Vec::new();
        for launch in launches {
            push_line(&mut lines, &Line::Launch(std::borrow::Cow::Borrowed(launch)));
        }
        self.append(&lines)?;
        self.log
            .sync_data()
            .map_err(failed("write to disk", &self.log_path()))?;
        for launch in launches {
            self.remember(launch.clone());
        }
        Ok(())
    }

    /// Drops a task that has ended.
    pub(super) fn forget(&mut self, task_id: &str) -> Result<(), StoreError> {
        let Some(order) = self.order.remove(task_id) else {
            return Ok(());
        };
        self.live.remove(&order);
        let mut line = Vec::new();
        push_line(&mut line, &Line::Forget(task_id.to_owned()));
        self.append(&line)?;
        self.lines += 1;
        if self.lines.saturating_sub(self.live.len()) > STALE_LINES_MAX {
            self.compact()?;
        }
        Ok(())
    }

    fn remember(&mut self, launch: Launch) {
        self.order.insert(launch.task_id.clone(), self.next);
        self.live.insert(self.next, launch);
        self.next += 1;
        self.lines += 1;
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), StoreError> {
        self.log.write_all(lines).map_err(failed("append to", &self.log_path()))
    }

    /// Writes the log anew with what still says something.
    fn compact(&mut self) -> Result<(), StoreError> {
        let path = self.log_path();
        let mut lines = Vec::new();
        for launch in self.live.values() {
            push_line(&mut lines, &Line::Launch(std::borrow::Cow::Borrowed(launch)));
        }
        write_whole(&path, &lines)?;
        self.log = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(failed("open", &path))?;
        self.lines = self.live.len();
        Ok(())
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("tasks.log")
    }

    fn home_path(&self, id: &str) -> PathBuf {
        self.directory.join("homes").join(format!("{id}.json"))
    }

    fn service_path(&self, id: &str) -> PathBuf {
        self.directory.join("services").join(format!("{id}.json"))
    }
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::Locked(directory.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
    }
}

fn read_framework_id(path: &Path) -> Result<Option<String>, StoreError> {
    match fs::read_to_string(path) {
        Ok(id) => Ok(Some(id.trim().to_owned()).filter(|id| !id.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn read_services(directory: &Path) -> Result<Vec<Versions>, StoreError> {
    let mut services: Vec<Versions> = read_all(directory)?;
    for versions in &mut services {
        // What was written before there were two numbers.
        if versions.current.instance_version == 0 {
            versions.current.instance_version = versions.current.version;
        }
    }
    services.sort_by(|a, b| a.current.spec.id.cmp(&b.current.spec.id));
    Ok(services)
}

fn read_homes(directory: &Path) -> Result<Vec<Home>, StoreError> {
    read_all(directory)
}

/// What the JSON files of a directory say.
fn read_all<T: DeserializeOwned>(directory: &Path) -> Result<Vec<T>, StoreError> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed("read the directory", directory))? {
        let path = entry.map_err(failed("read the directory", directory))?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read(&path).map_err(failed("read", &path))?;
        let one = serde_json::from_slice(&text).map_err(|error| StoreError::Corrupt {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        all.push(one);
    }
    Ok(all)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => sync_directory(path),
    }
}

/// The launches that were not forgotten. A last line without its end was never acted on.
fn read_log(path: &Path) -> Result<Vec<Launch>, StoreError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut launches: BTreeMap<usize, Launch> = BTreeMap::new();
    let mut order = HashMap::new();
    for (number, line) in text[..whole]
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
    {
        let line = serde_json::from_slice(line).map_err(|error| StoreError::Corrupt {
            path: path.to_owned(),
            reason: format!("line {}: {error}", number + 1),
        })?;
        match line {
            Line::Launch(launch) => {
                order.insert(launch.task_id.clone(), number);
                launches.insert(number, launch.into_owned());
            }
            Line::Forget(task_id) => {
                order.remove(&task_id).and_then(|number| launches.remove(&number));
            }
        }
    }
    Ok(launches.into_values().collect())
}

fn push_line(lines: &mut Vec<u8>, line: &Line<'_>) {
    serde_json::to_writer(&mut *lines, line).expect("a line has only text and numbers in it");
    lines.push(b'\n');
}

/// Replaces a file in one step that a power loss does not undo.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = path.with_extension("tmp");
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(failed("write", &temporary))?;
    fs::rename(&temporary, path).map_err(failed("replace", path))?;
    sync_directory(path)
}

fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let parent = path.parent().unwrap_or(path);
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("write to disk", parent))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::InstanceId;

    fn launch(task_id: &str) -> Launch {
        Launch {
            task_id: task_id.to_owned(),
            instance: InstanceId::of_task(task_id).unwrap(),
            version: 1,
            machine: crate::placement::Machine {
                agent_id: "a1".to_owned(),
                hostname: "h1".to_owned(),
                ..Default::default()
            },
            gates: Default::default(),
            ports: Vec::new(),
        }
    }

    fn first(id: &str, version: u64) -> Versions {
        Versions::first(crate::spec::ServiceSpec::command(id, "serve"), version, 0)
    }

    fn task_ids(recovered: &Recovered) -> Vec<&str> {
        recovered
            .launches
            .iter()
            .map(|launch| launch.task_id.as_str())
            .collect()
    }

    #[test]
    fn everything_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, empty) = Directory::open(directory.path()).unwrap();
        assert!(empty.framework_id.is_none() && empty.services.is_empty() && empty.launches.is_empty());
        store.keep_framework_id("f1").unwrap();
        store.keep_service(&first("web", 7)).unwrap();
        store.keep_service(&first("old", 8)).unwrap();
        store.drop_service("old").unwrap();
        store.drop_service("never").unwrap();
        store
            .launching(&[launch("web.0.b"), launch("web.1.a"), launch("web.2.c")])
            .unwrap();
        store.forget("web.1.a").unwrap();
        store.forget("web.9.z").unwrap();
        drop(store);
        for _ in 0..2 {
            let (_, recovered) = Directory::open(directory.path()).unwrap();
            assert_eq!(recovered.framework_id.as_deref(), Some("f1"));
            assert_eq!(recovered.services, [first("web", 7)]);
            assert_eq!(task_ids(&recovered), ["web.0.b", "web.2.c"]);
        }
    }

    #[test]
    fn a_torn_last_line_is_left_out_and_a_broken_one_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tasks.log");
        let (mut store, _) = Directory::open(directory.path()).unwrap();
        store.launching(&[launch("web.0.a")]).unwrap();
        drop(store);
        let mut text = fs::read(&path).unwrap();
        text.extend(b"{\"launch\":{\"task_");
        fs::write(&path, &text).unwrap();
        let (store, recovered) = Directory::open(directory.path()).unwrap();
        assert_eq!(task_ids(&recovered), ["web.0.a"]);
        drop(store);
        fs::write(&path, "{}\n{\n").unwrap();
        let error = Directory::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("tasks.log") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn the_log_does_not_grow_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, _) = Directory::open(directory.path()).unwrap();
        store.remember(launch("web.0.kept"));
        for number in 0..STALE_LINES_MAX {
            let task_id = format!("web.1.{number}");
            store.remember(launch(&task_id));
            store.forget(&task_id).unwrap();
        }
        assert!(store.lines < STALE_LINES_MAX);
        assert_eq!(
            task_ids(&Recovered {
                launches: read_log(&store.log_path()).unwrap(),
                ..Recovered::default()
            }),
            ["web.0.kept"]
        );
    }

    #[test]
    fn a_directory_has_one_process() {
        let directory = tempfile::tempdir().unwrap();
        let _first = Directory::open(directory.path()).unwrap();
        assert!(matches!(Directory::open(directory.path()), Err(StoreError::Locked(_))));
    }
}
