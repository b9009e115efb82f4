//! Dense storage: what lives is kept in an array and named by its index.
//!
//! An index is used again after its entry is removed, so whoever removes an entry removes every index of it too.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// A typed index.
pub trait Slot: Copy + Ord + fmt::Debug {
    /// The slot of an index.
    fn from_index(index: u32) -> Self;
    /// Its index.
    fn index(self) -> usize;
}

macro_rules! slot {
    ($(#[$doc:meta])* $visibility:vis $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visibility struct $name(u32);

        impl Slot for $name {
            fn from_index(index: u32) -> Self {
                $name(index)
            }

            fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

slot!(
    /// An agent that is in the registry.
    pub AgentSlot
);
slot!(
    /// A framework that is in the registry.
    pub(crate) FrameworkSlot
);
slot!(
    /// One role of one framework: what is offered to.
    pub ClaimSlot
);
slot!(
    /// A task that is not yet forgotten.
    pub(crate) TaskSlot
);

/// An array of what lives.
pub(crate) struct Slots<K, T> {
    entries: Vec<Option<T>>,
    free: Vec<u32>,
    key: PhantomData<K>,
}

impl<K, T> Default for Slots<K, T> {
    fn default() -> Self {
        Slots {
            entries: Vec::new(),
            free: Vec::new(),
            key: PhantomData,
        }
    }
}

impl<K: Slot, T: fmt::Debug> fmt::Debug for Slots<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Slot, T> Slots<K, T> {
    pub(crate) fn insert(&mut self, entry: T) -> K {
        if let Some(index) = self.free.pop() {
            self.entries[index as usize] = Some(entry);
            return K::from_index(index);
        }
        let index = u32::try_from(self.entries.len()).expect("fewer than 2^32 entries fit in memory");
        self.entries.push(Some(entry));
        K::from_index(index)
    }

    pub(crate) fn get(&self, key: K) -> Option<&T> {
        self.entries.get(key.index())?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut T> {
        self.entries.get_mut(key.index())?.as_mut()
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<T> {
        let entry = self.entries.get_mut(key.index())?.take()?;
        self.free
            .push(u32::try_from(key.index()).expect("it was made from a u32"));
        Some(entry)
    }

    /// In the order of the indices.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.entries
            .iter()
            .enumerate()
            .filter_map(|(index, entry)| Some((K::from_index(index as u32), entry.as_ref()?)))
    }

    pub(crate) fn keys(&self) -> Vec<K> {
        self.iter().map(|(key, _)| key).collect()
    }
}

impl<K: Slot, T> Index<K> for Slots<K, T> {
    type Output = T;

    #[inline]
    fn index(&self, key: K) -> &T {
        self.get(key).expect("the indices of an entry go with the entry")
    }
}

impl<K: Slot, T> IndexMut<K> for Slots<K, T> {
    #[inline]
    fn index_mut(&mut self, key: K) -> &mut T {
        self.get_mut(key).expect("the indices of an entry go with the entry")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_used_again_only_after_its_entry_is_removed() {
        let mut slots = Slots::<TaskSlot, &str>::default();
        let (a, b) = (slots.insert("a"), slots.insert("b"));
        assert_ne!(a, b);
        assert_eq!(slots.remove(a), Some("a"));
        assert_eq!(slots.remove(a), None);
        assert_eq!(slots.get(a), None);
        assert_eq!(slots.insert("c"), a);
        assert_eq!(slots.iter().map(|(_, entry)| *entry).collect::<Vec<_>>(), ["c", "b"]);
    }
}
