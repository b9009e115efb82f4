//! Keeps downloads for other tasks.
//!
//! ```text
//! <work dir>/fetched/             0700
//!   <key>                         a download, under the SHA-256 of its URI and the checksum asked for
//!   <key>.json                    what is known of it; written after it, so that one without the other is known as torn
//!   .part-<number>                a download under way; removed at start
//! ```
//! Those who want the same at the same time share one download. What is in use is not removed; when room is needed, what was not
//! used for longest goes. The content is checked against its checksum whenever it is used, so a file that was damaged, or torn
//! by a power loss, is found and thrown away.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use super::checksum;
use super::download::{Downloaded, Version};

const PART_PREFIX: &str = ".part-";
const NOTE_SUFFIX: &str = ".json";
/// How often those who wait look whether they still have to.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The downloads that are kept.
#[derive(Debug)]
pub(super) struct Cache {
    directory: PathBuf,
    bytes_max: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    kept: HashMap<String, Kept>,
    under_way: HashMap<String, Arc<Flight>>,
    parts: u64,
}

#[derive(Debug)]
struct Kept {
    content: Arc<Content>,
    used: SystemTime,
}

/// A download that others wait for; none when whoever began it gave up.
#[derive(Debug, Default)]
struct Flight(OnceLock<Option<Result<Arc<Content>, String>>>);

/// A download; in use for as long as anybody else has it.
#[derive(Debug)]
pub(super) struct Content {
    path: PathBuf,
    pub(super) note: Note,
    /// Removed with its last user: there was no room for it.
    transient: bool,
}

/// What is known of a download.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Note {
    uri: String,
    pub(super) checksum: String,
    pub(super) bytes: u64,
    version: Version,
}

/// How often the cache helped, and what it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) bytes_max: u64,
}

