//! `proffer volumes`.

use proffer_proto::resources::Resources;
use proffer_proto::v1::master::call::{CreateVolumes, DestroyVolumes, GrowVolume, ShrinkVolume, Type};
use proffer_proto::v1::master::response::get_agents::Agent;
use proffer_proto::v1::{Resource, master::Call, value};
use proffer_sdk::operations;
use serde::Serialize;

use super::reservations::reserved;
use super::{ClusterArgs, OutputArgs, agents};
use crate::exit::{Failure, FailureKind};
use crate::output::{self, Row};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum VolumesCommand {
    /// List the persistent volumes.
    Ls {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Make a persistent volume of disk space that is reserved for its role.
    Create {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        volume: VolumeArgs,
        /// How much it holds, in MiB.
        #[arg(long, value_name = "MIB")]
        size: f64,
        /// Where tasks have it unless they say otherwise: a path in the container, below the sandbox where it is relative.
        #[arg(long, default_value = "volume", value_name = "PATH")]
        path: String,
    },
    /// Remove a persistent volume with its data. No task may have it.
    Destroy {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        volume: VolumeArgs,
    },
    /// Add disk space that is reserved for its role to a persistent volume.
    Grow {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        volume: VolumeArgs,
        /// By how much, in MiB.
        #[arg(long, value_name = "MIB")]
        by: f64,
    },
    /// Take disk space from a persistent volume.
    Shrink {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        volume: VolumeArgs,
        /// By how much, in MiB.
        #[arg(long, value_name = "MIB")]
        by: f64,
    },
}

/// Which volume.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct VolumeArgs {
    /// The agent: its id, its host name, or the beginning of one agent's id alone.
    agent: String,
    /// The id of the volume, unique within the role on the agent.
    volume: String,
    /// The role of the volume.
    #[arg(long)]
    role: String,
}

#[derive(Debug, Serialize)]
struct VolumeRow {
    id: String,
    role: String,
    agent: String,
    hostname: String,
    size_mib: f64,
    path: String,
    state: &'static str,
}

impl Row for VolumeRow {
    const TITLES: &'static [&'static str] = &["ID", "ROLE", "AGENT", "HOST", "MIB", "PATH", "STATE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.role.clone(),
            self.agent.clone(),
            self.hostname.clone(),
            self.size_mib.to_string(),
            self.path.clone(),
            self.state.to_owned(),
        ]
    }
}

/// Lists or changes volumes.
pub(crate) async fn run(command: VolumesCommand) -> Result<(), Failure> {
    let (cluster, wanted) = match &command {
        VolumesCommand::Ls { cluster, output } => return list(cluster, output).await,
        VolumesCommand::Create { cluster, volume, .. }
        | VolumesCommand::Destroy { cluster, volume }
        | VolumesCommand::Grow { cluster, volume, .. }
        | VolumesCommand::Shrink { cluster, volume, .. } => (cluster, volume),
    };
    let mut operator = cluster.operator();
    let agents = operator.get_agents().await.map_err(|error| cluster.failure(error))?;
    let agent_id = agents::find(&agents, &wanted.agent)?;
    let here = agents
        .agents
        .iter()
        .find(|agent| agent.agent_info.id.as_ref() == Some(&agent_id));
    let volume = || find(here, wanted);
    let mut call = Call::default();
    match &command {
        VolumesCommand::Create { size, path, .. } => {
            let disk = space(here, &wanted.role, *size)?;
            call.set_type(Type::CreateVolumes);
            call.create_volumes = Some(CreateVolumes {
                agent_id,
                volumes: vec![operations::volume(disk, &wanted.volume, path)],
            });
        }
        VolumesCommand::Destroy { .. } => {
            call.set_type(Type::DestroyVolumes);
            call.destroy_volumes = Some(DestroyVolumes {
                agent_id,
                volumes: vec![volume()?],
            });
        }
        VolumesCommand::Grow { by, .. } => {
            let volume = volume()?;
            let addition = Resource {
                disk: None,
                scalar: Some(value::Scalar { value: *by }),
                ..volume.clone()
            };
            call.set_type(Type::GrowVolume);
            call.grow_volume = Some(GrowVolume {
                agent_id: Some(agent_id),
                volume,
                addition,
            });
        }
        VolumesCommand::Shrink { by, .. } => {
            call.set_type(Type::ShrinkVolume);
            call.shrink_volume = Some(ShrinkVolume {
                agent_id: Some(agent_id),
                volume: volume()?,
                subtract: value::Scalar { value: *by },
            });
        }
        VolumesCommand::Ls { .. } => {}
    }
    operator.submit(call).await.map_err(|error| cluster.failure(error))?;
    Ok(())
}

