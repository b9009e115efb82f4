//! The calls about quota: UPDATE_QUOTA, and the older SET_QUOTA and REMOVE_QUOTA.

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::Rejection;
use proffer_proto::registry as wire;
use proffer_proto::resources::{Resources, Scalar};
use proffer_proto::v1::master::call::UpdateQuota;
use proffer_proto::v1::quota::{QuotaConfig, QuotaRequest};
use proffer_proto::v1::value;

use super::{check_role, check_role_once, is_plain};
use crate::effect::Answer;
use crate::registry::Roles;

/// Resources of which there are only whole ones.
const WHOLE: [&str; 2] = ["ports", "gpus"];

/// Any of the calls.
#[derive(Debug)]
pub(crate) struct Order {
    pub(super) asked: Vec<Asked>,
    pub(super) force: bool,
    pub(super) dry_run: bool,
    /// The older calls tell apart whether there is a quota.
    presence: Option<Presence>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// There must be none yet.
    None,
    Some,
}

/// What a role is to have, and where in the call it stands.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) quota: wire::Quota,
}

impl Asked {
    /// The field of a resource in one of the maps.
    pub(super) fn field(&self, map: &str, resource: &str) -> String {
        format!("{}.{map}[{resource:?}]", self.path)
    }
}

/// UPDATE_QUOTA: replaces the whole quota of each role that is named.
pub(crate) fn of_update(call: &UpdateQuota) -> Result<super::Order, Rejection> {
    if call.quota_configs.is_empty() {
        let rejection = Rejection::new("quota_configs", "is empty", "the quota of one role or more");
        return Err(rejection.within("update_quota"));
    }
    let mut seen = BTreeSet::new();
    let mut asked = Vec::new();
    for (index, config) in call.quota_configs.iter().enumerate() {
        let path = format!("update_quota.quota_configs[{index}]");
        let quota = of_config(config, &mut seen).map_err(|rejection| rejection.within(&path))?;
        asked.push(Asked { path, quota });
    }
    Ok(super::Order::Quota(Order {
        asked,
        force: call.force(),
        dry_run: call.dry_run(),
        presence: None,
    }))
}

fn of_config<'a>(config: &'a QuotaConfig, seen: &mut BTreeSet<&'a str>) -> Result<wire::Quota, Rejection> {
    check_role_once(&config.role, seen)?;
    let mut guarantees = amounts(&config.guarantees).map_err(|rejection| rejection.within("guarantees"))?;
    guarantees.retain(|_, amount| *amount > 0);
    Ok(wire::Quota {
        role: config.role.clone(),
        guarantees,
        limits: amounts(&config.limits).map_err(|rejection| rejection.within("limits"))?,
    })
}

fn amounts(map: &BTreeMap<String, value::Scalar>) -> Result<BTreeMap<String, u64>, Rejection> {
    let of = |(name, amount): (&String, &value::Scalar)| {
        let field = |rejection: Rejection| rejection.within(format!("[{name:?}].value"));
        if name.is_empty() {
            return Err(field(Rejection::new("", "is of no resource", "names such as cpus")));
        }
        let scalar = Scalar::from_f64(amount.value).map_err(field)?;
        if WHOLE.contains(&name.as_str()) && !scalar.thousandths().is_multiple_of(1000) {
            let accepted = format!("a whole number of {name}");
            return Err(field(Rejection::new("", format!("is {scalar}"), accepted)));
        }
        Ok((name.clone(), scalar.thousandths()))
    };
    map.iter().map(of).collect()
}

/// SET_QUOTA: a role that has no quota gets a guarantee, and a limit that is the same.
pub(crate) fn of_request(request: &QuotaRequest) -> Result<super::Order, Rejection> {
    let path = "set_quota.quota_request".to_owned();
    let quota = requested(request).map_err(|rejection| rejection.within(&path))?;
    Ok(super::Order::Quota(Order {
        asked: vec![Asked { path, quota }],
        force: request.force(),
        dry_run: false,
        presence: Some(Presence::None),
    }))
}

fn requested(request: &QuotaRequest) -> Result<wire::Quota, Rejection> {
    let Some(role) = &request.role else {
        return Err(Rejection::missing("role"));
    };
    check_role(role)?;
    let resources = Resources::from_wire(&request.guarantee).map_err(|rejection| rejection.within("guarantee"))?;
    let mut guarantees = BTreeMap::new();
    for entry in &resources {
        let plain = is_plain(entry) && entry.key().disk().is_none();
        let amount = entry.scalar().filter(|_| plain);
        let Some(amount) = amount else {
            let problem = format!("holds {}, which is no plain amount", entry.name());
            let accepted = "unreserved amounts; UPDATE_QUOTA takes ports and sets by how many there are";
            return Err(Rejection::new("guarantee", problem, accepted));
        };
        guarantees.insert(entry.name().to_owned(), amount.thousandths());
    }
    if guarantees.is_empty() {
        return Err(Rejection::new("guarantee", "is empty", "one resource or more"));
    }
    Ok(wire::Quota {
        role: role.clone(),
        limits: guarantees.clone(),
        guarantees,
    })
}

/// REMOVE_QUOTA: a role that has quota has none any more.
pub(crate) fn of_removal(role: &str) -> Result<super::Order, Rejection> {
    check_role(role).map_err(|rejection| rejection.within("remove_quota"))?;
    let quota = wire::Quota {
        role: role.to_owned(),
        ..wire::Quota::default()
    };
    Ok(super::Order::Quota(Order {
        asked: vec![Asked {
            path: "remove_quota".to_owned(),
            quota,
        }],
        force: false,
        dry_run: false,
        presence: Some(Presence::Some),
    }))
}

impl Order {
    /// Whether there is a quota, where the call depends on it.
    pub(super) fn check_presence(&self, known: &Roles) -> Result<(), Answer> {
        for Asked { path, quota } in &self.asked {
            let there = known.quota(&quota.role).is_some();
            let (problem, accepted) = match self.presence {
                Some(Presence::None) if there => {
                    ("has quota already", "a role without quota; UPDATE_QUOTA changes one")
                }
                Some(Presence::Some) if !there => ("has no quota", "a role with quota; GET_QUOTA lists them"),
                _ => continue,
            };
            let problem = format!("is {:?}, which {problem}", quota.role);
            let rejection = Rejection::new(format!("{path}.role"), problem, accepted);
            return Err(Answer::Rejected(rejection));
        }
        Ok(())
    }
}
