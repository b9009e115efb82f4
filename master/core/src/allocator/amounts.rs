//! Amounts by kind of resource as a dense vector: what everything in the allocator is reckoned in.
//!
//! Amounts are thousandths. Numbers of a range and strings of a set count 1000 each, so that a quota may count ports.

use std::collections::BTreeMap;
use std::sync::Arc;

use proffer_proto::resources::{Entry, Resources};

/// Position of processors in every vector of amounts.
pub(super) const CPUS: usize = 0;
/// Position of memory.
pub(super) const MEM: usize = 1;
const KNOWN: [&str; 5] = ["cpus", "mem", "disk", "gpus", "ports"];
/// So many kinds need no memory of their own.
const FEW: usize = 6;

/// The kinds of resources that were ever seen, by name.
#[derive(Debug)]
pub(super) struct Kinds {
    names: Vec<Arc<str>>,
    others: BTreeMap<Arc<str>, usize>,
}

impl Default for Kinds {
    fn default() -> Self {
        Kinds {
            names: KNOWN.iter().map(|name| Arc::from(*name)).collect(),
            others: BTreeMap::new(),
        }
    }
}

impl Kinds {
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn name(&self, kind: usize) -> &str {
        &self.names[kind]
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let known = KNOWN.iter().position(|known| *known == name);
        known.or_else(|| self.others.get(name).copied())
    }

    pub(super) fn intern(&mut self, name: &str) -> usize {
        if let Some(kind) = self.find(name) {
            return kind;
        }
        let name: Arc<str> = Arc::from(name);
        self.others.insert(Arc::clone(&name), self.names.len());
        self.names.push(name);
        self.names.len() - 1
    }

    /// The sum of the entries that are wanted.
    pub(super) fn sum(&mut self, resources: &Resources, mut wanted: impl FnMut(&Entry) -> bool) -> Amounts {
        let mut sum = Amounts::default();
        for entry in resources {
            if wanted(entry) {
                sum.raise(self.intern(entry.name()), entry.thousandths());
            }
        }
        sum
    }

    /// All of the resources, and the part that is plain.
    pub(super) fn both(&mut self, resources: &Resources) -> (Amounts, Amounts) {
        let mut sums = (Amounts::default(), Amounts::default());
        for entry in resources {
            let (kind, amount) = (self.intern(entry.name()), entry.thousandths());
            sums.0.raise(kind, amount);
            if is_plain(entry) {
                sums.1.raise(kind, amount);
            }
        }
        sums
    }
}

/// Neither reserved nor revocable: what quota decides about.
pub(super) fn is_plain(entry: &Entry) -> bool {
    entry.key().reservations().is_empty() && !entry.key().is_revocable()
}

/// Thousandths by kind. Sums that would not fit stay at the largest value.
#[derive(Debug, Clone, Default)]
pub(super) struct Amounts {
    few: [u64; FEW],
    more: Vec<u64>,
}

impl Amounts {
    /// The same amount of each of so many kinds.
    pub(super) fn filled(kinds: usize, amount: u64) -> Self {
        Amounts {
            few: [amount; FEW],
            more: vec![amount; kinds.saturating_sub(FEW)],
        }
    }

    pub(super) fn get(&self, kind: usize) -> u64 {
        match self.few.get(kind) {
            Some(amount) => *amount,
            None => self.more.get(kind - FEW).copied().unwrap_or(0),
        }
    }

    pub(super) fn at(&mut self, kind: usize) -> &mut u64 {
        if kind < FEW {
            return &mut self.few[kind];
        }
        let kind = kind - FEW;
        if self.more.len() <= kind {
            self.more.resize(kind + 1, 0);
        }
        &mut self.more[kind]
    }

    pub(super) fn raise(&mut self, kind: usize, by: u64) {
        let amount = self.at(kind);
        *amount = amount.saturating_add(by);
    }

    pub(super) fn lower(&mut self, kind: usize, by: u64) {
        let amount = self.at(kind);
        *amount = amount.saturating_sub(by);
    }

    // Plain loops over the few: every compiler turns them into a handful of vector instructions.

    pub(super) fn add(&mut self, other: &Amounts) {
        for kind in 0..FEW {
            self.few[kind] = self.few[kind].saturating_add(other.few[kind]);
        }
        for (kind, other) in other.more.iter().enumerate().filter(|(_, other)| **other > 0) {
            self.raise(kind + FEW, *other);
        }
    }

    pub(super) fn subtract(&mut self, other: &Amounts) {
        for kind in 0..FEW {
            self.few[kind] = self.few[kind].saturating_sub(other.few[kind]);
        }
        for (own, other) in self.more.iter_mut().zip(&other.more) {
            *own = own.saturating_sub(*other);
        }
    }

    pub(super) fn is_zero(&self) -> bool {
        self.few == [0; FEW] && self.more.iter().all(|amount| *amount == 0)
    }

    /// True when there is at least this much of every kind here.
    pub(super) fn contains(&self, other: &Amounts) -> bool {
        let mut all = true;
        for kind in 0..FEW {
            all &= self.few[kind] >= other.few[kind];
        }
        all && (other.more.iter().enumerate()).all(|(kind, other)| self.get(kind + FEW) >= *other)
    }

    /// The lesser of both, kind by kind.
    pub(super) fn lesser(&self, other: &Amounts) -> Amounts {
        let mut lesser = self.clone();
        for kind in 0..FEW {
            lesser.few[kind] = lesser.few[kind].min(other.few[kind]);
        }
        for (kind, own) in lesser.more.iter_mut().enumerate() {
            *own = (*own).min(other.get(kind + FEW));
        }
        lesser
    }

    /// The kinds of which there is something.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let all = self.few.iter().chain(&self.more).copied().enumerate();
        all.filter(|(_, amount)| *amount > 0)
    }

    /// The largest part of the total that is held of any kind, as a fraction of 2^32. Kinds of which the total has
    /// nothing do not count.
    pub(super) fn dominant_share(&self, total: &Amounts) -> u64 {
        let (mut held, mut of) = (0u64, 1u64);
        let mut larger = |amount: u64, total: u64| {
            // amount / total > held / of, without a division.
            if total > 0 && u128::from(amount) * u128::from(of) > u128::from(held) * u128::from(total) {
                (held, of) = (amount, total);
            }
        };
        for kind in 0..FEW {
            larger(self.few[kind], total.few[kind]);
        }
        for (amount, total) in self.more.iter().zip(&total.more) {
            larger(*amount, *total);
        }
        match held.checked_mul(1 << 32) {
            Some(shifted) => shifted / of,
            None => u64::try_from((u128::from(held) << 32) / u128::from(of)).unwrap_or(u64::MAX),
        }
    }
}

impl PartialEq for Amounts {
    fn eq(&self, other: &Self) -> bool {
        self.contains(other) && other.contains(self)
    }
}

impl Eq for Amounts {}
