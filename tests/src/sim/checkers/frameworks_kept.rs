//! A framework goes only when its failover deadline has passed, and then it does go; its id is refused only when it is gone.
//!
//! Reads the committed changes, so it sees what every master sees. Model frameworks are never torn down.

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::registry::Change;
use proffer_proto::registry::change::Body;
use proffer_proto::v1::FrameworkId;

use super::Violation;

const NAME: &str = "frameworks_kept";

#[derive(Debug, Default)]
pub(crate) struct FrameworksKept {
    /// With their failover deadlines, while they are disconnected.
    alive: BTreeMap<FrameworkId, Option<i64>>,
    removed: BTreeSet<FrameworkId>,
}

impl FrameworksKept {
    /// A change is committed.
    pub(crate) fn committed(&mut self, change: &Change) -> Result<(), Violation> {
        match &change.body {
            Some(Body::PutFramework(put)) => {
                if let Some(id) = put.framework.id.clone() {
                    self.alive.insert(id, None);
                }
            }
            Some(Body::FrameworkDisconnected(disconnected)) => {
                self.alive
                    .insert(disconnected.framework_id.clone(), Some(disconnected.deadline_ms));
            }
            Some(Body::FrameworkConnected(connected)) => {
                self.alive.insert(connected.framework_id.clone(), None);
            }
            Some(Body::RemoveFramework(remove)) => return self.removed(&remove.framework_id, remove.at_ms),
            _ => {}
        }
        Ok(())
    }

    fn removed(&mut self, id: &FrameworkId, at_ms: i64) -> Result<(), Violation> {
        let deadline = self.alive.remove(id).flatten();
        self.removed.insert(id.clone());
        if deadline.is_some_and(|deadline| deadline <= at_ms) {
            return Ok(());
        }
        let what = format!("framework {id} is removed at {at_ms}, its failover deadline is {deadline:?}");
        Err(Violation::new(NAME, what))
    }

    /// A master refuses a framework's subscription.
    pub(crate) fn refused(&self, id: Option<&FrameworkId>, why: &str) -> Result<(), Violation> {
        if id.is_some_and(|id| self.removed.contains(id)) {
            return Ok(());
        }
        Err(Violation::new(NAME, format!("framework {id:?} is refused: {why}")))
    }

    /// At the end: a framework that never came back is gone.
    pub(crate) fn finish(&self, dead: &FrameworkId) -> Result<(), Violation> {
        match self.alive.get(dead) {
            None => Ok(()),
            Some(deadline) => {
                let what = format!("framework {dead} never came back and stays; its failover deadline is {deadline:?}");
                Err(Violation::new(NAME, what))
            }
        }
    }
}
