//! `proffer why`.

use std::time::{Duration, SystemTime};

use proffer_proto::v1::master::response::GetFrameworks;
use proffer_proto::v1::master::response::explain::{Claim, Reason, reason::Kind};
use proffer_proto::v1::{FrameworkId, TimeInfo};
use serde::Serialize;

use super::{ClusterArgs, OutputArgs, show};
use crate::exit::{Failure, FailureKind};
use crate::output::{self, Row};

/// Whom it is about.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WhyArgs {
    /// A framework, by its id, the beginning of its id, or its name; or else a role.
    #[arg(value_name = "FRAMEWORK|ROLE")]
    target: String,
    /// Only that role of the framework.
    #[arg(long)]
    role: Option<String>,
}

#[derive(Debug, Serialize)]
struct ReasonRow {
    role: String,
    framework: String,
    framework_id: String,
    /// The kind, as the API names it.
    reason: &'static str,
    agents: u32,
    /// The most that one of these agents has free.
    largest: String,
    largest_agent_id: Option<String>,
    /// Seconds until the first refusal ends.
    seconds: Option<f64>,
    /// In words.
    detail: String,
}

impl Row for ReasonRow {
    const TITLES: &'static [&'static str] = &["ROLE", "FRAMEWORK", "AGENTS", "LARGEST", "WHY"];

    fn cells(&self) -> Vec<String> {
        let largest = if self.largest.is_empty() { "-" } else { &self.largest };
        vec![
            self.role.clone(),
            self.framework.clone(),
            self.agents.to_string(),
            largest.to_owned(),
            self.detail.clone(),
        ]
    }
}

pub(crate) async fn run(cluster: &ClusterArgs, output: &OutputArgs, args: &WhyArgs) -> Result<(), Failure> {
    let mut operator = cluster.operator();
    let frameworks = operator.get_frameworks().await;
    let frameworks = frameworks.map_err(|error| cluster.failure(error))?;
    let framework = find(&frameworks, &args.target)?;
    let role = match &framework {
        Some(_) => args.role.clone(),
        None => Some(args.target.clone()),
    };
    if framework.is_none() {
        let roles = operator.get_roles().await.map_err(|error| cluster.failure(error))?;
        if !roles.iter().any(|role| role.name == args.target) {
            let text = format!(
                "no framework and no role is named `{}`; `proffer frameworks` and `proffer roles` list them",
                args.target
            );
            return Err(Failure::new(FailureKind::NotFound, text));
        }
    }
    let explained = operator.explain(framework, role).await;
    let explained = explained.map_err(|error| cluster.failure(error))?;
    let rows: Vec<ReasonRow> = explained.claims.iter().flat_map(rows).collect();
    output::print(output.output, &rows)?;
    for claim in &explained.claims {
        if let Some(seconds) = claim.last_until.and_then(seconds_until) {
            eprintln!(
                "{} ({}) held offers that others waited for, and is served last for {seconds:.0} s more",
                claim.framework_name, claim.role
            );
        }
    }
    if let Some(omitted) = explained.omitted {
        eprintln!("{omitted} more frameworks of the role are not explained; name one");
    }
    Ok(())
}

/// The framework that a text names, if it names one.
fn find(frameworks: &GetFrameworks, text: &str) -> Result<Option<FrameworkId>, Failure> {
    let infos = || frameworks.frameworks.iter().map(|framework| &framework.framework_info);
    let id_of = |info: &proffer_proto::v1::FrameworkInfo| info.id.clone().unwrap_or_default();
    if let Some(exact) = infos().find(|info| id_of(info).value == text) {
        return Ok(Some(id_of(exact)));
    }
    let mut named: Vec<FrameworkId> = infos().filter(|info| info.name == text).map(id_of).collect();
    if named.is_empty() && !text.is_empty() {
        named = infos().map(id_of).filter(|id| id.value.starts_with(text)).collect();
    }
    match &named[..] {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        several => {
            let ids: Vec<&str> = several.iter().take(8).map(|id| id.value.as_str()).collect();
            let text = format!(
                "`{text}` names {} frameworks: {}; use an id",
                several.len(),
                ids.join(", ")
            );
            Err(Failure::new(FailureKind::Usage, text))
        }
    }
}

