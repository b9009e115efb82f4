//! The quotas and weights of roles, as the registry has them.

use std::sync::Arc;

use proffer_proto::registry as wire;

use super::SharedMap;

/// The weight of a role that nobody gave one, in thousandths.
pub const WEIGHT_DEFAULT: u64 = 1000;

/// What operators have set of roles. A role of which nothing is set is not here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roles {
    quotas: SharedMap<String, Arc<wire::Quota>>,
    weights: SharedMap<String, u64>,
}

impl Roles {
    pub(crate) fn from_wire(quotas: Vec<wire::Quota>, weights: Vec<wire::Weight>) -> Self {
        let mut roles = Roles::default();
        roles.set_quotas(&quotas);
        roles.set_weights(&weights);
        roles
    }

    /// Sorted by role.
    pub(crate) fn quotas(&self) -> impl Iterator<Item = &wire::Quota> {
        self.quotas.values().map(|quota| &**quota)
    }

    pub(crate) fn quota(&self, role: &str) -> Option<&wire::Quota> {
        self.quotas.get(role).map(|quota| &**quota)
    }

    /// Sorted by role.
    pub(crate) fn weights(&self) -> impl Iterator<Item = wire::Weight> {
        self.weights.iter().map(|(role, thousandths)| wire::Weight {
            role: role.clone(),
            thousandths: *thousandths,
        })
    }

    /// In thousandths.
    pub(crate) fn weight(&self, role: &str) -> u64 {
        self.weights.get(role).copied().unwrap_or(WEIGHT_DEFAULT)
    }

    /// Every role that has a quota or a weight; one that has both comes twice.
    pub(crate) fn named(&self) -> impl Iterator<Item = &str> {
        let quotas = self.quotas.iter().map(|(role, _)| role.as_str());
        quotas.chain(self.weights.iter().map(|(role, _)| role.as_str()))
    }

    pub(crate) fn set_quotas(&mut self, quotas: &[wire::Quota]) {
        for quota in quotas {
            if quota.guarantees.is_empty() && quota.limits.is_empty() {
                self.quotas.remove(&quota.role);
            } else {
                self.quotas.insert(quota.role.clone(), Arc::new(quota.clone()));
            }
        }
    }

    pub(crate) fn set_weights(&mut self, weights: &[wire::Weight]) {
        for weight in weights {
            if weight.thousandths == WEIGHT_DEFAULT {
                self.weights.remove(&weight.role);
            } else {
                self.weights.insert(weight.role.clone(), weight.thousandths);
            }
        }
    }
}
