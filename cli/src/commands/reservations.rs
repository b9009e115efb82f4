//! `proffer reserve` and `proffer unreserve`.

use proffer_proto::resources::{Key, Reservation, Resources};
use proffer_proto::v1::master::call::{ReserveResources, Type, UnreserveResources};
use proffer_proto::v1::master::{Call, response::get_agents::Agent};

use super::ClusterArgs;
use super::agents;
use crate::exit::{Failure, FailureKind};

/// What is reserved where.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ReserveArgs {
    /// The agent: its id, its host name, or the beginning of one agent's id alone.
    agent: String,
    /// How much, such as `cpus:4;mem:1024;disk:2048`; mem and disk in MiB.
    resources: String,
    /// For whom: only frameworks of this role and of roles below it are offered it.
    #[arg(long)]
    role: String,
    /// A name by which the reservation is found again.
    #[arg(long)]
    id: Option<String>,
    /// A label, as often as wanted.
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
}

/// What is no longer reserved.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct UnreserveArgs {
    /// The agent: its id, its host name, or the beginning of one agent's id alone.
    agent: String,
    /// How much, as for `proffer reserve`; all that is reserved so where it is left out. Persistent volumes keep theirs.
    resources: Option<String>,
    /// The role that it is reserved for.
    #[arg(long)]
    role: String,
    /// Only the reservation of this name.
    #[arg(long)]
    id: Option<String>,
}

/// Reserves free resources of an agent.
pub(crate) async fn reserve(cluster: &ClusterArgs, args: &ReserveArgs) -> Result<(), Failure> {
    let mut operator = cluster.operator();
    let agents = operator.get_agents().await.map_err(|error| cluster.failure(error))?;
    let agent_id = agents::find(&agents, &args.agent)?;
    let label = |text: &String| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (text.clone(), None),
    };
    let mut labels: Vec<_> = args.label.iter().map(label).collect();
    labels.sort();
    let reservation = Reservation {
        role: args.role.clone(),
        dynamic: true,
        labels,
        id: args.id.clone(),
        ..Reservation::default()
    };
    let resources = parse(&args.resources)?.reserve(&reservation);
    let call = Call {
        r#type: Some(Type::ReserveResources.into()),
        reserve_resources: Some(ReserveResources {
            agent_id,
            resources: resources.to_wire(),
            source: Vec::new(),
        }),
        ..Call::default()
    };
    operator.submit(call).await.map_err(|error| cluster.failure(error))?;
    Ok(())
}

/// Makes reserved resources of an agent everybody's again.
pub(crate) async fn unreserve(cluster: &ClusterArgs, args: &UnreserveArgs) -> Result<(), Failure> {
    let mut operator = cluster.operator();
    let agents = operator.get_agents().await.map_err(|error| cluster.failure(error))?;
    let agent_id = agents::find(&agents, &args.agent)?;
    let here = agents
        .agents
        .iter()
        .find(|agent| agent.agent_info.id.as_ref() == Some(&agent_id));
    let reserved = reserved(here, &args.role, args.id.as_deref());
    let resources = match &args.resources {
        None => reserved,
        Some(text) => chosen(&reserved, &parse(text)?)?,
    };
    if resources.is_empty() {
        let text = format!(
            "nothing of the agent is reserved for the role `{}` in that way",
            args.role
        );
        return Err(Failure::new(FailureKind::NotFound, text));
    }
    let call = Call {
        r#type: Some(Type::UnreserveResources.into()),
        unreserve_resources: Some(UnreserveResources {
            agent_id,
            resources: resources.to_wire(),
        }),
        ..Call::default()
    };
    operator.submit(call).await.map_err(|error| cluster.failure(error))?;
    Ok(())
}

/// What is reserved dynamically for a role, without volumes.
pub(super) fn reserved(agent: Option<&Agent>, role: &str, id: Option<&str>) -> Resources {
    let total = agent.and_then(|agent| Resources::from_wire(&agent.total_resources).ok());
    total.unwrap_or_default().unallocate().filter(|entry| {
        let layer = entry.key().reservations().last();
        let wanted = layer.is_some_and(|layer| layer.dynamic && layer.role == role);
        let named = id.is_none() || layer.is_some_and(|layer| layer.id.as_deref() == id);
        wanted && named && entry.key().volume_id().is_none()
    })
}

/// So much of what is reserved, where it is clear of which reservation.
fn chosen(reserved: &Resources, wanted: &Resources) -> Result<Resources, Failure> {
    let mut chosen = Resources::new();
    for entry in wanted {
        let same: Vec<&Key> = reserved
            .iter()
            .filter(|own| own.name() == entry.name())
            .map(|own| own.key())
            .collect();
        let [key] = same[..] else {
            let problem = if same.is_empty() {
                "none"
            } else {
                "more than one reservation"
            };
            let text = format!("of `{}` there is {problem}; --id names one", entry.name());
            return Err(Failure::new(FailureKind::NotFound, text));
        };
        let plain = wanted.filter(|other| other.key() == entry.key());
        chosen += key.reservations().iter().fold(plain, Resources::reserve);
    }
    Ok(chosen)
}

pub(super) fn parse(text: &str) -> Result<Resources, Failure> {
    Resources::parse(text).map_err(|rejection| Failure::new(FailureKind::Usage, rejection.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unreserved_is_of_one_reservation() {
        let layer = |id: &str| Reservation {
            role: "web".into(),
            dynamic: true,
            id: Some(id.into()),
            ..Reservation::default()
        };
        let of = |text: &str, id: &str| parse(text).expect("resources").reserve(&layer(id));
        let both = of("cpus:4;mem:100", "a") + of("cpus:2", "b");
        let agent = Agent {
            total_resources: both.to_wire(),
            ..Agent::default()
        };
        assert_eq!(reserved(Some(&agent), "web", None), both);
        assert_eq!(reserved(Some(&agent), "web", Some("b")), of("cpus:2", "b"));
        assert!(reserved(Some(&agent), "db", None).is_empty());
        let wanted = parse("mem:10").expect("resources");
        assert_eq!(chosen(&both, &wanted).expect("one has memory"), of("mem:10", "a"));
        assert!(
            chosen(&both, &parse("cpus:1").expect("resources")).is_err(),
            "two have cpus"
        );
    }
}
