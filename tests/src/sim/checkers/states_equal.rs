//! After one and the same entry every master has the same registry, and the one that follows from the entries.

use std::collections::BTreeMap;

use super::Violation;

#[derive(Debug, Default)]
pub(crate) struct StatesEqual {
    /// Hashes of the registry.
    after: BTreeMap<u64, u64>,
}

impl StatesEqual {
    /// A master, or the replay of all committed entries, has this state after an entry.
    pub(crate) fn seen(&mut self, who: &str, index: u64, hash: u64) -> Result<(), Violation> {
        if *self.after.entry(index).or_insert(hash) == hash {
            return Ok(());
        }
        let what = format!("after entry {index} {who} has another registry than others");
        Err(Violation::new("states_equal", what))
    }
}
