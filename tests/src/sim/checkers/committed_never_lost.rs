//! What one member tells as committed, every member tells, in the same place; so nothing that was acknowledged is ever lost.
//!
//! Whoever hears that a change is committed hears it after its member told it. So every acknowledged change is in
//! this checker's books, and it is enough to see that no member ever tells anything else in its place, that none is skipped,
//! that every new leader has told everything of earlier terms, and (at the end, [`super::caught_up`]) that all have
//! told all of it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Violation;

const NAME: &str = "committed_never_lost";

#[derive(Debug)]
struct Entry {
    data: Bytes,
    /// The highest term that had a leader when it was first told; its own term is not higher.
    term: u64,
}

#[derive(Debug, Default)]
pub(crate) struct CommittedNeverLost {
    entries: BTreeMap<u64, Entry>,
    /// How far each member has told.
    told: BTreeMap<u64, u64>,
    term: u64,
}

impl CommittedNeverLost {
    /// The member starts again from its snapshot, or a snapshot replaced its state.
    pub(crate) fn continues(&mut self, member: u64, index: u64) {
        self.told.insert(member, index);
    }

    /// A member tells an entry. True if it is the first who does.
    pub(crate) fn told(&mut self, member: u64, index: u64, data: &Bytes) -> Result<bool, Violation> {
        let before = self.told.insert(member, index).unwrap_or_default();
        if index <= before {
            let what = format!("member {member} tells entry {index} after entry {before}");
            return Err(Violation::new(NAME, what));
        }
        if let Some((skipped, _)) = self.entries.range(before + 1..index).next() {
            let what = format!("member {member} tells entry {index} after entry {before} and skips entry {skipped}");
            return Err(Violation::new(NAME, what));
        }
        match self.entries.get(&index) {
            Some(known) if known.data == *data => Ok(false),
            Some(_) => {
                let what = format!("member {member} tells another entry {index} than the others");
                Err(Violation::new(NAME, what))
            }
            None if index < self.last() => {
                let what = format!("member {member} tells an entry {index} that others skipped");
                Err(Violation::new(NAME, what))
            }
            None => {
                let entry = Entry {
                    data: data.clone(),
                    term: self.term,
                };
                self.entries.insert(index, entry);
                Ok(true)
            }
        }
    }

    /// A member leads, and so has told everything of earlier terms.
    pub(crate) fn led(&mut self, member: u64, term: u64) -> Result<(), Violation> {
        self.term = self.term.max(term);
        let told = self.told.get(&member).copied().unwrap_or_default();
        let lacks = self.entries.range(told + 1..).find(|(_, entry)| entry.term < term);
        match lacks {
            None => Ok(()),
            Some((index, entry)) => {
                let what = format!(
                    "member {member} leads term {term} without entry {index}, which was committed in term {}",
                    entry.term
                );
                Err(Violation::new(NAME, what))
            }
        }
    }

    /// The last committed entry.
    pub(crate) fn last(&self) -> u64 {
        self.entries.last_key_value().map_or(0, |(index, _)| *index)
    }

    pub(crate) fn told_by(&self, member: u64) -> u64 {
        self.told.get(&member).copied().unwrap_or_default()
    }

    pub(crate) fn count(&self) -> u64 {
        self.entries.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(checker: &mut CommittedNeverLost, member: u64, index: u64, data: &'static str) -> Result<bool, String> {
        let told = checker.told(member, index, &Bytes::from_static(data.as_bytes()));
        told.map_err(|violation| violation.what)
    }

    #[test]
    fn another_entry_in_the_same_place_is_seen() {
        let mut checker = CommittedNeverLost::default();
        assert_eq!(told(&mut checker, 1, 2, "a"), Ok(true));
        assert_eq!(told(&mut checker, 2, 2, "a"), Ok(false));
        let seen = told(&mut checker, 3, 2, "b").unwrap_err();
        assert_eq!(seen, "member 3 tells another entry 2 than the others");
    }

    #[test]
    fn a_skipped_entry_is_seen() {
        let mut checker = CommittedNeverLost::default();
        told(&mut checker, 1, 2, "a").unwrap();
        told(&mut checker, 1, 3, "b").unwrap();
        let seen = told(&mut checker, 2, 3, "b").unwrap_err();
        assert_eq!(seen, "member 2 tells entry 3 after entry 0 and skips entry 2");
        checker.continues(4, 2);
        assert_eq!(told(&mut checker, 4, 3, "b"), Ok(false));
    }

    #[test]
    fn a_leader_without_what_was_committed_is_seen() {
        let mut checker = CommittedNeverLost::default();
        checker.led(1, 2).unwrap();
        told(&mut checker, 1, 2, "a").unwrap();
        assert!(checker.led(2, 3).is_err());
        told(&mut checker, 2, 2, "a").unwrap();
        checker.led(2, 3).unwrap();
        checker.led(3, 2).unwrap();
    }
}
