//! For every agent: offered + allocated + free = total, and whatever else the core says of itself.

use proffer_master_core::Master;

use super::Violation;

pub(crate) fn check(master: &Master) -> Result<(), Violation> {
    proffer_master_core::invariants::check(master).map_err(|what| Violation::new("resources_conserved", what))
}
