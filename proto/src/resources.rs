//! Exact arithmetic on resources.
//!
//! [`Resources`] is a multiset of quantities by [`Key`]: amounts in thousandths, sets of numbers, sets of strings. It is
//! normalised (one entry a key, none empty, sorted), so that equal resources are equal values. A disk that cannot be split
//! is counted in copies: it is there whole or not at all.

mod key;
#[cfg(test)]
mod laws;
mod ranges;
mod scalar;
mod text;
mod wire;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};
use std::sync::Arc;

pub use key::{Key, Kind, Reservation};
pub use ranges::Ranges;
pub use scalar::Scalar;

use crate::roles;
use key::Traits;

/// A set of strings.
pub type Set = BTreeSet<String>;

/// How much of a resource there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Quantity {
    /// An amount.
    Scalar(Scalar),
    /// A set of numbers.
    Ranges(Ranges),
    /// A set of strings.
    Set(Set),
}

impl Quantity {
    /// Its type.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Scalar(_) => Kind::Scalar,
            Self::Ranges(_) => Kind::Ranges,
            Self::Set(_) => Kind::Set,
        }
    }

    /// Whether this is nothing.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Scalar(amount) => amount.is_zero(),
            Self::Ranges(ranges) => ranges.is_empty(),
            Self::Set(set) => set.is_empty(),
        }
    }

    // Quantities of different types never meet: the type is part of the key.

    fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Scalar(own), Self::Scalar(other)) => *own += *other,
            (Self::Ranges(own), Self::Ranges(other)) => *own = own.union(other),
            (Self::Set(own), Self::Set(other)) => own.extend(other.iter().cloned()),
            _ => {}
        }
    }

    fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(own), Self::Scalar(other)) => own >= other,
            (Self::Ranges(own), Self::Ranges(other)) => own.contains(other),
            (Self::Set(own), Self::Set(other)) => own.is_superset(other),
            _ => false,
        }
    }

    fn checked_sub(&self, other: &Self) -> Option<Self> {
        Some(match (self, other) {
            (Self::Scalar(own), Self::Scalar(other)) => Self::Scalar(own.checked_sub(*other)?),
            _ if !self.contains(other) => return None,
            (Self::Ranges(own), Self::Ranges(other)) => Self::Ranges(own.difference(other)),
            (Self::Set(own), Self::Set(other)) => Self::Set(own.difference(other).cloned().collect()),
            _ => return None,
        })
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ranges(own), Self::Ranges(other)) => !own.intersection(other).is_empty(),
            (Self::Set(own), Self::Set(other)) => !own.is_disjoint(other),
            _ => false,
        }
    }
}

/// One kind of resource and how much of it there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    key: Key,
    quantity: Quantity,
    /// How often a disk that cannot be split is there; 1 for all else.
    copies: u64,
}

