//! When a snapshot of the registry is taken, and how: the driver only takes an image of the registry, which costs next to
//! nothing; a thread encodes it, and the driver hears of it when that is done.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::{io, thread};

use proffer_master_core::Image;
use proffer_replication::Mark;
use prost::Message as _;
use tokio::sync::Notify;

use super::Driver;
use crate::fatal;

/// A snapshot is not due before so many bytes of changes, however small the registry is.
const BYTES_MIN: u64 = 4 << 20;

/// What decides when the next snapshot is due.
#[derive(Debug)]
pub(super) struct SnapshotPolicy {
    /// After so many entries, unless the registry is much larger than they are.
    pub(super) entries: u64,
    /// The size of the last snapshot.
    pub(super) last_bytes: u64,
    /// The group waits for one.
    pub(super) is_wanted: bool,
    /// One that is being encoded.
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    mark: Mark,
    encoded: Receiver<Vec<u8>>,
}

impl SnapshotPolicy {
    pub(super) fn new(entries: u64, last_bytes: u64) -> Self {
        SnapshotPolicy {
            entries,
            last_bytes,
            is_wanted: false,
            under_way: None,
        }
    }

    #[cfg(test)]
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// The log may grow to half of what the registry has. While a snapshot replaces another there are two of them, and all
    /// together stays below three times the registry; writing snapshots costs about twice what is written to the log.
    fn is_due(&self, entries: u64, bytes: u64) -> bool {
        let by_bytes = bytes >= BYTES_MIN.max(self.last_bytes / 2);
        let by_entries = entries >= self.entries && bytes >= self.last_bytes / 4;
        entries > 0 && (by_bytes || by_entries)
    }
}

impl Driver {
    /// Begins a snapshot if it is time, and hands over one that is encoded; says whether it did the latter. The core must have
    /// heard of everything that was told.
    pub(super) fn take_snapshot(&mut self) -> bool {
        let is_done = self.finish_snapshot();
        let (entries, bytes) = self.member.since_snapshot();
        let is_time = self.snapshots.is_due(entries, bytes) || self.snapshots.is_wanted;
        if is_time && self.snapshots.under_way.is_none() {
            self.begin_snapshot();
        }
        is_done
    }

    fn begin_snapshot(&mut self) {
        self.snapshots.is_wanted = false;
        let Some(mark) = self.member.mark() else { return };
        let image = self.master.image();
        if self.keeper.is_behind() {
            self.keeper.rebuild(self.member.applied(), image.clone());
        }
        match encode_apart(image, self.bell.clone()) {
            Ok(encoded) => self.snapshots.under_way = Some(UnderWay { mark, encoded }),
            // The next one may fare better; until then the log is longer.
            Err(error) => tracing::warn!(%error, "no thread can be started to encode a snapshot"),
        }
    }

    fn finish_snapshot(&mut self) -> bool {
        let Some(under_way) = self.snapshots.under_way.take() else {
            return false;
        };
        match under_way.encoded.try_recv() {
            Ok(data) => {
                tracing::info!(bytes = data.len(), "a snapshot of the registry is taken");
                self.snapshots.last_bytes = data.len() as u64;
                self.member.compact_to(under_way.mark, data);
                true
            }
            Err(TryRecvError::Empty) => {
                self.snapshots.under_way = Some(under_way);
                false
            }
            // A panic there ends the process.
            Err(TryRecvError::Disconnected) => false,
        }
    }
}

/// Encodes an image on a thread of its own, and rings when it is done.
fn encode_apart(image: Image, bell: Arc<Notify>) -> io::Result<Receiver<Vec<u8>>> {
    let (sender, encoded) = channel();
    thread::Builder::new().name("encode".to_owned()).spawn(move || {
        let _fatal = fatal::OnPanic(fatal::end_process);
        let data = encode(&image);
        drop(image);
        // The driver may have stopped.
        let _ = sender.send(data);
        bell.notify_one();
    })?;
    Ok(encoded)
}

fn encode(image: &Image) -> Vec<u8> {
    let mut data = Vec::with_capacity(image.state_bytes() as usize);
    for piece in image.pieces() {
        piece.encode_raw(&mut data);
    }
    data
}

#[cfg(test)]
mod tests {
    use proffer_master_core::{Config, Master};
    use proffer_proto::registry as wire;

    use super::*;

    #[test]
    fn an_image_is_encoded_as_the_registry_itself() {
        let agent = |id: &str| wire::Agent {
            info: proffer_proto::v1::AgentInfo {
                hostname: "host".to_owned(),
                id: Some(id.into()),
                ..Default::default()
            },
            admitted_ms: 7,
            standing: None,
            layout: None,
            unreachable_ms: None,
        };
        let entry = |namespace: &str, key: usize| wire::StateEntry {
            namespace: namespace.to_owned(),
            key: format!("{key:04}"),
            value: vec![key as u8; 100].into(),
            version: 9,
        };
        let registry = wire::Registry {
            agents: vec![agent("a1"), agent("a2")],
            gone_agents: vec![wire::Gone {
                agent_id: "a3".into(),
                at_ms: 3,
            }],
            removed_members: vec![4, 5],
            level: Some(2),
            state: (0..500).map(|key| entry("one", key)).chain([entry("two", 1)]).collect(),
            ..wire::Registry::default()
        };
        let mut master = Master::new(Config::default());
        master.restore(registry.clone());
        assert_eq!(encode(&master.image()), registry.encode_to_vec());
        assert_eq!(master.registry(), registry);
    }

    #[test]
    fn a_snapshot_is_due_by_entries_or_in_proportion_to_the_registry() {
        let mut policy = SnapshotPolicy::new(100, 0);
        assert!(!policy.is_due(0, 0));
        assert!(!policy.is_due(99, 99));
        assert!(policy.is_due(100, 100));
        assert!(policy.is_due(1, BYTES_MIN));
        policy.last_bytes = 4 * BYTES_MIN;
        assert!(!policy.is_due(1, BYTES_MIN));
        assert!(!policy.is_due(1000, BYTES_MIN - 1));
        assert!(policy.is_due(1000, BYTES_MIN));
        assert!(!policy.is_due(1, 2 * BYTES_MIN - 1));
        assert!(policy.is_due(1, 2 * BYTES_MIN));
    }
}
