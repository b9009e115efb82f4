//! The source of a job: access logs that grow, followed from their first byte.
//!
//! All workers see the same patterns and each follows its share of the files: a file belongs to the worker that the hash of
//! its inode number names, so that renaming a log (rotation) neither loses it nor reads it twice. New files are found by
//! looking again. A file whose name no longer matches is read on for a while and then let go. A file that is cut back is
//! read from its start; what was cut before it was read is lost, and the cut is counted.

mod follower;
pub(crate) mod pattern;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::follower::{FileKey, Follower, Piece};
pub use self::pattern::Pattern;
use crate::access_log::{self, Hit, Reason};
use crate::watermark::Watermark;

/// How much is read from one file before it is another's turn.
const CHUNK_BYTES: usize = 64 * 1024;
/// How often the patterns are looked at, unless looking takes more than 2 % of the time.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a file whose name no longer matches is read on.
const LINGER: Duration = Duration::from_secs(10);
/// How many paths are remembered as warned about.
const WARNED_MAX: usize = 1000;

/// What the source does with what it reads.
pub(crate) trait Sink {
    /// A request. `bytes` is the length of its line.
    fn hit(&mut self, hit: &Hit<'_>, bytes: usize);
    /// A line that was rejected.
    fn rejected(&mut self, path: &Path, reason: Reason, line: &[u8]);
}

/// Counters of a source.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    /// Files followed since the start.
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) truncations: u64,
}

#[derive(Debug)]
struct Followed {
    follower: Follower,
    /// Since when its name matches no pattern.
    unmatched: Option<Instant>,
    /// When draining: where to stop.
    stop: Option<u64>,
    done: bool,
}

/// One worker's share of the logs.
#[derive(Debug)]
pub(crate) struct Source {
    patterns: Vec<Pattern>,
    index: usize,
    peers: usize,
    files: BTreeMap<FileKey, Followed>,
    watermark: Watermark<FileKey>,
    counters: Counters,
    scratch: Vec<u8>,
    look_at: Instant,
    /// Whose turn it is.
    turn: Option<FileKey>,
    warned: HashSet<PathBuf>,
    draining: bool,
}