impl Entry {
    /// Which kind of resource.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.key.name()
    }

    /// How much of it, in one copy.
    pub fn quantity(&self) -> &Quantity {
        &self.quantity
    }

    /// How often it is there: more than once for a shared volume with several users.
    pub fn copies(&self) -> u64 {
        self.copies
    }

    /// The amount, where it is one; a shared volume counts once.
    pub fn scalar(&self) -> Option<Scalar> {
        match self.quantity {
            Quantity::Scalar(amount) if self.key.is_shared() => Some(amount),
            Quantity::Scalar(amount) => Some(amount.saturating_mul(self.copies)),
            _ => None,
        }
    }

    /// Whether it cannot be split: it is had whole or not at all.
    pub fn is_whole(&self) -> bool {
        self.key.whole().is_some()
    }

    /// How much it is in thousandths, where one number or string counts 1000. No entry counts for more than 2^51.
    pub fn thousandths(&self) -> u64 {
        let count = match &self.quantity {
            Quantity::Scalar(_) => return self.scalar().map_or(0, Scalar::thousandths),
            Quantity::Ranges(ranges) => ranges.len(),
            Quantity::Set(set) => set.len() as u64,
        };
        count.saturating_mul(1000).min(Scalar::ACCEPTED_MAX.thousandths())
    }

    /// The part that is no more than so many thousandths; `None` where that is nothing.
    fn at_most(&self, bound: u64) -> Option<Self> {
        if self.thousandths() <= bound {
            return Some(self.clone());
        }
        if self.key.whole().is_some() {
            return None;
        }
        let count = bound / 1000;
        let quantity = match &self.quantity {
            Quantity::Scalar(_) => Quantity::Scalar(Scalar::from_thousandths(bound)),
            Quantity::Ranges(ranges) => Quantity::Ranges(ranges.lowest(count)?),
            Quantity::Set(set) => Quantity::Set(set.iter().take(count as usize).cloned().collect()),
        };
        (!quantity.is_empty()).then(|| Self {
            key: self.key.clone(),
            quantity,
            copies: self.copies,
        })
    }

    fn add(&mut self, other: &Self) {
        if self.key.whole().is_some() {
            self.copies = self.copies.saturating_add(other.copies);
        } else {
            self.quantity.add(&other.quantity);
        }
    }

    fn contains(&self, other: &Self) -> bool {
        if self.key.whole().is_some() {
            self.copies >= other.copies
        } else {
            self.quantity.contains(&other.quantity)
        }
    }

    /// What is in both, of the same key.
    fn common(&self, other: &Self) -> Option<Self> {
        let mut common = self.clone();
        if self.key.whole().is_some() {
            common.copies = self.copies.min(other.copies);
            return Some(common);
        }
        common.quantity = match (&self.quantity, &other.quantity) {
            (Quantity::Scalar(own), Quantity::Scalar(other)) => Quantity::Scalar(*own.min(other)),
            (Quantity::Ranges(own), Quantity::Ranges(other)) => Quantity::Ranges(own.intersection(other)),
            (Quantity::Set(own), Quantity::Set(other)) => Quantity::Set(own.intersection(other).cloned().collect()),
            _ => return None,
        };
        (!common.quantity.is_empty()).then_some(common)
    }

    /// What is left; `Some(None)` where that is nothing.
    fn checked_sub(&self, other: &Self) -> Option<Option<Self>> {
        let mut left = self.clone();
        if self.key.whole().is_some() {
            left.copies = self.copies.checked_sub(other.copies)?;
            return Some((left.copies > 0).then_some(left));
        }
        left.quantity = self.quantity.checked_sub(&other.quantity)?;
        Some((!left.quantity.is_empty()).then_some(left))
    }
}

/// A normalised multiset of resources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    /// Sorted by key, one a key, none empty.
    entries: Vec<Entry>,
}

impl Resources {
    /// Nothing.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// A plain resource: unreserved, not allocated.
    pub fn of(name: &str, quantity: Quantity) -> Self {
        let key = Key {
            name: key::shared(name),
            kind: quantity.kind(),
            traits: None,
            allocation_role: None,
        };
        let mut resources = Self::new();
        resources.insert(Entry {
            key,
            quantity,
            copies: 1,
        });
        resources
    }

    /// A plain amount.
    pub fn of_scalar(name: &str, amount: Scalar) -> Self {
        Self::of(name, Quantity::Scalar(amount))
    }

    /// A plain set of numbers.
    pub fn of_ranges(name: &str, ranges: Ranges) -> Self {
        Self::of(name, Quantity::Ranges(ranges))
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries, in the order of their keys.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// The sum of all amounts of that name, reserved or not.
    pub fn scalar(&self, name: &str) -> Scalar {
        self.named(name).filter_map(Entry::scalar).sum()
    }

    /// The union of all ranges of that name, reserved or not.
    pub fn ranges(&self, name: &str) -> Cow<'_, Ranges> {
        self.named(name)
            .filter_map(|entry| match &entry.quantity {
                Quantity::Ranges(ranges) => Some(Cow::Borrowed(ranges)),
                _ => None,
            })
            .reduce(|sum, ranges| Cow::Owned(sum.union(&ranges)))
            .unwrap_or_default()
    }

    fn named<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a Entry> + use<'a, 'n> {
        self.iter().filter(move |entry| &*entry.key.name == name)
    }

    /// Processors.
    pub fn cpus(&self) -> Scalar {
        self.scalar("cpus")
    }

    /// Memory in megabytes (2^20 bytes).
    pub fn mem(&self) -> Scalar {
        self.scalar("mem")
    }

    /// Disk space in megabytes (2^20 bytes).
    pub fn disk(&self) -> Scalar {
        self.scalar("disk")
    }

    /// Graphics processors.
    pub fn gpus(&self) -> Scalar {
        self.scalar("gpus")
    }

