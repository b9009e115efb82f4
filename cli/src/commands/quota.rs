//! `proffer quota`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proffer_proto::v1::master::response::update_quota::Violation;
use proffer_proto::v1::quota::{QuotaConfig, QuotaStatus};
use proffer_proto::v1::value;
use serde::{Deserialize, Serialize};

use super::{ClusterArgs, OutputArgs};
use crate::exit::{Failure, FailureKind};
use crate::output::{self, Row};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum QuotaCommand {
    /// List what roles are guaranteed and limited to, and what they use of it.
    Ls {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Set the quota of a role, or of several, all of them or none.
    Set {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        change: ChangeArgs,
        /// The role.
        #[arg(required_unless_present = "file", conflicts_with = "file")]
        role: Option<String>,
        /// What it is guaranteed, with the roles below it, such as `cpus:4;mem:1024;ports:10`; `none` takes it away. Unset: as it is.
        #[arg(long, value_name = "AMOUNTS", conflicts_with = "file")]
        guarantee: Option<String>,
        /// What it is limited to, with the roles below it; `none` takes it away. Unset: as it is.
        #[arg(long, value_name = "AMOUNTS", conflicts_with = "file")]
        limit: Option<String>,
        /// The whole quotas of several roles, as `proffer quota ls -o json` prints them; `-` reads standard input.
        #[arg(long, short = 'f', value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Take the quota of roles away, of all of them or none.
    Rm {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        change: ChangeArgs,
        /// The roles.
        #[arg(required = true, value_name = "ROLE")]
        roles: Vec<String>,
    },
}

/// How a change is made.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ChangeArgs {
    #[command(flatten)]
    output: OutputArgs,
    /// Change nothing, and list all that would be violated.
    #[arg(long)]
    dry_run: bool,
    /// Guarantee more than the cluster has, or limit to less than what is in use.
    #[arg(long, conflicts_with = "dry_run")]
    force: bool,
}

/// Amounts by the names of resources.
pub(super) type Amounts = BTreeMap<String, f64>;

#[derive(Debug, Serialize)]
struct QuotaRow {
    role: String,
    guarantees: Amounts,
    limits: Amounts,
    allocated: Amounts,
    offered: Amounts,
    reserved: Amounts,
}

impl Row for QuotaRow {
    const TITLES: &'static [&'static str] = &["ROLE", "GUARANTEE", "LIMIT", "ALLOCATED", "OFFERED", "RESERVED"];

    fn cells(&self) -> Vec<String> {
        let amounts = [
            &self.guarantees,
            &self.limits,
            &self.allocated,
            &self.offered,
            &self.reserved,
        ];
        let amounts = amounts.into_iter().map(show_amounts);
        std::iter::once(self.role.clone()).chain(amounts).collect()
    }
}

/// One entry of a file.
#[derive(Debug, Deserialize)]
struct FileEntry {
    role: String,
    #[serde(default)]
    guarantees: Amounts,
    #[serde(default)]
    limits: Amounts,
}

#[derive(Debug, Serialize)]
struct ViolationRow {
    role: String,
    resource: Option<String>,
    field: String,
    problem: String,
    accepted: String,
    forcible: bool,
}

impl Row for ViolationRow {
    const TITLES: &'static [&'static str] = &["ROLE", "FIELD", "PROBLEM", "ACCEPTED", "FORCIBLE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.role.clone(),
            self.field.clone(),
            self.problem.clone(),
            self.accepted.clone(),
            if self.forcible { "yes" } else { "no" }.to_owned(),
        ]
    }
}

pub(super) fn amounts_of(amounts: &BTreeMap<String, value::Scalar>) -> Amounts {
    let amounts = amounts.iter();
    amounts.map(|(name, amount)| (name.clone(), amount.value)).collect()
}

fn to_wire(amounts: Amounts) -> BTreeMap<String, value::Scalar> {
    let amounts = amounts.into_iter();
    amounts.map(|(name, value)| (name, value::Scalar { value })).collect()
}

/// As a person writes them.
pub(super) fn show_amounts(amounts: &Amounts) -> String {
    let parts: Vec<String> = amounts
        .iter()
        .map(|(name, amount)| format!("{name}:{amount}"))
        .collect();
    if parts.is_empty() {
        "-".to_owned()
    } else {
        parts.join(";")
    }
}

/// `cpus:4;ports:10`, or `none`.
fn parse(text: &str, option: &str) -> Result<Amounts, Failure> {
    if text == "none" {
        return Ok(Amounts::new());
    }
    let usage = |problem: String| {
        let accepted = "amounts such as `cpus:4;mem:1024;ports:10`, or `none`";
        Failure::new(FailureKind::Usage, format!("{option}: {problem}; accepted: {accepted}"))
    };
    let mut amounts = Amounts::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) = part
            .split_once(':')
            .ok_or_else(|| usage(format!("`{part}` has no `:`")))?;
        let parsed = value.trim().parse();
        let value = parsed.map_err(|_| usage(format!("`{value}` is no number")))?;
        if amounts.insert(name.trim().to_owned(), value).is_some() {
            return Err(usage(format!("{name} is there twice")));
        }
    }
    if amounts.is_empty() {
        return Err(usage("is empty".to_owned()));
    }
    Ok(amounts)
}

