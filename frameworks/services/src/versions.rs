//! The versions of a service: what was wanted when, and which of it was done.
//!
//! The version of a specification grows with every change that is accepted, so that whoever changes it can say what it was
//! when he looked. Instances have the version in which what an instance is changed last: one that had been there before
//! comes back under its own number, so that instances which still have it are right again.

use serde::{Deserialize, Serialize};

use crate::spec::ServiceSpec;

/// So many versions are remembered.
pub const HISTORY_MAX: usize = 20;

/// One version of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Its number.
    pub version: u64,
    /// The version that instances have.
    #[serde(default)]
    pub instance_version: u64,
    /// When it was accepted, in milliseconds since the epoch.
    #[serde(default)]
    pub at_ms: u64,
    /// Why it is an older one again, where that came by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverts: Option<String>,
    /// What was wanted.
    pub spec: ServiceSpec,
}

/// All that is remembered of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Versions {
    /// What is wanted now.
    #[serde(flatten)]
    pub current: Version,
    /// The last version of which all instances were ready.
    #[serde(default)]
    pub stable: Option<u64>,
    /// The first index of the instances that serve: see [`SIDE`](crate::plan::SIDE).
    #[serde(default)]
    pub base: u32,
    /// What was wanted before, oldest first.
    #[serde(default)]
    pub history: Vec<Version>,
}

/// A change of a service.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Another specification.
    Spec(Box<ServiceSpec>),
    /// Another number of instances.
    Scale(u32),
    /// All instances anew, with the specification as it is.
    Restart,
    /// An earlier version; the one before what is wanted, where none is named.
    Rollback(Option<u64>),
    /// The version that was done last, because of this.
    Revert(String),
}

impl Versions {
    /// The first version of a service.
    pub fn first(spec: ServiceSpec, version: u64, at_ms: u64) -> Self {
        Self {
            current: Version {
                version,
                instance_version: version,
                at_ms,
                reverts: None,
                spec,
            },
            stable: None,
            base: 0,
            history: Vec::new(),
        }
    }

    /// The versions after a change, which gets this number; `None` where there is no such version to go back to.
    pub fn after(&self, change: Change, version: u64, at_ms: u64) -> Option<Self> {
        let anew = change == Change::Restart;
        let reverts = match &change {
            Change::Revert(reason) => Some(reason.clone()),
            _ => None,
        };
        let spec = match change {
            Change::Spec(spec) => *spec,
            Change::Scale(instances) => ServiceSpec {
                instances,
                ..self.current.spec.clone()
            },
            Change::Restart => self.current.spec.clone(),
            Change::Rollback(wanted) => self.past(wanted)?.spec.clone(),
            Change::Revert(_) => {
                let stable = self.stable.and_then(|stable| self.past(Some(stable)));
                let stable = stable.filter(|stable| stable.instance_version != self.current.instance_version)?;
                ServiceSpec {
                    // How many are wanted is no part of what failed.
                    instances: self.current.spec.instances,
                    ..stable.spec.clone()
                }
            }
        };
        let all = std::iter::once(&self.current).chain(self.history.iter().rev());
        let known = all.filter(|known| !anew && known.spec.same_instance(&spec));
        let instance_version = known.map(|known| known.instance_version).next().unwrap_or(version);
        let mut history = self.history.clone();
        history.push(self.current.clone());
        let stable = self.stable;
        let surplus = history.len().saturating_sub(HISTORY_MAX);
        let mut number = 0;
        history.retain(|past| {
            number += 1;
            number > surplus || Some(past.version) == stable
        });
        Some(Self {
            current: Version {
                version,
                instance_version,
                at_ms,
                reverts,
                spec,
            },
            stable,
            base: self.base,
            history,
        })
    }

    /// A version that is remembered; without a number the latest of which instances were others than now.
    fn past(&self, version: Option<u64>) -> Option<&Version> {
        let mut past = self.history.iter().rev().chain([&self.current]);
        match version {
            Some(version) => past.find(|past| past.version == version),
            None => {
                let mut past = self.history.iter().rev();
                past.find(|past| past.instance_version != self.current.instance_version)
            }
        }
    }

    /// The numbers that may be gone back to.
    pub fn numbers(&self) -> Vec<u64> {
        self.history.iter().map(|past| past.version).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(command: &str, instances: u32) -> Box<ServiceSpec> {
        Box::new(ServiceSpec {
            instances,
            ..ServiceSpec::command("web", command)
        })
    }

    fn numbers(versions: &Versions) -> (u64, u64) {
        (versions.current.version, versions.current.instance_version)
    }

    #[test]
    fn every_change_is_a_version_and_instances_keep_theirs_where_they_may() {
        let first = Versions::first(*spec("a", 1), 3, 0);
        let scaled = first.after(Change::Scale(5), 4, 0).unwrap();
        assert_eq!((numbers(&scaled), scaled.current.spec.instances), ((4, 3), 5));
        let changed = scaled.after(Change::Spec(spec("b", 5)), 5, 0).unwrap();
        assert_eq!(numbers(&changed), (5, 5));
        let restarted = changed.after(Change::Restart, 6, 0).unwrap();
        assert_eq!(
            (numbers(&restarted), restarted.current.spec.run.clone()),
            ((6, 6), changed.current.spec.run)
        );
        let same = restarted.after(Change::Spec(spec("b", 2)), 7, 0).unwrap();
        assert_eq!(numbers(&same), (7, 6), "what was restarted stays so");
        let back = same.after(Change::Rollback(Some(4)), 8, 0).unwrap();
        assert_eq!((numbers(&back), back.current.spec.instances), ((8, 3), 5));
        let before = back.after(Change::Rollback(None), 9, 0).unwrap();
        assert_eq!((numbers(&before), before.numbers()), ((9, 6), vec![3, 4, 5, 6, 7, 8]));
        assert_eq!(before.after(Change::Rollback(Some(99)), 10, 0), None);
        assert_eq!(first.after(Change::Rollback(None), 10, 0), None);
    }

    #[test]
    fn what_failed_goes_back_to_what_was_done_with_as_many_instances_as_now() {
        let mut versions = Versions::first(*spec("a", 2), 1, 0);
        assert_eq!(versions.after(Change::Revert("x".to_owned()), 2, 0), None);
        versions.stable = Some(1);
        let failed = versions.after(Change::Spec(spec("b", 4)), 2, 0).unwrap();
        let back = failed.after(Change::Revert("x".to_owned()), 3, 0).unwrap();
        assert_eq!((numbers(&back), back.current.spec.instances), ((3, 1), 4));
        assert_eq!(back.current.reverts.as_deref(), Some("x"));
        assert_eq!(
            back.after(Change::Revert("x".to_owned()), 4, 0),
            None,
            "there is nothing else to go back to"
        );
    }

    #[test]
    fn the_oldest_are_forgotten_but_not_the_one_that_was_done() {
        let mut versions = Versions::first(*spec("a", 1), 1, 0);
        versions.stable = Some(1);
        for version in 2..100 {
            let change = Change::Spec(spec(&version.to_string(), 1));
            versions = versions.after(change, version, 0).unwrap();
        }
        assert_eq!(versions.history.len(), HISTORY_MAX + 1);
        assert_eq!(versions.numbers()[0], 1);
    }
}