impl Source {
    pub(crate) fn new(patterns: Vec<Pattern>, index: usize, peers: usize, watermark: Watermark<FileKey>) -> Source {
        Source {
            patterns,
            index,
            peers,
            files: BTreeMap::new(),
            watermark,
            counters: Counters::default(),
            scratch: vec![0; CHUNK_BYTES],
            look_at: Instant::now(),
            turn: None,
            warned: HashSet::new(),
            draining: false,
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    /// Event time promised by this share, in milliseconds since the Unix epoch.
    pub(crate) fn watermark(&mut self, now_ms: u64) -> u64 {
        self.watermark.advance(now_ms)
    }

    /// Looks for files once more and reads on only to where each file ends now.
    pub(crate) fn drain(&mut self, now_ms: u64) {
        if self.draining {
            return;
        }
        self.look(now_ms);
        self.draining = true;
        for (key, followed) in &mut self.files {
            followed.stop = Some(followed.follower.size().unwrap_or(0));
            tracing::debug!(inode = key.inode, stop = followed.stop, "last bytes of file");
        }
    }

    /// Whether all was read to where it ended when draining began.
    pub(crate) fn drained(&self) -> bool {
        self.draining && self.files.values().all(|followed| followed.done)
    }

    /// Reads about `budget` bytes, file by file in turn. Returns how many were read.
    pub(crate) fn poll(&mut self, budget: usize, now_ms: u64, sink: &mut dyn Sink) -> usize {
        if !self.draining && Instant::now() >= self.look_at {
            self.look(now_ms);
        }
        let (mut total, mut quiet) = (0, 0);
        while total < budget && quiet < self.files.len() {
            let Some(key) = self.next_turn() else { break };
            let Some(followed) = self.files.get_mut(&key) else {
                break;
            };
            let read = followed.read(
                key,
                &mut self.scratch,
                &mut self.watermark,
                &mut self.counters,
                now_ms,
                sink,
            );
            quiet = if read == 0 { quiet + 1 } else { 0 };
            total += read;
        }
        total
    }

    fn next_turn(&mut self) -> Option<FileKey> {
        let after = (self.turn.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let next = self.files.range(after).next().or_else(|| self.files.first_key_value());
        self.turn = next.map(|(key, _)| *key);
        self.turn
    }

    fn look(&mut self, now_ms: u64) {
        let start = Instant::now();
        let mut paths = BTreeSet::new();
        for pattern in &self.patterns {
            pattern.find(&mut paths);
        }
        let mut matched = HashSet::new();
        for path in paths {
            let Ok(metadata) = std::fs::metadata(&path) else {
                continue;
            };
            if !metadata.is_file() {
                continue;
            }
            let key = FileKey::of(&metadata);
            if owner(key.inode, self.peers) != self.index {
                continue;
            }
            matched.insert(key);
            if !self.files.contains_key(&key) {
                self.follow(&path, now_ms);
            }
        }
        self.let_go(&matched);
        self.look_at = start + LOOK_EVERY.max(start.elapsed() * 50);
    }

    fn follow(&mut self, path: &Path, now_ms: u64) {
        match Follower::open(path) {
            // The name may stand for another file than a moment ago; that one's turn is at the next look.
            Ok((key, _)) if self.files.contains_key(&key) || owner(key.inode, self.peers) != self.index => {}
            Ok((key, follower)) => {
                tracing::info!(path = %path.display(), inode = key.inode, "follows file");
                self.watermark.opened(key, now_ms);
                self.counters.files += 1;
                self.files.insert(
                    key,
                    Followed {
                        follower,
                        unmatched: None,
                        stop: None,
                        done: false,
                    },
                );
            }
            Err(error) => {
                if self.warned.len() < WARNED_MAX && self.warned.insert(path.to_path_buf()) {
                    tracing::warn!(path = %path.display(), error = %error, "cannot follow file");
                }
            }
        }
    }

    fn let_go(&mut self, matched: &HashSet<FileKey>) {
        let watermark = &mut self.watermark;
        self.files.retain(|key, followed| {
            if matched.contains(key) {
                followed.unmatched = None;
                return true;
            }
            let keep = followed.unmatched.get_or_insert_with(Instant::now).elapsed() < LINGER;
            // Bytes that are still unread are read before the file is let go.
            let keep = keep
                || followed
                    .follower
                    .size()
                    .is_ok_and(|size| size != followed.follower.offset());
            if !keep {
                tracing::info!(path = %followed.follower.path.display(), inode = key.inode, "lets go of file");
                watermark.closed(key);
            }
            keep
        });
    }
}

impl Followed {
    fn read(
        &mut self,
        key: FileKey,
        scratch: &mut [u8],
        watermark: &mut Watermark<FileKey>,
        counters: &mut Counters,
        now_ms: u64,
        sink: &mut dyn Sink,
    ) -> usize {
        if self.done {
            return 0;
        }
        let left = self
            .stop
            .map_or(u64::MAX, |stop| stop.saturating_sub(self.follower.offset()));
        let length = scratch.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let path = self.follower.path.clone();
        let mut each = |piece: Piece<'_>| {
            let (reason, line) = match piece {
                Piece::Line(line) => match access_log::parse(line, now_ms) {
                    Ok(hit) => {
                        watermark.observe(&key, hit.ts_ms, now_ms);
                        return sink.hit(&hit, line.len());
                    }
                    Err(reason) => (reason, line),
                },
                Piece::TooLong(line) => (Reason::TooLong, line),
                Piece::Truncated(half) => {
                    tracing::warn!(path = %path.display(), "file was truncated: reads it from its start");
                    counters.truncations += 1;
                    if half.is_empty() {
                        return;
                    }
                    (Reason::Cut, half)
                }
            };
            sink.rejected(&path, reason, line);
        };
        let read = match self.follower.read(&mut scratch[..length], &mut each) {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(path = %path.display(), error = %error, "cannot read file");
                0
            }
        };
        let offset = self.follower.offset();
        if let Some(stop) = self.stop
            && read == 0
            && self.follower.size().map_or(true, |size| offset >= size.min(stop))
        {
            self.follower.finish(&mut each);
            self.done = true;
        }
        counters.bytes += read as u64;
        watermark.at_end(&key, read < length || read == 0);
        read
    }
}

/// The worker that follows a file.
fn owner(inode: u64, peers: usize) -> usize {
    (crate::hash(&inode.to_le_bytes()) % peers as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[derive(Default)]
    struct Seen {
        hits: Vec<u64>,
        rejected: Vec<Reason>,
    }

    impl Sink for Seen {
        fn hit(&mut self, hit: &Hit<'_>, _: usize) {
            self.hits.push(hit.latency_us);
        }

        fn rejected(&mut self, _: &Path, reason: Reason, _: &[u8]) {
            self.rejected.push(reason);
        }
    }

    fn line(id: u64) -> String {
        format!(r#"{{"ts_ms":5,"route":"/","method":"GET","status":200,"latency_us":{id},"instance":"web.1"}}"#) + "\n"
    }

    fn source(dir: &Path, index: usize, peers: usize) -> Source {
        let pattern = Pattern::parse(&format!("{}/*.log*", dir.display())).unwrap();
        Source::new(vec![pattern], index, peers, Watermark::new(0, 500, 0))
    }

    fn append(path: &Path, text: &str) {
        std::fs::File::options()
            .append(true)
            .create(true)
            .open(path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    #[test]
    fn every_file_is_read_by_exactly_one_worker() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..20 {
            append(&dir.path().join(format!("{n}.log")), &line(n));
        }
        let mut seen = Seen::default();
        let mut files = 0;
        for index in 0..3 {
            let mut source = source(dir.path(), index, 3);
            source.drain(0);
            while !source.drained() {
                source.poll(1 << 20, 0, &mut seen);
            }
            files += source.counters().files;
        }
        seen.hits.sort_unstable();
        assert_eq!(seen.hits, (0..20).collect::<Vec<_>>());
        assert_eq!(files, 20);
    }

    #[test]
    fn a_rotated_log_is_read_once_under_both_names() {
        let dir = tempfile::tempdir().unwrap();
        let (now, before) = (dir.path().join("a.log"), dir.path().join("a.log.1"));
        let mut source = source(dir.path(), 0, 1);
        let mut seen = Seen::default();
        append(&now, &line(1));
        source.look(0);
        source.poll(1 << 20, 0, &mut seen);
        append(&now, &line(2));
        std::fs::rename(&now, &before).unwrap();
        append(&before, &line(3));
        append(&now, &line(4));
        source.drain(0);
        while !source.drained() {
            source.poll(1 << 20, 0, &mut seen);
        }
        seen.hits.sort_unstable();
        assert_eq!(seen.hits, [1, 2, 3, 4]);
        assert_eq!(source.counters().files, 2);
    }

    #[test]
    fn draining_stops_at_the_present_end_and_takes_the_last_line_without_newline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        append(&path, &(line(1) + "rubbish\n" + line(2).trim_end()));
        let mut source = source(dir.path(), 0, 1);
        source.drain(0);
        append(&path, &line(3));
        let mut seen = Seen::default();
        while !source.drained() {
            source.poll(1 << 20, 0, &mut seen);
        }
        assert_eq!(seen.hits, [1, 2]);
        assert_eq!(seen.rejected, [Reason::NotAnObject]);
    }
}
