//! After one and the same entry every member has the same configuration of the group.

use std::collections::BTreeMap;

use proffer_replication::Status;

use super::Violation;

/// Who is in the group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Configuration {
    pub(crate) voters: Vec<u64>,
    pub(crate) outgoing: Vec<u64>,
    pub(crate) learners: Vec<u64>,
}

impl Configuration {
    pub(crate) fn contains(&self, member: u64) -> bool {
        [&self.voters, &self.outgoing, &self.learners]
            .iter()
            .any(|ids| ids.contains(&member))
    }

    pub(crate) fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }
}

impl From<Status> for Configuration {
    fn from(status: Status) -> Self {
        Configuration {
            voters: status.voters,
            outgoing: status.voters_outgoing,
            learners: status.learners,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct ConfigurationsEqual {
    after: BTreeMap<u64, Configuration>,
}

impl ConfigurationsEqual {
    /// The group begins with it.
    pub(crate) fn begin(&mut self, index: u64, configuration: Configuration) {
        self.after.insert(index, configuration);
    }

    pub(crate) fn changed(&mut self, member: u64, index: u64, seen: Configuration) -> Result<(), Violation> {
        let known = self.after.entry(index).or_insert_with(|| seen.clone());
        if *known == seen {
            return Ok(());
        }
        let what = format!("after entry {index} member {member} has {seen:?}, others have {known:?}");
        Err(Violation::new("configurations_equal", what))
    }

    /// The newest one.
    pub(crate) fn latest(&self) -> &Configuration {
        self.after.values().next_back().expect("a group begins with one")
    }

    pub(crate) fn latest_index(&self) -> u64 {
        self.after.keys().next_back().copied().unwrap_or_default()
    }

    /// Whether the member was in the group at any time.
    pub(crate) fn ever_had(&self, member: u64) -> bool {
        self.after.values().any(|configuration| configuration.contains(member))
    }

    /// How often it changed.
    pub(crate) fn count(&self) -> u64 {
        self.after.len() as u64 - 1
    }
}