pub(crate) async fn run(command: QuotaCommand) -> Result<(), Failure> {
    match command {
        QuotaCommand::Ls { cluster, output } => {
            let status = cluster.operator().get_quota().await;
            let rows = rows(&status.map_err(|error| cluster.failure(error))?);
            Ok(output::print(output.output, &rows)?)
        }
        QuotaCommand::Set {
            cluster,
            change,
            role,
            guarantee,
            limit,
            file,
        } => {
            let configs = match (role, file) {
                (_, Some(file)) => read(&file)?,
                (Some(role), None) => vec![changed(&cluster, role, guarantee, limit).await?],
                (None, None) => Vec::new(),
            };
            update(&cluster, &change, configs).await
        }
        QuotaCommand::Rm { cluster, change, roles } => {
            let none = |role| QuotaConfig {
                role,
                ..QuotaConfig::default()
            };
            update(&cluster, &change, roles.into_iter().map(none).collect()).await
        }
    }
}

fn rows(status: &QuotaStatus) -> Vec<QuotaRow> {
    let of = |config: &QuotaConfig| {
        let usage = status.usage.iter().find(|usage| usage.role == config.role);
        let usage = usage.cloned().unwrap_or_default();
        QuotaRow {
            role: config.role.clone(),
            guarantees: amounts_of(&config.guarantees),
            limits: amounts_of(&config.limits),
            allocated: amounts_of(&usage.allocated),
            offered: amounts_of(&usage.offered),
            reserved: amounts_of(&usage.reserved),
        }
    };
    status.configs.iter().map(of).collect()
}

/// What a role is to have, where only a part of it may be named.
async fn changed(
    cluster: &ClusterArgs,
    role: String,
    guarantee: Option<String>,
    limit: Option<String>,
) -> Result<QuotaConfig, Failure> {
    let guarantee = guarantee.map(|text| parse(&text, "--guarantee")).transpose()?;
    let limit = limit.map(|text| parse(&text, "--limit")).transpose()?;
    if guarantee.is_none() && limit.is_none() {
        let text = "one of --guarantee, --limit and --file is needed";
        return Err(Failure::new(FailureKind::Usage, text));
    }
    let status = cluster.operator().get_quota().await;
    let status = status.map_err(|error| cluster.failure(error))?;
    let known = status.configs.into_iter().find(|config| config.role == role);
    let known = known.unwrap_or_default();
    Ok(QuotaConfig {
        role,
        guarantees: guarantee.map_or(known.guarantees, to_wire),
        limits: limit.map_or(known.limits, to_wire),
    })
}

fn read(file: &Path) -> Result<Vec<QuotaConfig>, Failure> {
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    let bad = |error: &dyn std::fmt::Display| {
        let accepted = r#"[{"role":"ads","guarantees":{"cpus":4},"limits":{"cpus":6}}]"#;
        let text = format!("{} cannot be read: {error}; accepted: {accepted}", file.display());
        Failure::new(FailureKind::Usage, text)
    };
    let text = text.map_err(|error| bad(&error))?;
    let entries: Vec<FileEntry> = serde_json::from_str(&text).map_err(|error| bad(&error))?;
    let config = |entry: FileEntry| QuotaConfig {
        role: entry.role,
        guarantees: to_wire(entry.guarantees),
        limits: to_wire(entry.limits),
    };
    Ok(entries.into_iter().map(config).collect())
}

async fn update(cluster: &ClusterArgs, change: &ChangeArgs, configs: Vec<QuotaConfig>) -> Result<(), Failure> {
    let mut operator = cluster.operator();
    if !change.dry_run {
        let done = operator.update_quota(configs, change.force).await;
        return done.map_err(|error| cluster.failure(error));
    }
    let violations = operator.check_quota(configs).await;
    let violations = violations.map_err(|error| cluster.failure(error))?;
    let row = |violation: &Violation| ViolationRow {
        role: violation.role.clone(),
        resource: violation.resource.clone(),
        field: violation.field.clone(),
        problem: violation.problem.clone(),
        accepted: violation.accepted.clone(),
        forcible: violation.forcible,
    };
    let rows: Vec<ViolationRow> = violations.iter().map(row).collect();
    output::print(change.output.output, &rows)?;
    match violations.iter().filter(|violation| !violation.forcible).count() {
        _ if violations.is_empty() => Ok(()),
        0 => Err(Failure::new(
            FailureKind::Rejected,
            format!("{} violations; --force sets it all the same", violations.len()),
        )),
        _ => Err(Failure::new(
            FailureKind::Rejected,
            format!("{} violations", violations.len()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_they_are_shown() {
        let amounts = parse("cpus:4.5; mem:1024;ports:10", "--limit").expect("amounts");
        assert_eq!(show_amounts(&amounts), "cpus:4.5;mem:1024;ports:10");
        assert!(parse("none", "--limit").expect("nothing").is_empty());
        for (bad, text) in [
            ("", "is empty"),
            ("cpus", "has no `:`"),
            ("cpus:x", "is no number"),
            ("cpus:1;cpus:2", "twice"),
        ] {
            let failure = parse(bad, "--limit").expect_err(bad);
            assert_eq!(failure.kind, FailureKind::Usage);
            assert!(failure.message.contains(text), "{}", failure.message);
        }
    }
}
