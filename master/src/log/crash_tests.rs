//! The log on a disk that records every write and can stop at any of them.
//!
//! A crash leaves any subset of the 512-byte sectors written since a file's last sync, and any subset of the
//! creations and removals since the directory's last sync. After it, everything acknowledged is there, and of the
//! interrupted batch all or nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use proffer_replication::eraftpb::{Entry, HardState};

use super::frame::SECTOR;
use super::*;

/// A small generator of repeatable numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}

#[derive(Clone, Default)]
struct FileState {
    synced: Vec<u8>,
    content: Vec<u8>,
    /// Sectors written, and lengths set, since the last sync.
    unsynced: Vec<Unsynced>,
}

#[derive(Clone)]
enum Unsynced {
    Sector { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, FileState>,
    /// Names whose creation or removal is not yet synced.
    created: Vec<String>,
    removed: BTreeMap<String, FileState>,
    /// Operations until the machine stops.
    fuel: Option<u64>,
}

#[derive(Clone, Default)]
struct FakeDisk(Arc<Mutex<State>>);

impl FakeDisk {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> io::Result<T> {
        let mut state = self.0.lock().unwrap();
        match &mut state.fuel {
            Some(0) => return Err(io::Error::other("the machine has stopped")),
            Some(fuel) => *fuel -= 1,
            None => {}
        }
        Ok(change(&mut state))
    }

    /// What a machine that stops now may find when it starts again.
    fn crash(&self, random: &mut Random) -> FakeDisk {
        let state = self.0.lock().unwrap();
        let mut files = BTreeMap::new();
        for (name, file) in state.files.iter().chain(&state.removed) {
            let unsure = state.created.contains(name) || state.removed.contains_key(name);
            if unsure && random.coin() {
                continue;
            }
            let mut content = file.synced.clone();
            for write in file.unsynced.iter().filter(|_| random.coin()) {
                apply(&mut content, write);
            }
            let survivor = FileState {
                synced: content.clone(),
                content,
                unsynced: Vec::new(),
            };
            files.insert(name.clone(), survivor);
        }
        FakeDisk(Arc::new(Mutex::new(State {
            files,
            ..State::default()
        })))
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.0.lock().unwrap();
        state
            .files
            .iter()
            .map(|(name, file)| (name.clone(), file.content.clone()))
            .collect()
    }

