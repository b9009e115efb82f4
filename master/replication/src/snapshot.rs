//! Places in the log, and the snapshot that a group begins with.

use raft::eraftpb::{ConfState, Snapshot};

/// A place in the log: the entry's index and the term in which it was proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The entry's index.
    pub index: u64,
    /// The entry's term.
    pub term: u64,
}

/// What a snapshot of the application's state is said to stand for: the entries up to a place, and the group as it was there.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    pub(crate) position: Position,
    pub(crate) group: ConfState,
    /// How many bytes of entries had been told since the snapshot before.
    pub(crate) told_bytes: u64,
}

impl Mark {
    /// The snapshot of the state at this place.
    pub(crate) fn snapshot(self, data: Vec<u8>) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = self.position.index;
        metadata.term = self.position.term;
        metadata.set_conf_state(self.group);
        snapshot.data = data.into();
        snapshot
    }
}

/// The snapshot from which every initial member of a group starts, at index 1 and term 1: a newcomer that began with an
/// empty log would replay it and end with no configuration at all.
pub fn bootstrap(voters: &[u64], data: Vec<u8>) -> Snapshot {
    let state = ConfState {
        voters: voters.to_vec(),
        ..ConfState::default()
    };
    let mut snapshot = Snapshot::default();
    snapshot.mut_metadata().index = 1;
    snapshot.mut_metadata().term = 1;
    snapshot.mut_metadata().set_conf_state(state);
    snapshot.data = data.into();
    snapshot
}

/// The place of a snapshot in the log.
pub fn position(snapshot: &Snapshot) -> Position {
    Position {
        index: snapshot.get_metadata().index,
        term: snapshot.get_metadata().term,
    }
}
