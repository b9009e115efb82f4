//! An ordered map whose copies share what they have in common, so that a copy of a large one is made at once.
//!
//! Entries are kept in chunks of neighbours. A copy shares all chunks; whichever of the two is changed first copies the one
//! chunk that the change is in.

use std::borrow::Borrow;
use std::ops::Bound;
use std::sync::Arc;

/// A chunk that grows beyond this is split.
const CHUNK_MAX: usize = 64;

/// The map. No chunk is empty.
#[derive(Debug, Clone)]
pub(crate) struct SharedMap<K, V> {
    chunks: Vec<Arc<Vec<(K, V)>>>,
    len: usize,
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        SharedMap {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The last chunk that begins with the key or before it; the first one where there is none.
    fn chunk<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        let after = self.chunks.partition_point(|chunk| chunk[0].0.borrow() <= key);
        after.saturating_sub(1)
    }

    fn place<Q: Ord + ?Sized>(chunk: &[(K, V)], key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        chunk.binary_search_by(|(known, _)| known.borrow().cmp(key))
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let chunk = self.chunks.get(self.chunk(key))?;
        let at = Self::place(chunk, key).ok()?;
        Some(&chunk[at].1)
    }

    pub(crate) fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// An entry to be changed.
    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let at = self.chunk(key);
        let chunk = self.chunks.get_mut(at)?;
        let at = Self::place(chunk, key).ok()?;
        Some(&mut Arc::make_mut(chunk)[at].1)
    }

    /// Puts an entry in the place of the one with its key, which is returned.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let index = self.chunk(&key);
        let Some(chunk) = self.chunks.get_mut(index) else {
            self.chunks.push(Arc::new(vec![(key, value)]));
            self.len = 1;
            return None;
        };
        let place = Self::place(chunk, &key);
        let entries = Arc::make_mut(chunk);
        match place {
            Ok(at) => return Some(std::mem::replace(&mut entries[at].1, value)),
            Err(at) => entries.insert(at, (key, value)),
        }
        self.len += 1;
        if entries.len() > CHUNK_MAX {
            // Keys that come in order fill the chunk that they end.
            let at = if place == Err(entries.len() - 1) {
                entries.len() - 1
            } else {
                entries.len() / 2
            };
            let rest = entries.split_off(at);
            self.chunks.insert(index + 1, Arc::new(rest));
        }
        None
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let index = self.chunk(key);
        let chunk = self.chunks.get_mut(index)?;
        let at = Self::place(chunk, key).ok()?;
        self.len -= 1;
        if chunk.len() == 1 {
            let chunk = self.chunks.remove(index);
            return Some(chunk[0].1.clone());
        }
        Some(Arc::make_mut(chunk).remove(at).1)
    }

    /// In the order of the keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let entries = self.chunks.iter().flat_map(|chunk| chunk.iter());
        entries.map(|(key, value)| (key, value))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// From a key on, in order.
    pub(crate) fn range<Q: Ord + ?Sized>(&self, from: Bound<&Q>) -> impl Iterator<Item = (&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (index, at) = match from {
            Bound::Unbounded => (0, 0),
            Bound::Included(key) | Bound::Excluded(key) => {
                let index = self.chunk(key);
                let at = self.chunks.get(index).map(|chunk| Self::place(chunk, key));
                let at = match (at, from) {
                    (Some(Ok(at)), Bound::Excluded(_)) => at + 1,
                    (Some(Ok(at) | Err(at)), _) => at,
                    (None, _) => 0,
                };
                (index, at)
            }
        };
        let chunks = self.chunks.get(index..).unwrap_or_default();
        let entries = chunks.iter().flat_map(|chunk| chunk.iter()).skip(at);
        entries.map(|(key, value)| (key, value))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A small generator of repeatable numbers.
    fn below(random: &mut u64, bound: u64) -> u64 {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        (*random >> 16) % bound
    }

    fn agree(map: &SharedMap<u64, u64>, twin: &BTreeMap<u64, u64>) {
        assert!(map.iter().eq(twin.iter()));
        assert_eq!(map.len(), twin.len());
        assert!(map.chunks.iter().all(|chunk| (1..=CHUNK_MAX).contains(&chunk.len())));
    }

    #[test]
    fn it_behaves_as_a_plain_map_does_and_copies_stay_as_they_were() {
        for seed in 1..40 {
            let mut random = seed * 0x9e37_79b9;
            let keys = 10 + below(&mut random, 1000);
            let (mut map, mut twin) = (SharedMap::default(), BTreeMap::new());
            let mut copies = Vec::new();
            for step in 0..2000 {
                let key = below(&mut random, keys);
                match below(&mut random, 16) {
                    0..8 => assert_eq!(map.insert(key, step), twin.insert(key, step)),
                    8..13 => assert_eq!(map.remove(&key), twin.remove(&key)),
                    13 => assert_eq!(map.get_mut(&key), twin.get_mut(&key)),
                    14 => {
                        let from = [Bound::Included(&key), Bound::Excluded(&key), Bound::Unbounded];
                        for from in from {
                            assert!(map.range(from).eq(twin.range((from, Bound::Unbounded))));
                        }
                    }
                    _ if step % 8 == 0 => copies.push((map.clone(), twin.clone())),
                    _ => assert_eq!(map.get(&key), twin.get(&key)),
                }
            }
            agree(&map, &twin);
            for (map, twin) in &copies {
                agree(map, twin);
            }
        }
    }

    #[test]
    fn keys_that_come_in_order_fill_the_chunks() {
        let mut map = SharedMap::default();
        for key in 0..10 * CHUNK_MAX {
            map.insert(key, ());
        }
        assert_eq!(map.chunks.len(), 10);
    }
}