fn rows(claim: &Claim) -> Vec<ReasonRow> {
    let row = |reason: &Reason| ReasonRow {
        role: claim.role.clone(),
        framework: claim.framework_name.clone(),
        framework_id: claim.framework_id.value.clone(),
        reason: reason.kind().as_str_name(),
        agents: reason.agents,
        largest: show(&reason.largest),
        largest_agent_id: reason.largest_agent_id.as_ref().map(|id| id.value.clone()),
        seconds: seconds_left(reason),
        detail: detail(reason),
    };
    claim.reasons.iter().map(row).collect()
}

fn seconds_left(reason: &Reason) -> Option<f64> {
    seconds_until(reason.until?)
}

pub(super) fn seconds_until(time: TimeInfo) -> Option<f64> {
    Some(since_epoch(time)?.saturating_sub(now()).as_secs_f64())
}

fn seconds_since(time: TimeInfo) -> Option<f64> {
    Some(now().saturating_sub(since_epoch(time)?).as_secs_f64())
}

fn since_epoch(time: TimeInfo) -> Option<Duration> {
    Some(Duration::from_nanos(time.nanoseconds.try_into().ok()?))
}

fn now() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

/// A reason in words.
fn detail(reason: &Reason) -> String {
    let text = match reason.kind() {
        Kind::Unknown => "of a reason that this version does not know",
        Kind::Suppressed => "it wants no offers (SUPPRESS)",
        Kind::FrameworkAway => "its scheduler is not connected",
        Kind::FrameworkEnding => "it is being removed",
        Kind::RoleLeft => "the framework left the role",
        Kind::Offered => "what is free is in offers that it has not answered",
        Kind::InUse => "everything is in use",
        Kind::Held => {
            let holder = |holder: &proffer_proto::v1::master::response::explain::Holder| {
                let (name, role, offers) = (&holder.framework_name, &holder.role, holder.offers);
                let since = holder.since.and_then(seconds_since);
                let since = since.map(|seconds| format!(", held for up to {seconds:.1} s"));
                let until = holder.until.and_then(seconds_until);
                let until = until.map(|seconds| format!(", the first until {seconds:.1} s from now"));
                let (since, until) = (since.unwrap_or_default(), until.unwrap_or_default());
                format!("{name} ({role}, {offers} offers{since}{until})")
            };
            let holders: Vec<String> = reason.holders.iter().map(holder).collect();
            return format!("in the offers of {}", holders.join(", "));
        }
        Kind::Gang => {
            let holder = |holder: &proffer_proto::v1::master::response::explain::Holder| {
                format!(
                    "{} ({}, on {} agents)",
                    holder.framework_name, holder.role, holder.offers
                )
            };
            let holders: Vec<String> = reason.holders.iter().map(holder).collect();
            return format!(
                "held for gangs of {}, which wait for their last members",
                holders.join(", ")
            );
        }
        Kind::Lent => {
            let names = reason.holders.iter();
            let names = names.map(|holder| format!("{} ({})", holder.framework_name, holder.role));
            let back = match seconds_left(reason) {
                Some(seconds) => format!("taken back, there in {seconds:.0} s at the latest"),
                None => "taken back where it is wanted".to_owned(),
            };
            return format!("lent as revocable to {}; {back}", names.collect::<Vec<_>>().join(", "));
        }
        Kind::Filtered => {
            let seconds = seconds_left(reason).unwrap_or_default();
            return format!("it refused what is free; the first refusal ends in {seconds:.0} s");
        }
        Kind::Limit => {
            return format!(
                "the limit of {} for {} leaves no more",
                reason.role(),
                reason.resource()
            );
        }
        Kind::Guarantees => "the rest is kept free for the guarantees of other roles",
        Kind::Constraints => "its offer constraints do not accept them",
        Kind::Region => "they are in another region, and it is not REGION_AWARE",
        Kind::Gpus => "they have GPUs, and it does not know of GPU_RESOURCES",
        Kind::Reserved => "what is free is reserved for others",
        Kind::TooSmall => "what is free is too small for it",
        Kind::Demand => "nothing that it asked for (REQUEST) fits",
        Kind::DemandMet => "all that it asked for (REQUEST) was launched",
        Kind::AgentDraining => "they are being drained, or were",
        Kind::AgentDeactivated => "they are deactivated",
        Kind::AgentDisconnected => "their connection is broken",
        Kind::AgentUnreachable => "they are unreachable",
        Kind::AgentNotBack => "they have not come back since the master was elected",
        Kind::AgentLeaving => "they are about to leave",
        Kind::Pending => "they are about to be offered",
    };
    text.to_owned()
}
