//! The writer over a log that waits for the test, and over a real one.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use proffer_replication::eraftpb::{Entry, HardState};
use proffer_replication::{Write, bootstrap};

use super::*;
use crate::snapshots::Snapshots;

const PATIENCE: Duration = Duration::from_secs(30);

/// Tells of every append how many batches it has, and does it when told what comes of it.
struct Gated {
    begun: Sender<usize>,
    results: Receiver<Result<(), Error>>,
}

impl LogStore for Gated {
    fn append(&mut self, batches: &[Batch<'_>]) -> Result<(), Error> {
        self.begun.send(batches.len()).unwrap();
        self.results.recv_timeout(PATIENCE).unwrap()
    }

    fn compact(&mut self, _snapshot: Position, _snapshot_bytes: u64) -> Result<(), Error> {
        Ok(())
    }
}

struct Bench {
    writer: Writer,
    begun: Receiver<usize>,
    results: Sender<Result<(), Error>>,
    _directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::create(directory.path().to_path_buf()).unwrap();
        let (begun, begun_of_test) = channel();
        let (results_of_test, results) = channel();
        let log = Gated { begun, results };
        Self {
            writer: Writer::start(Box::new(log), snapshots, Position::default(), Arc::default()).unwrap(),
            begun: begun_of_test,
            results: results_of_test,
            _directory: directory,
        }
    }

    fn begun(&self) -> usize {
        self.begun.recv_timeout(PATIENCE).unwrap()
    }
}

fn write(number: u64, must_sync: bool) -> Write {
    let mut entry = Entry::default();
    (entry.index, entry.term) = (number + 1, 1);
    entry.data = vec![7; 100].into();
    Write {
        number,
        entries: vec![entry],
        must_sync,
        ..Write::default()
    }
}

/// Waits until a write is durable.
fn wait_for(writer: &Writer, number: u64) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while writer.written().number()? < number {
        assert!(Instant::now() < deadline, "write {number} does not become durable");
        std::thread::yield_now();
    }
    Ok(())
}

#[test]
fn what_comes_during_a_sync_is_written_together() {
    let mut bench = Bench::new();
    bench.writer.write(write(1, true));
    assert_eq!(bench.begun(), 1);
    for number in 2..=5 {
        bench.writer.write(write(number, number == 3));
    }
    assert_eq!(bench.writer.written().number().unwrap(), 0);
    bench.results.send(Ok(())).unwrap();
    assert_eq!(bench.begun(), 4);
    assert_eq!(bench.writer.written().number().unwrap(), 1);
    bench.results.send(Ok(())).unwrap();
    bench.writer.stop().unwrap();
    assert_eq!(bench.writer.written().number().unwrap(), 5);
}

#[test]
fn a_write_that_nothing_waits_for_is_written_in_the_end() {
    let bench = Bench::new();
    bench.results.send(Ok(())).unwrap();
    bench.writer.write(write(1, false));
    assert_eq!(bench.begun(), 1);
    wait_for(&bench.writer, 1).unwrap();
}

#[test]
fn after_a_failure_nothing_more_is_said_to_be_durable() {
    let mut bench = Bench::new();
    let full = Error::Io {
        action: "write",
        name: "a segment".to_owned(),
        source: io::ErrorKind::StorageFull.into(),
    };
    bench.results.send(Err(full)).unwrap();
    bench.writer.write(write(1, true));
    let failure = wait_for(&bench.writer, 1).unwrap_err();
    assert!(failure.to_string().contains("has room"), "{failure}");
    bench.writer.write(write(2, true));
    bench.writer.stop().unwrap();
    assert_eq!(bench.writer.written().number().unwrap(), 0);
    assert_eq!(bench.begun.iter().count(), 1);
}

/// Looks, when the log is told of a snapshot, which snapshots are there.
struct Watched {
    log: Wal,
    snapshots: Snapshots,
    fails: bool,
}