    /// Network ports.
    pub fn ports(&self) -> Cow<'_, Ranges> {
        self.ranges("ports")
    }

    /// The amounts by name, whatever their reservation.
    pub fn scalars(&self) -> BTreeMap<&str, Scalar> {
        let mut sums = BTreeMap::new();
        for entry in self {
            if let Some(amount) = entry.scalar() {
                *sums.entry(entry.name()).or_default() += amount;
            }
        }
        sums
    }

    /// The entries that are wanted.
    #[must_use]
    pub fn filter(&self, mut wanted: impl FnMut(&Entry) -> bool) -> Self {
        Self {
            entries: self.iter().filter(|entry| wanted(entry)).cloned().collect(),
        }
    }

    /// What is reserved for any role.
    #[must_use]
    pub fn reserved(&self) -> Self {
        self.filter(|entry| entry.key.reservation_role().is_some())
    }

    /// What is reserved for exactly this role.
    #[must_use]
    pub fn reserved_for(&self, role: &str) -> Self {
        self.filter(|entry| entry.key.reservation_role() == Some(role))
    }

    /// What is not reserved.
    #[must_use]
    pub fn unreserved(&self) -> Self {
        self.filter(|entry| entry.key.reservation_role().is_none())
    }

    /// What may be offered to a role: unreserved, or reserved for the role or one above it.
    #[must_use]
    pub fn available_to(&self, role: &str) -> Self {
        self.filter(|entry| match entry.key.reservation_role() {
            None => true,
            Some(reserved) => reserved == role || roles::is_below(role, reserved),
        })
    }

    /// At most so much of every entry, in thousandths, where one number or string counts 1000; `None` where there is no
    /// bound. Amounts are cut, of ranges the lowest numbers are taken, of sets the first strings; a disk that cannot be
    /// split is taken whole or not at all.
    #[must_use]
    pub fn bounded(&self, mut bound: impl FnMut(&Entry) -> Option<u64>) -> Self {
        let cut = |entry: &Entry| match bound(entry) {
            Some(bound) => entry.at_most(bound),
            None => Some(entry.clone()),
        };
        Self {
            entries: self.iter().filter_map(cut).collect(),
        }
    }

    /// What may be taken back.
    #[must_use]
    pub fn revocable(&self) -> Self {
        self.filter(|entry| entry.key.is_revocable())
    }

    /// What may not be taken back.
    #[must_use]
    pub fn non_revocable(&self) -> Self {
        self.filter(|entry| !entry.key.is_revocable())
    }

    /// What several tasks may use at once.
    #[must_use]
    pub fn shared(&self) -> Self {
        self.filter(|entry| entry.key.is_shared())
    }

    /// What is allocated to this role.
    #[must_use]
    pub fn allocated_to(&self, role: &str) -> Self {
        self.filter(|entry| entry.key.allocation_role() == Some(role))
    }

    /// The same resources, allocated to a role.
    #[must_use]
    pub fn allocate(self, role: &str) -> Self {
        let role: Arc<str> = Arc::from(role);
        self.map_keys(|key| key.allocation_role = Some(Arc::clone(&role)))
    }

    /// The same resources, allocated to nobody.
    #[must_use]
    pub fn unallocate(self) -> Self {
        self.map_keys(|key| key.allocation_role = None)
    }

    /// The same resources with one more layer of reservation.
    #[must_use]
    pub fn reserve(self, reservation: &Reservation) -> Self {
        self.map_traits(|traits| traits.reservations.push(reservation.clone()))
    }

    /// The same resources without the innermost layer of their reservations.
    #[must_use]
    pub fn unreserve(self) -> Self {
        self.map_traits(|traits| {
            traits.reservations.pop();
        })
    }

    /// The same resources without any reservation.
    #[must_use]
    pub fn to_unreserved(self) -> Self {
        self.map_traits(|traits| traits.reservations.clear())
    }

    /// The same resources, where persistent volumes are the reserved disk space that they are made of.
    #[must_use]
    pub fn to_plain_disk(self) -> Self {
        self.map_traits(Traits::lose_volume)
    }

    /// The same resources as the agent declares them: without dynamic reservations and persistent volumes.
    #[must_use]
    pub fn to_declared(self) -> Self {
        self.map_traits(|traits| {
            traits.lose_volume();
            while traits.reservations.last().is_some_and(|layer| layer.dynamic) {
                traits.reservations.pop();
            }
        })
    }

    /// What operations made of declared resources: dynamic reservations and persistent volumes.
    #[must_use]
    pub fn converted(&self) -> Self {
        self.filter(|entry| entry.key.is_converted())
    }

    /// What of these resources is also in `other`; of what cannot be split, all or nothing.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        let mut common = Self::new();
        for own in self {
            if let Ok(index) = other.position(&own.key)
                && let Some(shared) = own.common(&other.entries[index])
            {
                common.insert(shared);
            }
        }
        common
    }

    /// The same resources, such that they may be taken back.
    #[must_use]
    pub fn to_revocable(self) -> Self {
        self.map_traits(|traits| traits.revocable = true)
    }

    /// The same resources, such that they may not be taken back.
    #[must_use]
    pub fn to_firm(self) -> Self {
        self.map_traits(|traits| traits.revocable = false)
    }

    /// What is left when as much as possible of the other is taken away.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.checked_sub(&self.common(other)).unwrap_or_default()
    }

    fn map_traits(self, change: impl Fn(&mut Traits)) -> Self {
        self.map_keys(|key| {
            let mut traits = key.traits.as_deref().cloned().unwrap_or_default();
            change(&mut traits);
            *key = key.clone().with_traits(traits);
        })
    }

    fn map_keys(mut self, change: impl Fn(&mut Key)) -> Self {
        for entry in &mut self.entries {
            change(&mut entry.key);
        }
        // Keys may have lost their order, or become equal.
        self.entries.sort_by(|a, b| a.key.cmp(&b.key));
        self.entries.dedup_by(|next, kept| {
            let same = next.key == kept.key;
            if same {
                kept.add(next);
            }
            same
        });
        self
    }

    /// Whether all of `other` is here.
    pub fn contains(&self, other: &Self) -> bool {
        let mut own = self.entries.iter();
        other.entries.iter().all(|wanted| {
            own.find(|entry| entry.key >= wanted.key)
                .is_some_and(|entry| entry.key == wanted.key && entry.contains(wanted))
        })
    }

    /// Whether a number, a string or an unshared volume is in both, so that their sum would count it once too few.
    pub fn overlaps(&self, other: &Self) -> bool {
        other.entries.iter().any(|theirs| {
            self.position(&theirs.key).is_ok_and(|index| {
                let whole = theirs.key.whole().is_some() && !theirs.key.is_shared();
                whole || self.entries[index].quantity.overlaps(&theirs.quantity)
            })
        })
    }

    /// What is left without `other`; `None` where not all of it is here.
    #[must_use]
    pub fn checked_sub(&self, other: &Self) -> Option<Self> {
        let mut entries = Vec::with_capacity(self.entries.len());
        let mut taken = other.entries.iter().peekable();
        for entry in &self.entries {
            match taken.next_if(|next| next.key == entry.key) {
                Some(next) => entries.extend(entry.checked_sub(next)?),
                None => entries.push(entry.clone()),
            }
        }
        taken.next().is_none().then_some(Self { entries })
    }

    /// Takes `other` away, and says whether all of it was here; if not, nothing changes.
    #[must_use]
    pub fn try_subtract(&mut self, other: &Self) -> bool {
        match self.checked_sub(other) {
            Some(left) => {
                *self = left;
                true
            }
            None => false,
        }
    }

    fn position(&self, key: &Key) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.key.cmp(key))
    }

    fn insert(&mut self, entry: Entry) {
        if entry.quantity.is_empty() {
            return;
        }
        match self.position(&entry.key) {
            Ok(index) => self.entries[index].add(&entry),
            Err(index) => self.entries.insert(index, entry),
        }
    }
}