/// So much of the disk space that is reserved for a role, statically or not.
fn space(agent: Option<&Agent>, role: &str, mebibytes: f64) -> Result<Resource, Failure> {
    let total = agent.and_then(|agent| Resources::from_wire(&agent.total_resources).ok());
    let fixed = total.unwrap_or_default().unallocate().filter(|entry| {
        entry.key().reservation_role() == Some(role)
            && entry.key().volume_id().is_none()
            && entry.key().disk().is_none()
    });
    let all = reserved(agent, role, None) + fixed.filter(|entry| !entry.key().is_converted());
    let enough = |resource: &Resource| {
        let size = resource.scalar.as_ref().map_or(0.0, |scalar| scalar.value);
        resource.name == "disk" && size >= mebibytes
    };
    let found = all.to_wire().into_iter().find(enough);
    let scalar = Some(value::Scalar { value: mebibytes });
    found.map(|disk| Resource { scalar, ..disk }).ok_or_else(|| {
        let text =
            format!("the agent has not {mebibytes} MiB of disk reserved for `{role}`: `proffer reserve` comes first");
        Failure::new(FailureKind::NotFound, text)
    })
}

fn volumes(agent: &Agent) -> impl Iterator<Item = &Resource> {
    let volume = |resource: &&Resource| operations::volume_id(resource).is_some();
    agent.total_resources.iter().filter(volume)
}

fn role_of(resource: &Resource) -> &str {
    resource.reservations.last().map_or("", |layer| layer.role())
}

fn find(agent: Option<&Agent>, wanted: &VolumeArgs) -> Result<Resource, Failure> {
    let named =
        |volume: &&Resource| operations::volume_id(volume) == Some(&wanted.volume) && role_of(volume) == wanted.role;
    let found = agent.into_iter().flat_map(volumes).find(named);
    found.cloned().ok_or_else(|| {
        let text = format!(
            "the role `{}` has no volume `{}` on that agent; `proffer volumes ls` lists them",
            wanted.role, wanted.volume
        );
        Failure::new(FailureKind::NotFound, text)
    })
}

async fn list(cluster: &ClusterArgs, output: &OutputArgs) -> Result<(), Failure> {
    let agents = cluster.operator().get_agents().await;
    let agents = agents.map_err(|error| cluster.failure(error))?;
    let rows = agents.agents.iter().flat_map(|agent| {
        volumes(agent).map(|volume| {
            let is_in = |list: &[Resource]| {
                list.iter().any(|other| {
                    operations::volume_id(other) == operations::volume_id(volume) && role_of(other) == role_of(volume)
                })
            };
            let mount = volume.disk.as_ref().and_then(|disk| disk.volume.as_ref());
            VolumeRow {
                id: operations::volume_id(volume).unwrap_or_default().to_owned(),
                role: role_of(volume).to_owned(),
                agent: agent.agent_info.id.clone().unwrap_or_default().value,
                hostname: agent.agent_info.hostname.clone(),
                size_mib: volume.scalar.as_ref().map_or(0.0, |scalar| scalar.value),
                path: mount.map(|mount| mount.container_path.clone()).unwrap_or_default(),
                state: match (is_in(&agent.allocated_resources), is_in(&agent.offered_resources)) {
                    (true, _) => "used",
                    (_, true) => "offered",
                    _ => "free",
                },
            }
        })
    });
    Ok(output::print(output.output, &rows.collect::<Vec<_>>())?)
}