impl Content {
    pub(super) fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        if self.transient {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Cache {
    /// Opens the directory, and keeps what is whole in it.
    pub(super) fn open(directory: &Path, bytes_max: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut state = State::default();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match name.strip_suffix(NOTE_SUFFIX) {
                Some(key) => match whole(&directory.join(key), &path) {
                    Some(kept) => drop(state.kept.insert(key.to_owned(), kept)),
                    None => drop(fs::remove_file(&path)),
                },
                None if name.starts_with(PART_PREFIX) || !note_of(&path).exists() => drop(fs::remove_file(&path)),
                None => {}
            }
        }
        // Those whose note was not whole.
        for entry in fs::read_dir(directory)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !state.kept.contains_key(name.strip_suffix(NOTE_SUFFIX).unwrap_or(&name)) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let cache = Cache {
            directory: directory.to_owned(),
            bytes_max,
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        cache.make_room(&mut cache.lock(), 0);
        Ok(cache)
    }

    /// The content of a URI, for as long as it is `wanted`. `fill` downloads it into a file, told of the version that is here, if
    /// there is one; it returns nothing when that is still the newest.
    pub(super) fn get(
        &self,
        uri: &str,
        checksum: Option<&str>,
        wanted: &dyn Fn() -> bool,
        fill: impl FnOnce(&mut File, Option<&Version>) -> Result<Option<Downloaded>, String>,
    ) -> Result<Arc<Content>, String> {
        let key = key(uri, checksum);
        let mut state = self.lock();
        while let Some(flight) = state.under_way.get(&key).cloned() {
            if let Some(result) = self.wait(state, &flight, wanted) {
                return result;
            }
            state = self.lock();
        }
        // With a checksum it cannot have become another.
        if checksum.is_some()
            && let Some(kept) = state.kept.get_mut(&key)
        {
            return Ok(kept.used());
        }
        let have = state.kept.get(&key).map(|kept| Arc::clone(&kept.content));
        let flight = Arc::new(Flight::default());
        state.under_way.insert(key.clone(), Arc::clone(&flight));
        state.parts += 1;
        let part = self.directory.join(format!("{PART_PREFIX}{}", state.parts));
        drop(state);

        let result = self.fill(uri, &key, &part, have.as_ref(), fill);
        if result.is_err() {
            let _ = fs::remove_file(&part);
        }
        let mut state = self.lock();
        let _ = flight.0.set((result.is_ok() || wanted()).then(|| result.clone()));
        state.under_way.remove(&key);
        self.changed.notify_all();
        result
    }

    /// Throws away what is damaged, or old.
    pub(super) fn discard(&self, content: &Content) {
        let mut state = self.lock();
        let key = state
            .kept
            .iter()
            .find(|(_, kept)| kept.content.path == content.path)
            .map(|(key, _)| key.clone());
        if let Some(key) = key.filter(|key| {
            state
                .kept
                .get(key)
                .is_some_and(|kept| kept.content.note == content.note)
        }) {
            self.remove(&mut state, &key);
        }
    }

    /// What is kept.
    pub(super) fn held(&self) -> Held {
        let state = self.lock();
        Held {
            entries: state.kept.len() as u64,
            bytes: state.bytes(),
            bytes_max: self.bytes_max,
        }
    }

    fn wait(
        &self,
        mut state: MutexGuard<'_, State>,
        flight: &Flight,
        wanted: &dyn Fn() -> bool,
    ) -> Option<Result<Arc<Content>, String>> {
        loop {
            if let Some(result) = flight.0.get() {
                return result.clone();
            }
            if !wanted() {
                return Some(Err("is not wanted any more".into()));
            }
            let waited = self.changed.wait_timeout(state, LOOK_INTERVAL);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn fill(
        &self,
        uri: &str,
        key: &str,
        part: &Path,
        have: Option<&Arc<Content>>,
        fill: impl FnOnce(&mut File, Option<&Version>) -> Result<Option<Downloaded>, String>,
    ) -> Result<Arc<Content>, String> {
        let failed = |error: io::Error| format!("cannot be kept in {}: {error}", self.directory.display());
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(part)
            .map_err(failed)?;
        let downloaded = fill(&mut file, have.map(|have| &have.note.version))?;
        let Some(downloaded) = downloaded else {
            let _ = fs::remove_file(part);
            let mut state = self.lock();
            return match state.kept.get_mut(key) {
                Some(kept) => Ok(kept.used()),
                // Removed meanwhile, but we still hold it.
                None => have
                    .cloned()
                    .ok_or_else(|| "the server says that nothing changed, but nothing is here".into()),
            };
        };
        let note = Note {
            uri: uri.to_owned(),
            checksum: downloaded.checksum.to_string(),
            bytes: downloaded.bytes,
            version: downloaded.version,
        };
        let mut state = self.lock();
        self.remove(&mut state, key);
        let transient = !self.make_room(&mut state, note.bytes);
        let content = |path: PathBuf| {
            Arc::new(Content {
                path,
                note: note.clone(),
                transient,
            })
        };
        if transient {
            return Ok(content(part.to_owned()));
        }
        let path = self.directory.join(key);
        fs::rename(part, &path).map_err(failed)?;
        let text = serde_json::to_vec(&note).map_err(|error| failed(error.into()))?;
        fs::write(note_of(&path), text).map_err(failed)?;
        let mut kept = Kept {
            content: content(path),
            used: SystemTime::now(),
        };
        let content = kept.used();
        state.kept.insert(key.to_owned(), kept);
        Ok(content)
    }

    /// Whether there is room for so many bytes, after what was not used for longest is gone.
    fn make_room(&self, state: &mut State, bytes: u64) -> bool {
        while state.bytes().saturating_add(bytes) > self.bytes_max {
            let unused = state
                .kept
                .iter()
                .filter(|(_, kept)| Arc::strong_count(&kept.content) == 1);
            let oldest = unused.min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
            match oldest.filter(|_| bytes <= self.bytes_max) {
                Some(key) => self.remove(state, &key),
                None => return false,
            }
        }
        true
    }

    fn remove(&self, state: &mut State, key: &str) {
        if let Some(kept) = state.kept.remove(key) {
            let path = &kept.content.path;
            // Whoever has it open reads on.
            let removed = fs::remove_file(note_of(path)).and_then(|()| fs::remove_file(path));
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "a kept download cannot be removed");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn bytes(&self) -> u64 {
        self.kept.values().map(|kept| kept.content.note.bytes).sum()
    }
}

impl Kept {
    /// The time of use is kept on disk, for the agent that comes after this one.
    fn used(&mut self) -> Arc<Content> {
        self.used = SystemTime::now();
        let touched = File::open(note_of(&self.content.path)).and_then(|note| note.set_modified(self.used));
        if let Err(error) = touched {
            tracing::debug!(%error, "the use of a kept download cannot be noted");
        }
        Arc::clone(&self.content)
    }
}

fn key(uri: &str, checksum: Option<&str>) -> String {
    let text = format!("{}\n{uri}", checksum.unwrap_or_default());
    let key = checksum::of(text.as_bytes()).to_string();
    key.rsplit(':').next().unwrap_or(&key).to_owned()
}

fn note_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(NOTE_SUFFIX);
    PathBuf::from(name)
}

fn whole(path: &Path, note_path: &Path) -> Option<Kept> {
    let note: Note = serde_json::from_slice(&fs::read(note_path).ok()?).ok()?;
    let metadata = fs::symlink_metadata(path).ok()?;
    let used = fs::symlink_metadata(note_path)
        .and_then(|metadata| metadata.modified())
        .ok()?;
    let content = Arc::new(Content {
        path: path.to_owned(),
        note,
        transient: false,
    });
    (metadata.is_file() && metadata.len() == content.note.bytes).then_some(Kept { content, used })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::checksum::Hasher;
    use super::*;

    fn give(text: &str) -> impl FnOnce(&mut File, Option<&Version>) -> Result<Option<Downloaded>, String> {
        move |file, _| {
            file.write_all(text.as_bytes()).unwrap();
            let mut hasher = Hasher::new();
            hasher.update(text.as_bytes());
            Ok(Some(Downloaded {
                checksum: hasher.finish(),
                bytes: text.len() as u64,
                version: Version {
                    etag: Some("\"1\"".into()),
                    last_modified: None,
                },
            }))
        }
    }

    fn read(content: &Content) -> String {
        io::read_to_string(content.open().unwrap()).unwrap()
    }

    fn names(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room_unless_it_is_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), 10).unwrap();
        let sum = Some("sha256:x");
        drop(cache.get("a", sum, &|| true, give("aaaa")).unwrap());
        let b = cache.get("b", sum, &|| true, give("bbbb")).unwrap();
        drop(cache.get("a", sum, &|| true, |_, _| panic!("is kept")).unwrap());
        drop(cache.get("c", sum, &|| true, give("cccc")).unwrap());
        assert_eq!(cache.held().entries, 2);
        assert_eq!(
            read(&cache.get("b", sum, &|| true, |_, _| panic!("is in use")).unwrap()),
            "bbbb"
        );
        // No room: used once, and gone.
        let large = cache.get("d", sum, &|| true, give("dddddddddd")).unwrap();
        assert_eq!(read(&large), "dddddddddd");
        drop(large);
        assert_eq!(names(directory.path()), 2 * cache.held().entries as usize);
        drop(b);
        drop(cache.get("e", sum, &|| true, give("eeeeeeeeee")).unwrap());
        assert_eq!(
            cache.held(),
            Held {
                entries: 1,
                bytes: 10,
                bytes_max: 10
            }
        );
        assert!(cache.get("f", sum, &|| true, |_, _| Err("broken".into())).is_err());
        assert_eq!(names(directory.path()), 2);
    }

    #[test]
    fn a_restart_keeps_what_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), 100).unwrap();
        for uri in ["a", "b", "c"] {
            drop(cache.get(uri, Some("s"), &|| true, give("content")).unwrap());
        }
        drop(cache);
        let path = |uri| directory.path().join(key(uri, Some("s")));
        fs::write(path("b"), "cut").unwrap();
        fs::write(note_of(&path("c")), "{").unwrap();
        fs::write(directory.path().join(".part-7"), "half").unwrap();
        let cache = Cache::open(directory.path(), 100).unwrap();
        assert_eq!(cache.held().entries, 1);
        assert_eq!(names(directory.path()), 2);
        assert_eq!(
            read(&cache.get("a", Some("s"), &|| true, |_, _| panic!("is kept")).unwrap()),
            "content"
        );
        let a = cache.get("a", Some("s"), &|| true, |_, _| panic!("is kept")).unwrap();
        cache.discard(&a);
        assert_eq!((cache.held().entries, names(directory.path())), (0, 0));
    }

    #[test]
    fn without_a_checksum_the_server_is_asked_whether_it_changed() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), 100).unwrap();
        drop(cache.get("a", None, &|| true, give("old")).unwrap());
        let same = cache.get("a", None, &|| true, |_, have| {
            assert_eq!(have.unwrap().etag.as_deref(), Some("\"1\""));
            Ok(None)
        });
        assert_eq!(read(&same.unwrap()), "old");
        assert_eq!(read(&cache.get("a", None, &|| true, give("newer")).unwrap()), "newer");
        assert_eq!(cache.held().bytes, 5);
    }

    #[test]
    fn those_who_want_the_same_at_once_share_one_download() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), 100).unwrap();
        let (downloads, waiting) = (AtomicU32::new(0), std::sync::Barrier::new(8));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    waiting.wait();
                    let content = cache.get("a", Some("s"), &|| true, |file, have| {
                        downloads.fetch_add(1, Ordering::Relaxed);
                        give("content")(file, have)
                    });
                    assert_eq!(read(&content.unwrap()), "content");
                });
            }
        });
        assert_eq!(downloads.into_inner(), 1);
    }
}
