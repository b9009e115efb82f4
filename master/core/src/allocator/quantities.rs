//! Amounts by name, without reservations: what callers and the allocator tell each other.

use std::collections::BTreeMap;

use proffer_proto::resources::{Resources, Scalar};

/// Thousandths by name; no entry is zero. Numbers of a range and strings of a set count 1000 each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quantities(BTreeMap<String, u64>);

impl Quantities {
    /// From amounts by name; those that are zero are left out.
    pub fn from_amounts(amounts: impl IntoIterator<Item = (String, Scalar)>) -> Self {
        let amounts = amounts.into_iter().map(|(name, amount)| (name, amount.thousandths()));
        Quantities(amounts.filter(|(_, amount)| *amount > 0).collect())
    }

    /// All of the resources, whatever their reservation.
    pub fn of(resources: &Resources) -> Self {
        let mut quantities = Self::default();
        quantities.add(resources);
        quantities
    }

    /// Adds resources.
    pub fn add(&mut self, resources: &Resources) {
        for entry in resources {
            self.raise(entry.name(), entry.thousandths());
        }
    }

    pub(super) fn raise(&mut self, name: &str, by: u64) {
        if by == 0 {
            return;
        }
        match self.0.get_mut(name) {
            Some(sum) => *sum = sum.saturating_add(by),
            None => {
                self.0.insert(name.to_owned(), by);
            }
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        for (name, amount) in other.iter() {
            sum.raise(name, amount);
        }
        sum
    }

    /// True when there is at least as much of every kind here.
    pub fn contains(&self, other: &Self) -> bool {
        let mut amounts = other.iter();
        amounts.all(|(name, amount)| self.0.get(name).is_some_and(|own| *own >= amount))
    }

    /// The amount of one kind.
    pub fn get(&self, name: &str) -> Scalar {
        Scalar::from_thousandths(self.0.get(name).copied().unwrap_or(0))
    }

    /// The amounts in thousandths, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }
}
