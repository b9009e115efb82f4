//! What a member starts from, made to fit together.

use raft::eraftpb::{Entry, HardState, Snapshot};

use crate::config::Settings;
use crate::member::{Error, Start};
use crate::memory::Memory;
use crate::snapshot::{Position, position};

/// The memory that raft starts with.
pub(crate) fn memory(start: Start, settings: &Settings) -> Result<Memory, Error> {
    let Start {
        hard_state,
        snapshot,
        entries,
        committed,
    } = start;
    let place = position(&snapshot);
    check_snapshot(&snapshot, &entries, settings.id)?;
    let (before, entries) = continuing(place, entries)?;
    let last = entries.last().map_or(place, |entry| Position {
        index: entry.index,
        term: entry.term,
    });
    let known = hard_state.commit.max(committed);
    if known > last.index {
        let last = last.index;
        return Err(Error::LogTooShort { last, known });
    }
    let hard_state = fit(hard_state, last.term, known.max(place.index))?;
    let mut memory = Memory::new(snapshot.clone(), before, entries, hard_state);
    memory.compact(snapshot, settings.tail_entries_max, settings.tail_bytes_max);
    Ok(memory)
}

fn check_snapshot(snapshot: &Snapshot, entries: &[Entry], id: u64) -> Result<(), Error> {
    let state = snapshot.get_metadata().get_conf_state();
    let ids = [&state.voters, &state.learners, &state.voters_outgoing];
    if snapshot.is_empty() {
        // A member that replayed the log from its first entry would end without a configuration: it needs a snapshot first.
        if !entries.is_empty() || ids.iter().any(|ids| !ids.is_empty()) {
            return Err(unfit("there are entries or members, but no snapshot"));
        }
        return Ok(());
    }
    if snapshot.get_metadata().term == 0 || state.voters.is_empty() {
        return Err(unfit("the snapshot has no term or no voters"));
    }
    if !ids.iter().any(|ids| ids.contains(&id)) {
        return Err(unfit("this member is not in the group of the snapshot"));
    }
    Ok(())
}

/// The entries with the place before them. Those that the snapshot covers are a tail for followers, if they reach it.
fn continuing(snapshot: Position, mut entries: Vec<Entry>) -> Result<(Position, Vec<Entry>), Error> {
    let follow = |pair: &[Entry]| pair[1].index == pair[0].index + 1 && pair[1].term >= pair[0].term;
    if !entries.windows(2).all(follow) {
        return Err(unfit("the entries do not follow each other"));
    }
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return Ok((snapshot, entries));
    };
    if last.index < snapshot.index {
        return Ok((snapshot, Vec::new()));
    }
    if first.index > snapshot.index + 1 {
        return Err(unfit("entries after the snapshot are missing"));
    }
    if first.index == snapshot.index + 1 {
        if first.term < snapshot.term {
            return Err(unfit("the entries do not continue the snapshot"));
        }
        return Ok((snapshot, entries));
    }
    let covered = &entries[(snapshot.index - first.index) as usize];
    if covered.term != snapshot.term {
        return Err(unfit("the entries do not continue the snapshot"));
    }
    let before = entries.remove(0);
    let before = Position {
        index: before.index,
        term: before.term,
    };
    Ok((before, entries))
}

fn fit(mut hard_state: HardState, last_term: u64, commit: u64) -> Result<HardState, Error> {
    if hard_state == HardState::default() {
        // A founder has a snapshot and nothing else.
        hard_state.term = last_term;
    }
    if hard_state.term < last_term {
        return Err(unfit("the hard state is older than the log"));
    }
    hard_state.commit = commit;
    Ok(hard_state)
}

fn unfit(problem: &'static str) -> Error {
    Error::Unfit { problem }
}

#[cfg(test)]
mod tests {
    use raft::Storage as _;

    use super::*;
    use crate::bootstrap;
    use crate::tests::cluster::{entry, hard_state};

    fn begin(start: Start) -> Result<Memory, Error> {
        memory(start, &Settings::new(1, 0))
    }

    /// A snapshot at 10 in term 3, and entries from `first` to 15.
    fn compacted(first: u64) -> Start {
        let mut snapshot = bootstrap(&[1], Vec::new());
        (snapshot.mut_metadata().index, snapshot.mut_metadata().term) = (10, 3);
        Start {
            hard_state: hard_state(4, 1, 12),
            snapshot,
            entries: (first..=15)
                .map(|index| entry(index, if index < 13 { 3 } else { 4 }, "a"))
                .collect(),
            committed: 11,
        }
    }

    #[test]
    fn entries_that_the_snapshot_covers_are_kept_as_a_tail() {
        let fresh = begin(compacted(11)).unwrap();
        assert_eq!((fresh.first_index().unwrap(), fresh.last()), (11, 15));
        let tail = begin(compacted(5)).unwrap();
        assert_eq!((tail.first_index().unwrap(), tail.last()), (6, 15));
        assert_eq!((tail.term(5).unwrap(), tail.snapshot_index()), (3, 10));
        assert_eq!(tail.initial_state().unwrap().hard_state.commit, 12);
        let mut old = compacted(5);
        old.entries.truncate(4);
        (old.hard_state.commit, old.committed) = (8, 0);
        let dropped = begin(old).unwrap();
        assert_eq!((dropped.first_index().unwrap(), dropped.last()), (11, 10));
        let mut short = compacted(5);
        short.entries.truncate(6);
        (short.hard_state.commit, short.committed) = (8, 0);
        let ends_with_it = begin(short).unwrap();
        assert_eq!((ends_with_it.first_index().unwrap(), ends_with_it.last()), (6, 10));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let unfit = |change: fn(&mut Start)| {
            let mut start = compacted(5);
            change(&mut start);
            assert!(matches!(begin(start), Err(Error::Unfit { .. })));
        };
        unfit(|start| start.entries = compacted(13).entries);
        unfit(|start| start.entries.remove(7).clear_data());
        unfit(|start| start.entries[8].term = 2);
        unfit(|start| start.snapshot.mut_metadata().term = 2);
        unfit(|start| start.hard_state.term = 3);
        unfit(|start| start.snapshot = Snapshot::default());
        unfit(|start| start.snapshot = bootstrap(&[2, 3], Vec::new()));
        unfit(|start| start.snapshot.mut_metadata().mut_conf_state().voters.clear());
    }
}