/// The places of the two snapshots of [`Watched`].
const OLD: Position = Position { index: 1, term: 1 };
const NEW: Position = Position { index: 5, term: 1 };

impl LogStore for Watched {
    fn append(&mut self, batches: &[Batch<'_>]) -> Result<(), Error> {
        self.log.append(batches)
    }

    fn compact(&mut self, snapshot: Position, snapshot_bytes: u64) -> Result<(), Error> {
        // Whether or not the marker reaches the disk, the snapshot that it names is there.
        assert_eq!(snapshot, NEW);
        self.snapshots.load(OLD).unwrap();
        self.snapshots.load(NEW).unwrap();
        if self.fails {
            return Err(Error::Failed);
        }
        self.log.compact(snapshot, snapshot_bytes)?;
        self.snapshots.load(OLD).unwrap();
        Ok(())
    }
}

#[test]
fn whichever_snapshot_the_log_names_is_there() -> anyhow::Result<()> {
    for fails in [false, true] {
        let directory = tempfile::tempdir()?;
        let snapshots = Snapshots::create(directory.path().join("snapshots"))?;
        snapshots.save(&bootstrap(&[1], Vec::new()))?;
        let disk = Directory::create(&directory.path().join("log"))?;
        let log = Watched {
            log: Wal::create(disk, Options::default(), OLD, HardState::default())?,
            snapshots: snapshots.clone(),
            fails,
        };
        let mut writer = Writer::start(Box::new(log), snapshots.clone(), OLD, Arc::default())?;
        for number in 1..=6 {
            writer.write(write(number, true));
        }
        let mut own = bootstrap(&[1], b"own".to_vec());
        own.mut_metadata().index = NEW.index;
        writer.compact(own);
        assert_eq!(writer.stop().is_err(), fails);
        assert_eq!(snapshots.load(OLD).is_ok(), fails);
        snapshots.load(NEW)?;
    }
    Ok(())
}

#[test]
fn snapshots_of_both_kinds_replace_the_log_and_the_files_before_them() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let snapshots = Snapshots::create(directory.path().join("snapshots"))?;
    let first = Position { index: 1, term: 1 };
    snapshots.save(&bootstrap(&[1], Vec::new()))?;
    let disk = || Directory::create(&directory.path().join("log"));
    let log = Wal::create(disk()?, Options::default(), first, HardState::default())?;
    let mut writer = Writer::start(Box::new(log), snapshots.clone(), first, Arc::default())?;
    for number in 1..=6 {
        writer.write(write(number, true));
    }
    let mut own = bootstrap(&[1], b"own".to_vec());
    own.mut_metadata().index = 5;
    writer.compact(own.clone());
    writer.stop()?;
    let (log, recovered) = Wal::open(disk()?, Options::default())?;
    let position = Position { index: 5, term: 1 };
    assert_eq!((recovered.snapshot, recovered.entries.len()), (position, 2));
    assert_eq!(snapshots.load(position)?, own);
    assert_eq!(std::fs::read_dir(directory.path().join("snapshots"))?.count(), 1);

    let mut writer = Writer::start(Box::new(log), snapshots.clone(), position, Arc::default())?;
    let mut leaders = bootstrap(&[1, 2], b"the leader's".to_vec());
    leaders.mut_metadata().index = 20;
    let mut install = write(7, true);
    install.entries.clear();
    install.snapshot = Some(leaders.clone());
    // One that is still being saved when the leader's comes.
    own.mut_metadata().index = 6;
    writer.compact(own);
    writer.write(install);
    writer.stop()?;
    let (_, recovered) = Wal::open(disk()?, Options::default())?;
    let position = Position { index: 20, term: 1 };
    assert_eq!((recovered.snapshot, recovered.entries.len()), (position, 0));
    assert_eq!(snapshots.load(position)?, leaders);
    assert_eq!(std::fs::read_dir(directory.path().join("snapshots"))?.count(), 1);
    Ok(())
}
