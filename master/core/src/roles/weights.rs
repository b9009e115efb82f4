//! UPDATE_WEIGHTS.

use std::collections::BTreeSet;

use proffer_proto::Rejection;
use proffer_proto::registry as wire;
use proffer_proto::v1::WeightInfo;

use super::{Order, check_role_once};

/// No weight is larger; one that is smaller than a thousandth is none.
const WEIGHT_MAX: f64 = 1_000_000.0;

/// The call, checked.
pub(crate) fn of_call(infos: &[WeightInfo]) -> Result<Order, Rejection> {
    if infos.is_empty() {
        let rejection = Rejection::new("weight_infos", "is empty", "the weight of one role or more");
        return Err(rejection.within("update_weights"));
    }
    let mut seen = BTreeSet::new();
    let mut weights = Vec::new();
    for (index, info) in infos.iter().enumerate() {
        let weight = of_info(info, &mut seen);
        let path = format!("update_weights.weight_infos[{index}]");
        weights.push(weight.map_err(|rejection| rejection.within(path))?);
    }
    Ok(Order::Weights(weights))
}

fn of_info<'a>(info: &'a WeightInfo, seen: &mut BTreeSet<&'a str>) -> Result<wire::Weight, Rejection> {
    let Some(role) = &info.role else {
        return Err(Rejection::missing("role"));
    };
    check_role_once(role, seen)?;
    let thousandths = (info.weight * 1000.0).round();
    if !(1.0..=WEIGHT_MAX * 1000.0).contains(&thousandths) {
        let accepted = format!("a number from 0.001 to {WEIGHT_MAX}; 1 is what a role has that nobody gave a weight");
        return Err(Rejection::new("weight", format!("is {}", info.weight), accepted));
    }
    Ok(wire::Weight {
        role: role.clone(),
        thousandths: thousandths as u64,
    })
}
