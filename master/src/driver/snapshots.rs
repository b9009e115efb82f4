//! When a snapshot of the registry is taken.

use prost::Message as _;

use super::Driver;

/// A snapshot is not due before so many bytes of changes, however small the registry is.
const BYTES_MIN: u64 = 16 << 20;

/// What decides when the next snapshot is due.
#[derive(Debug)]
pub(super) struct SnapshotPolicy {
    /// After so many entries, unless the registry is much larger than they are.
    pub(super) entries: u64,
    /// The size of the last snapshot.
    pub(super) last_bytes: u64,
    /// The group waits for one.
    pub(super) is_wanted: bool,
}

impl SnapshotPolicy {
    /// The log may grow as large as the registry, so that both together stay in proportion to it, and writing snapshots costs
    /// no more than a few times what is written to the log.
    fn is_due(&self, entries: u64, bytes: u64) -> bool {
        let by_bytes = bytes >= BYTES_MIN.max(self.last_bytes);
        let by_entries = entries >= self.entries && bytes >= self.last_bytes / 4;
        entries > 0 && (by_bytes || by_entries)
    }
}

impl Driver {
    /// Takes a snapshot if it is time, and says whether it did. The core must have heard of everything that was told.
    pub(super) fn take_snapshot(&mut self) -> bool {
        let (entries, bytes) = self.member.since_snapshot();
        if !self.snapshots.is_due(entries, bytes) && !self.snapshots.is_wanted {
            return false;
        }
        let index = self.member.applied();
        let data = self.encode_registry();
        tracing::info!(index, bytes = data.len(), "a snapshot of the registry is taken");
        self.snapshots.is_wanted = false;
        self.snapshots.last_bytes = data.len() as u64;
        if self.keeper.is_behind() {
            self.keeper.rebuild(index, data.clone().into());
        }
        self.member.compact(data);
        true
    }

    /// The whole registry as it is now.
    pub(super) fn encode_registry(&self) -> Vec<u8> {
        self.master.registry().encode_to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_due_by_entries_or_in_proportion_to_the_registry() {
        let mut policy = SnapshotPolicy {
            entries: 100,
            last_bytes: 0,
            is_wanted: false,
        };
        assert!(!policy.is_due(0, 0));
        assert!(!policy.is_due(99, 99));
        assert!(policy.is_due(100, 100));
        assert!(policy.is_due(1, BYTES_MIN));
        policy.last_bytes = 4 * BYTES_MIN;
        assert!(!policy.is_due(1, BYTES_MIN));
        assert!(!policy.is_due(1000, BYTES_MIN - 1));
        assert!(policy.is_due(1000, BYTES_MIN));
        assert!(policy.is_due(1, 4 * BYTES_MIN));
    }
}