impl AddAssign<&Resources> for Resources {
    /// Amounts add up; sets are united.
    fn add_assign(&mut self, other: &Resources) {
        let mut from = 0;
        for entry in &other.entries {
            let later = self.entries[from..].binary_search_by(|own| own.key.cmp(&entry.key));
            from += match later {
                Ok(index) => {
                    self.entries[from + index].add(entry);
                    index + 1
                }
                Err(index) => {
                    self.entries.insert(from + index, entry.clone());
                    index + 1
                }
            };
        }
    }
}

impl AddAssign for Resources {
    fn add_assign(&mut self, other: Resources) {
        *self += &other;
    }
}

impl Add<&Resources> for Resources {
    type Output = Resources;

    fn add(mut self, other: &Resources) -> Resources {
        self += other;
        self
    }
}

impl Add for Resources {
    type Output = Resources;

    fn add(self, other: Resources) -> Resources {
        self + &other
    }
}

impl Sum for Resources {
    fn sum<I: Iterator<Item = Resources>>(all: I) -> Resources {
        all.fold(Resources::new(), Add::add)
    }
}

impl<'a> Sum<&'a Resources> for Resources {
    fn sum<I: Iterator<Item = &'a Resources>>(all: I) -> Resources {
        all.fold(Resources::new(), Add::add)
    }
}

impl<'a> IntoIterator for &'a Resources {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Resources {
    /// As operators write it, `cpus:4;ports:[31000-32000]`, with `(role)` after the name of what is reserved and braces
    /// around what else there is to say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write(self, f)
    }
}
