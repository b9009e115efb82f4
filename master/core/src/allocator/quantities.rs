//! Amounts by name, without reservations: what shares are reckoned in.

use std::collections::BTreeMap;

use proffer_proto::resources::{Resources, Scalar};

/// Thousandths by name; no entry is zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Quantities(BTreeMap<String, u64>);

impl Quantities {
    pub(crate) fn from_amounts(amounts: impl IntoIterator<Item = (String, Scalar)>) -> Self {
        let amounts = amounts.into_iter().map(|(name, amount)| (name, amount.thousandths()));
        Quantities(amounts.filter(|(_, amount)| *amount > 0).collect())
    }

    pub(crate) fn add(&mut self, resources: &Resources) {
        for entry in resources {
            let Some(amount) = entry.scalar().filter(|amount| !amount.is_zero()) else {
                continue;
            };
            match self.0.get_mut(entry.name()) {
                Some(sum) => *sum = sum.saturating_add(amount.thousandths()),
                None => {
                    self.0.insert(entry.name().to_owned(), amount.thousandths());
                }
            }
        }
    }

    pub(crate) fn subtract(&mut self, resources: &Resources) {
        for entry in resources {
            let Some(amount) = entry.scalar() else { continue };
            if let Some(sum) = self.0.get_mut(entry.name()) {
                *sum = sum.saturating_sub(amount.thousandths());
                if *sum == 0 {
                    self.0.remove(entry.name());
                }
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// True when the resources hold at least this much of every kind named here.
    pub(crate) fn within(&self, resources: &Resources) -> bool {
        self.iter()
            .all(|(name, amount)| resources.scalar(name).thousandths() >= amount)
    }

    /// The largest part of the total that is held of any kind, as a fraction of 2^32.
    pub(crate) fn dominant_share(&self, total: &Quantities) -> u64 {
        let shares = self.iter().filter_map(|(name, held)| {
            let total = *total.0.get(name)?;
            Some(u64::try_from((u128::from(held) << 32) / u128::from(total)).unwrap_or(u64::MAX))
        });
        shares.max().unwrap_or(0)
    }
}
