//! Where the members are, and who they are not.
//!
//! An address comes from the registry, or from the member itself with its messages; the later word counts. A newcomer, whose
//! registry is still empty, answers the leader by the latter, and so does a member that came back elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Members that nobody but themselves told of.
const UNREGISTERED_MAX: usize = 16;

#[derive(Debug, Default)]
struct Entry {
    address: String,
    /// As the registry has it; absent where the member itself was the first to tell.
    registered: Option<String>,
    /// Told when the member was heard of or its address changed.
    stirred: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Members {
    entries: BTreeMap<u64, Entry>,
    removed: BTreeSet<u64>,
    /// With whom an error was already logged.
    strangers: BTreeSet<String>,
}

/// The members and their addresses.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<Members>);

impl Book {
    /// Takes over what the registry says. Returns who is known now.
    pub(super) fn set(&self, registered: BTreeMap<u64, String>) -> BTreeSet<u64> {
        let mut members = self.lock();
        members
            .entries
            .retain(|id, entry| entry.registered.is_none() || registered.contains_key(id));
        for (id, address) in registered {
            let entry = members.entries.entry(id).or_default();
            if entry.registered.as_ref() != Some(&address) {
                entry.registered = Some(address.clone());
                entry.move_to(address);
            }
        }
        members.entries.keys().copied().collect()
    }

    pub(super) fn set_removed(&self, removed: BTreeSet<u64>) {
        let mut members = self.lock();
        members.entries.retain(|id, _| !removed.contains(id));
        members.removed = removed;
    }

    pub(super) fn is_removed(&self, id: u64) -> bool {
        self.lock().removed.contains(&id)
    }

    /// A member said where it is. False if there are too many that nobody else told of.
    pub(super) fn heard(&self, id: u64, address: &str) -> bool {
        let mut members = self.lock();
        let unregistered = members.entries.values().filter(|entry| entry.registered.is_none());
        if !members.entries.contains_key(&id) && unregistered.count() >= UNREGISTERED_MAX {
            return false;
        }
        let entry = members.entries.entry(id).or_default();
        if entry.address != address {
            entry.move_to(address.to_owned());
        }
        entry.stirred.notify_one();
        true
    }

    pub(super) fn address(&self, id: u64) -> Option<String> {
        self.lock().entries.get(&id).map(|entry| entry.address.clone())
    }

    /// Told when the member was heard of, or its address changed.
    pub(super) fn stirred(&self, id: u64) -> Arc<Notify> {
        let members = self.lock();
        members
            .entries
            .get(&id)
            .map(|entry| entry.stirred.clone())
            .unwrap_or_default()
    }

    /// Whether this is the first time that there is something to log about a stranger.
    pub(super) fn is_news(&self, stranger: &str) -> bool {
        let mut members = self.lock();
        members.strangers.len() < 1024 && members.strangers.insert(stranger.to_owned())
    }

    /// Nothing panics while it holds this lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, Members> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn move_to(&mut self, address: String) {
        self.address = address;
        self.stirred.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(members: &[(u64, &str)]) -> BTreeMap<u64, String> {
        members
            .iter()
            .map(|(id, address)| (*id, (*address).to_owned()))
            .collect()
    }

    #[test]
    fn the_later_word_counts() {
        let book = Book::default();
        book.set(registry(&[(1, "a:1"), (2, "b:1")]));
        assert!(book.heard(2, "b:2"));
        assert_eq!(book.address(2).as_deref(), Some("b:2"));
        book.set(registry(&[(1, "a:1"), (2, "b:1"), (3, "c:1")]));
        assert_eq!(
            book.address(2).as_deref(),
            Some("b:2"),
            "the registry says nothing new of it"
        );
        book.set(registry(&[(1, "a:1"), (2, "b:3")]));
        assert_eq!(book.address(2).as_deref(), Some("b:3"));
        assert_eq!(book.address(3), None, "it left");
    }

    #[test]
    fn a_newcomer_knows_who_spoke_to_it_but_not_any_number_of_them() {
        let book = Book::default();
        for id in 1..=UNREGISTERED_MAX as u64 {
            assert!(book.heard(id, "a:1"));
        }
        assert!(!book.heard(100, "a:1"));
        assert!(book.heard(1, "a:2"));
        let known = book.set(registry(&[(100, "d:1")]));
        assert!(known.contains(&1) && known.contains(&100));
        book.set_removed([1].into());
        assert!(book.is_removed(1) && book.address(1).is_none());
    }
}
