//! `proffer masters`.

use std::time::Duration;

use proffer_proto::masters::{Master, MastersList, master::Role};
use proffer_sdk::operator::{GroupClient, GroupError};
use serde::Serialize;

use super::{ClusterArgs, OutputArgs};
use crate::exit::{Failure, FailureKind};
use crate::output::{self, Row};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum MastersCommand {
    /// List the masters.
    Ls {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Make a master that has joined (`proffer master --join`) a voter, once it has caught up.
    Add {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        wait: WaitArgs,
        /// Its `host:port` or id.
        #[arg(id = "member", value_name = "MASTER")]
        master: String,
        /// The master that leaves in the same step, by `host:port` or id; not the leading one.
        #[arg(long, value_name = "MASTER")]
        replaces: Option<String>,
    },
    /// Take a master out of the group.
    Rm {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        wait: WaitArgs,
        /// Its `host:port` or id.
        #[arg(id = "member", value_name = "MASTER")]
        master: String,
    },
    /// Let another master lead.
    Transfer {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        wait: WaitArgs,
        /// Its `host:port` or id; the leader chooses if unset.
        #[arg(id = "member", value_name = "MASTER")]
        master: Option<String>,
    },
}

/// How long a change of the group may take.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WaitArgs {
    /// How long to wait for the change, in seconds.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    wait: u64,
}

#[derive(Debug, Serialize)]
struct MasterRow {
    /// Text, as programs that read numbers as floating point would lose its last digits.
    id: String,
    address: String,
    role: &'static str,
    leads: bool,
    version: String,
    level: u32,
    /// Only a leader knows these of the others.
    reachable: Option<bool>,
    behind: Option<u64>,
    receives_snapshot: Option<bool>,
}

impl Row for MasterRow {
    const TITLES: &'static [&'static str] = &["ID", "ADDRESS", "ROLE", "LEADS", "VERSION", "REACHABLE", "BEHIND"];

    fn cells(&self) -> Vec<String> {
        let behind = match (self.behind, self.receives_snapshot) {
            (_, Some(true)) => "snapshot".to_owned(),
            (Some(entries), _) => entries.to_string(),
            (None, _) => "-".to_owned(),
        };
        let reachable = match self.reachable {
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        };
        vec![
            self.id.clone(),
            self.address.clone(),
            self.role.to_owned(),
            if self.leads { "yes" } else { "no" }.to_owned(),
            self.version.clone(),
            reachable.to_owned(),
            behind,
        ]
    }
}

pub(crate) async fn run(command: MastersCommand) -> Result<(), Failure> {
    let (cluster, output, result) = match command {
        MastersCommand::Ls { cluster, output } => {
            let listed = group(&cluster).list().await;
            (cluster, output, listed)
        }
        MastersCommand::Add {
            cluster,
            output,
            wait,
            master,
            replaces,
        } => {
            let added = changer(&cluster, &wait).add(&master, replaces.as_deref()).await;
            (cluster, output, added)
        }
        MastersCommand::Rm {
            cluster,
            output,
            wait,
            master,
        } => {
            let removed = changer(&cluster, &wait).remove(&master).await;
            (cluster, output, removed)
        }
        MastersCommand::Transfer {
            cluster,
            output,
            wait,
            master,
        } => {
            let transferred = changer(&cluster, &wait).transfer(master.as_deref()).await;
            (cluster, output, transferred)
        }
    };
    let list = result.map_err(|error| failure(&cluster, error))?;
    if list.leader.is_none() {
        eprintln!("no master leads at the moment; this is what a follower knows");
    }
    Ok(output::print(output.output, &rows(list))?)
}

fn group(cluster: &ClusterArgs) -> GroupClient {
    GroupClient::new(cluster.master.clone()).timeout(Duration::from_secs(cluster.timeout))
}

fn changer(cluster: &ClusterArgs, wait: &WaitArgs) -> GroupClient {
    group(cluster).patience(Duration::from_secs(wait.wait))
}

fn failure(cluster: &ClusterArgs, error: GroupError) -> Failure {
    match error {
        GroupError::Rejected(text) | GroupError::Refused(text) => Failure::new(FailureKind::Rejected, text),
        GroupError::Unavailable(text) => cluster.unreachable(text),
        uncertain @ GroupError::Uncertain(_) => {
            Failure::new(FailureKind::Failed, format!("{uncertain}; see `proffer masters ls`"))
        }
    }
}

fn rows(list: MastersList) -> Vec<MasterRow> {
    let row = |master: Master| MasterRow {
        role: match master.role() {
            Role::Unknown => "unknown",
            Role::Voter => "voter",
            Role::Learner => "learner",
            Role::Leaving => "leaving",
        },
        id: master.id.to_string(),
        address: master.address,
        leads: master.leads,
        version: master.version,
        level: master.level,
        reachable: master.reachable,
        behind: master.behind_entries,
        receives_snapshot: master.receives_snapshot,
    };
    list.masters.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_leader_knows_is_left_open_by_others() {
        let master = |reachable, behind_entries, receives_snapshot| Master {
            id: u64::MAX,
            address: "10.0.0.1:5050".into(),
            version: "1.0.0".into(),
            level: 2,
            role: Role::Learner.into(),
            leads: false,
            reachable,
            behind_entries,
            receives_snapshot,
        };
        let list = MastersList {
            masters: vec![
                master(None, None, None),
                master(Some(true), Some(7), None),
                master(Some(false), Some(7), Some(true)),
            ],
            ..MastersList::default()
        };
        let cells: Vec<Vec<String>> = rows(list).iter().map(Row::cells).collect();
        assert_eq!(
            cells[0][..4],
            ["18446744073709551615", "10.0.0.1:5050", "learner", "no"]
        );
        let last: Vec<&[String]> = cells.iter().map(|cells| &cells[5..]).collect();
        assert_eq!(last, [["-", "-"], ["yes", "7"], ["no", "snapshot"]]);
    }
}