    fn of(files: BTreeMap<String, Vec<u8>>) -> FakeDisk {
        let files = files
            .into_iter()
            .map(|(name, content)| {
                let synced = content.clone();
                (
                    name,
                    FileState {
                        synced,
                        content,
                        unsynced: Vec::new(),
                    },
                )
            })
            .collect();
        FakeDisk(Arc::new(Mutex::new(State {
            files,
            ..State::default()
        })))
    }
}

fn apply(content: &mut Vec<u8>, write: &Unsynced) {
    match write {
        Unsynced::Sector { offset, bytes } => {
            content.resize(content.len().max(offset + bytes.len()), 0);
            content[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        Unsynced::Length(length) => content.resize(*length, 0),
    }
}

impl Disk for FakeDisk {
    type File = String;

    fn list(&self) -> io::Result<Vec<String>> {
        self.change(|state| state.files.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.change(|state| state.files[name].content.clone())
    }

    fn create(&self, name: &str, reserve: u64) -> io::Result<String> {
        self.change(|state| {
            assert!(!state.files.contains_key(name), "{name} exists");
            let mut file = FileState::default();
            let length = Unsynced::Length(reserve as usize);
            apply(&mut file.content, &length);
            file.unsynced.push(length);
            state.files.insert(name.to_owned(), file);
            state.created.push(name.to_owned());
            name.to_owned()
        })
    }

    fn open(&self, name: &str) -> io::Result<String> {
        Ok(name.to_owned())
    }

    fn write_at(&self, file: &String, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(|state| {
            let file = state.files.get_mut(file).unwrap();
            let (mut at, end) = (offset as usize, offset as usize + bytes.len());
            while at < end {
                let stop = (at / SECTOR * SECTOR + SECTOR).min(end);
                let bytes = bytes[at - offset as usize..stop - offset as usize].to_vec();
                let sector = Unsynced::Sector { offset: at, bytes };
                apply(&mut file.content, &sector);
                file.unsynced.push(sector);
                at = stop;
            }
        })
    }

    fn set_length(&self, file: &String, length: u64) -> io::Result<()> {
        self.change(|state| {
            let file = state.files.get_mut(file).unwrap();
            let length = Unsynced::Length(length as usize);
            apply(&mut file.content, &length);
            file.unsynced.push(length);
        })
    }

    fn sync(&self, file: &String) -> io::Result<()> {
        self.change(|state| {
            let file = state.files.get_mut(file).unwrap();
            file.synced = file.content.clone();
            file.unsynced.clear();
        })
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.change(|state| {
            state.created.clear();
            state.removed.clear();
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|state| {
            let file = state.files.remove(name).unwrap();
            state.removed.insert(name.to_owned(), file);
        })
    }
}

/// What the log must hold.
#[derive(Clone, Default, Debug, PartialEq)]
struct Model {
    recovered: Recovered,
}

impl Model {
    fn last(&self) -> u64 {
        self.recovered.snapshot.index + self.recovered.entries.len() as u64
    }

    fn append(&mut self, entries: &[Entry], hard_state: Option<&HardState>) {
        if let Some(first) = entries.first() {
            let keep = first.index - self.recovered.snapshot.index - 1;
            self.recovered.entries.truncate(keep as usize);
            self.recovered.entries.extend_from_slice(entries);
        }
        if let Some(state) = hard_state {
            self.recovered.hard_state = state.clone();
        }
    }

    fn compact(&mut self, snapshot: Position) {
        let count = snapshot.index - self.recovered.snapshot.index;
        self.recovered.entries.drain(..count as usize);
        self.recovered.snapshot = snapshot;
    }

    fn reset(&mut self, snapshot: Position) {
        self.recovered.entries.clear();
        self.recovered.snapshot = snapshot;
    }
}

const OPTIONS: Options = Options {
    segment_bytes_min: 8192,
    segment_bytes_max: 65_536,
};

fn position(index: u64, term: u64) -> Position {
    Position { index, term }
}

fn fresh() -> (FakeDisk, Wal<FakeDisk>, Model) {
    let disk = FakeDisk::default();
    let mut model = Model::default();
    model.recovered.snapshot = position(1, 1);
    model.recovered.hard_state = hard_state(1, 1);
    let state = model.recovered.hard_state.clone();
    let wal = Wal::create(disk.clone(), OPTIONS, position(1, 1), state).unwrap();
    (disk, wal, model)
}

fn hard_state(term: u64, commit: u64) -> HardState {
    let mut state = HardState::default();
    (state.term, state.vote, state.commit) = (term, 1, commit);
    state
}

fn entries(random: &mut Random, first: u64, term: u64) -> Vec<Entry> {
    let count = 1 + random.below(4);
    (first..first + count)
        .map(|index| {
            let mut entry = Entry::default();
            (entry.index, entry.term) = (index, term);
            let fill = random.below(3) as u8;
            let length = [10, 100, 700, 3000][random.below(4) as usize];
            entry.data = vec![fill; length].into();
            entry
        })
        .collect()
}

/// What a batch holds.
#[derive(Default)]
struct Planned {
    snapshot: Option<Position>,
    entries: Vec<Entry>,
    hard_state: Option<HardState>,
}

impl Planned {
    /// A random batch; the model is changed as it will change the log.
    fn at_random(random: &mut Random, model: &mut Model, term: u64) -> Self {
        let commit = model.recovered.hard_state.commit;
        let mut planned = Self::default();
        match random.below(9) {
            0 => {
                let snapshot = position(model.last() + random.below(3), term);
                model.reset(snapshot);
                planned.snapshot = Some(snapshot);
                planned.hard_state = Some(hard_state(term, snapshot.index));
            }
            choice => {
                // Some batches replace entries that were not committed.
                let first = if choice == 1 { commit + 1 } else { model.last() + 1 };
                planned.entries = entries(random, first, term);
                let state = hard_state(term, if random.coin() { first } else { commit });
                planned.hard_state = random.coin().then_some(state);
            }
        }
        model.append(&planned.entries, planned.hard_state.as_ref());
        planned
    }

    fn batch(&self) -> Batch<'_> {
        Batch {
            snapshot: self.snapshot,
            entries: &self.entries,
            hard_state: self.hard_state.as_ref(),
        }
    }
}

/// One random operation on the log and what it would make of the model.
fn operation(random: &mut Random, wal: &mut Wal<FakeDisk>, model: &Model, term: u64) -> (Result<(), Error>, Model) {
    let mut after = model.clone();
    let commit = model.recovered.hard_state.commit;
    if commit > model.recovered.snapshot.index && random.below(10) == 0 {
        let snapshot = position(commit, term);
        after.compact(snapshot);
        return (wal.compact(snapshot, random.below(1 << 20)), after);
    }
    let count = 1 + random.below(4);
    let planned: Vec<_> = (0..count)
        .map(|_| Planned::at_random(random, &mut after, term))
        .collect();
    let batches: Vec<_> = planned.iter().map(Planned::batch).collect();
    (wal.append(&batches), after)
}

#[test]
fn acknowledged_batches_survive_any_crash_and_an_interrupted_one_is_whole_or_absent() {
    for seed in 1..=60u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (mut disk, mut wal, mut model) = fresh();
        for crash in 0..40u64 {
            disk.0.lock().unwrap().fuel = Some(random.below(60));
            let in_flight = loop {
                let (result, after) = operation(&mut random, &mut wal, &model, crash + 2);
                match result {
                    Ok(()) => model = after,
                    Err(_) => break after,
                }
            };
            disk = disk.crash(&mut random);
            let recovered = loop {
                // Recovery itself may be interrupted.
                disk.0.lock().unwrap().fuel = random.coin().then(|| random.below(12));
                match Wal::open(disk.clone(), OPTIONS) {
                    Ok((opened, recovered)) => {
                        wal = opened;
                        break recovered;
                    }
                    Err(Error::Io { .. }) => disk = disk.crash(&mut random),
                    Err(other) => panic!("seed {seed}, crash {crash}: {other}"),
                }
            };
            disk.0.lock().unwrap().fuel = None;
            if recovered == in_flight.recovered {
                model = in_flight;
            } else {
                assert_eq!(recovered, model.recovered, "seed {seed}, crash {crash}");
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_refused_or_does_no_harm() {
    let mut random = Random(77);
    let (disk, mut wal, mut model) = fresh();
    while wal.closed.len() < 2 {
        let (result, after) = operation(&mut random, &mut wal, &model, 2);
        result.unwrap();
        model = after;
    }
    let files = disk.files();
    let mut refused = 0;
    for (name, content) in &files {
        for _ in 0..1500 {
            let at = random.below(content.len() as u64) as usize;
            let mut damaged = files.clone();
            damaged.get_mut(name).unwrap()[at] ^= 1 << random.below(8);
            match Wal::open(FakeDisk::of(damaged.clone()), OPTIONS) {
                Err(Error::Damaged { .. } | Error::Incomplete { .. }) => refused += 1,
                Err(other) => panic!("{name} at {at}: {other}"),
                Ok((_, recovered)) => assert_eq!(recovered, model.recovered, "{name} at {at}"),
            }
        }
    }
    assert!(refused > 1000, "only {refused} refused");
}

#[test]
fn a_lost_sector_in_the_middle_is_refused() {
    let (disk, mut wal, _) = fresh();
    let mut random = Random(5);
    for index in 2..8 {
        let mut batch = entries(&mut random, index, 1);
        batch.truncate(1);
        batch[0].data = vec![9; 600].into();
        wal.append(&[Batch {
            entries: &batch,
            ..Batch::default()
        }])
        .unwrap();
    }
    let mut files = disk.files();
    let content = files.values_mut().next().unwrap();
    content[1024..1536].fill(0);
    let refusal = Wal::open(FakeDisk::of(files), OPTIONS)
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(
        refusal.contains("damaged") && refusal.contains("work directory"),
        "{refusal}"
    );
}

#[test]
fn a_missing_segment_is_refused() {
    let (disk, mut wal, mut model) = fresh();
    let mut random = Random(9);
    while wal.closed.len() < 3 {
        let entries = entries(&mut random, model.last() + 1, 1);
        model.append(&entries, None);
        wal.append(&[Batch {
            entries: &entries,
            ..Batch::default()
        }])
        .unwrap();
    }
    let files = disk.files();
    for name in files.keys().take(3) {
        let mut damaged = files.clone();
        damaged.remove(name);
        let opened = Wal::open(FakeDisk::of(damaged), OPTIONS).map(drop);
        assert!(matches!(opened, Err(Error::Incomplete { .. })), "{name}: {opened:?}");
    }
}

#[test]
fn compaction_frees_segments() {
    let (disk, mut wal, mut model) = fresh();
    let mut random = Random(11);
    while wal.closed.len() < 4 {
        let entries = entries(&mut random, model.last() + 1, 1);
        model.append(&entries, None);
        wal.append(&[Batch {
            entries: &entries,
            ..Batch::default()
        }])
        .unwrap();
    }
    let last = position(model.last(), 1);
    wal.compact(last, 0).unwrap();
    model.compact(last);
    assert!(disk.files().len() <= 2, "{:?}", disk.files().keys());
    let (_, recovered) = Wal::open(disk, OPTIONS).unwrap();
    assert_eq!(recovered, model.recovered);
}

#[test]
fn a_snapshot_older_than_the_logs_own_changes_nothing() {
    let (disk, mut wal, mut model) = fresh();
    let newer = position(9, 2);
    let batch = Batch {
        snapshot: Some(newer),
        ..Batch::default()
    };
    wal.append(&[batch]).unwrap();
    model.reset(newer);
    wal.compact(position(5, 1), 0).unwrap();
    let (_, recovered) = Wal::open(disk, OPTIONS).unwrap();
    assert_eq!(recovered, model.recovered);
}

#[test]
fn after_a_failed_write_nothing_more_is_accepted() {
    let (disk, mut wal, _) = fresh();
    disk.0.lock().unwrap().fuel = Some(1);
    let batch = entries(&mut Random(3), 2, 1);
    let batch = Batch {
        entries: &batch,
        ..Batch::default()
    };
    assert!(matches!(wal.append(&[batch]), Err(Error::Io { action: "sync", .. })));
    disk.0.lock().unwrap().fuel = None;
    assert!(matches!(wal.append(&[batch]), Err(Error::Failed)));
}

#[test]
fn a_real_directory_keeps_the_log() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("log");
    let mut wal = Wal::create(Directory::create(&path)?, OPTIONS, position(1, 1), hard_state(1, 1))?;
    let batch = entries(&mut Random(3), 2, 1);
    wal.append(&[Batch {
        entries: &batch,
        ..Batch::default()
    }])?;
    drop(wal);
    let (_, recovered) = Wal::open(Directory::create(&path)?, OPTIONS)?;
    assert_eq!(recovered.entries, batch);
    Ok(())
}
