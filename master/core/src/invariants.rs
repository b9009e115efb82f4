//! What holds of a master after every step. Checked in tests and in the simulator; too slow for every step in service.

use std::collections::BTreeSet;

use proffer_proto::resources::Resources;

use crate::agents::Phase;
use crate::books;
use crate::frameworks::StreamState;
use crate::master::{Leading, Master};
use crate::offers::Offer;
use crate::proposals::Proposal;
use crate::{optimistic, revocable, roles, tasks};

/// So many pairs of claims and agents are asked about.
const EXPLAINED_MAX: usize = 500;

/// Says what is broken.
///
/// # Errors
/// A sentence about the first thing that does not hold.
pub fn check(master: &Master) -> Result<(), String> {
    owned(master)?;
    let Some(leading) = &master.leading else { return Ok(()) };
    limited(leading)?;
    conserved(leading)?;
    exclusive(leading)?;
    within_limits(master, leading)?;
    explained(leading)?;
    optimistic::check(leading)?;
    revocable::check(leading)?;
    leading.inverse.check(leading)?;
    tasks_known_once(leading)?;
    durable(master, leading)?;
    laid_out(master, leading)?;
    streams(leading)?;
    leading.gangs.check(leading)?;
    leading.allocator.check()
}

/// What frameworks keep adds up, and no framework keeps anything once it is removed.
fn owned(master: &Master) -> Result<(), String> {
    let state = &master.registry.state;
    if let Some(left) = state.namespaces().find(|name| !master.registry.is_open(name)) {
        return Err(format!("{left} is left of a framework that is removed"));
    }
    state.check()
}

/// What is on its way adds up, and whatever comes of it has room.
fn limited(leading: &Leading) -> Result<(), String> {
    let writes = leading.proposals.values().filter_map(|proposal| match proposal {
        Proposal::Write(write) => Some(write.growth),
        _ => None,
    });
    let (count, growth) = writes.fold((0, 0), |(count, sum), growth| (count + 1, sum + growth));
    let under_way = &leading.state.under_way;
    if (count, growth) != (under_way.len(), under_way.growth) {
        return Err(format!(
            "{count} writes on their way may add {growth} bytes, not {}",
            under_way.growth
        ));
    }
    leading.state.check()
}

/// For every agent: offered + allocated + free = total, and what claims hold is the sum of that.
fn conserved(leading: &Leading) -> Result<(), String> {
    for (slot, agent) in leading.agents.iter() {
        let (used, tangled) = books::count(leading, slot);
        if used != agent.used {
            return Err(format!(
                "agent {} counts {} as used instead of {used}",
                agent.id, agent.used
            ));
        }
        if tangled && !agent.tangled {
            return Err(format!("agent {} uses something twice unnoticed", agent.id));
        }
        let Some(free) = leading.allocator.free(slot) else {
            if !used.is_empty() || matches!(agent.phase, Phase::Attached(_)) {
                return Err(format!("agent {} is not known to the allocator", agent.id));
            }
            continue;
        };
        if *free != agent.free() {
            return Err(format!("agent {} has {} free, not {free}", agent.id, agent.free()));
        }
        let used = used.non_revocable() + &agent.backing;
        let overdrawn = !agent.total.contains(&used);
        if !tangled && !overdrawn && free.clone() + &used != agent.total {
            return Err(format!(
                "agent {}: {free} free + {used} used is not {}",
                agent.id, agent.total
            ));
        }
    }
    for (slot, claim) in leading.claims.iter() {
        let mut held = crate::allocator::Quantities::default();
        for (_, task) in leading.tasks.iter().filter(|(_, task)| task.claim == slot && task.held) {
            held.add(&task.resources);
        }
        let executors = leading.agents.iter().flat_map(|(_, agent)| agent.executors.values());
        for executor in executors.filter(|executor| executor.claim == Some(slot)) {
            held.add(&executor.resources);
        }
        for offer in leading.offers.values().filter(|offer| offer.claim == slot) {
            held.add(&offer.resources);
        }
        for parked in leading.parked.values() {
            if parked.owner.is_some_and(|(_, claim)| claim == slot) {
                held.add(&parked.resources);
            }
        }
        held.add(&revocable::promised(leading, slot));
        if held != leading.allocator.held(slot) {
            return Err(format!("what role {} holds is miscounted", claim.role));
        }
    }
    Ok(())
}

/// No role is offered anything of which it has more than its limit.
fn within_limits(master: &Master, leading: &Leading) -> Result<(), String> {
    for quota in master.registry.roles.quotas() {
        let consumed = leading.allocator.consumed(&quota.role);
        for (resource, limit) in &quota.limits {
            if consumed.get(resource).thousandths() <= *limit {
                continue;
            }
            let counts = |offer: &&Offer| {
                let mut entries = offer.resources.iter();
                roles::is_within(&leading.claims[offer.claim].role, &quota.role)
                    && entries.any(|entry| entry.name() == resource && roles::is_plain(entry))
            };
            if leading.offers.values().find(counts).is_some() {
                return Err(format!("role {} is offered {resource} beyond its limit", quota.role));
            }
        }
    }
    Ok(())
}

/// There is a reason for everything that is not offered. Not looked for in clusters that are too large for that.
fn explained(leading: &Leading) -> Result<(), String> {
    if leading.claims.iter().count() * leading.agents.iter().count() > EXPLAINED_MAX {
        return Ok(());
    }
    for (claim, state) in leading.claims.iter() {
        for (agent, at) in leading.agents.iter() {
            if let Ok(resources) = leading.allocator.verdict(claim, agent) {
                return Err(format!(
                    "{resources} of agent {} could be offered to {}",
                    at.id, state.role
                ));
            }
        }
    }
    Ok(())
}

/// An offer is in the lists of its agent and framework and in no other, and both are there to answer it.
fn exclusive(leading: &Leading) -> Result<(), String> {
    for (number, offer) in &leading.offers {
        let framework = &leading.frameworks[offer.framework];
        let agent = &leading.agents[offer.agent];
        if !agent.offers.contains(number) || !framework.offers.contains(number) {
            return Err(format!("{number:?} is not listed with its agent and framework"));
        }
        if framework.stream().is_none() {
            return Err(format!("{number:?} is open, but framework {} is away", framework.id));
        }
        if agent.connection().is_none() {
            return Err(format!("{number:?} is open, but agent {} is away", agent.id));
        }
    }
    let by_agent: usize = leading.agents.iter().map(|(_, agent)| agent.offers.len()).sum();
    let by_framework: usize = leading
        .frameworks
        .iter()
        .map(|(_, framework)| framework.offers.len())
        .sum();
    if by_agent != leading.offers.len() || by_framework != leading.offers.len() {
        return Err("an ended offer is still listed".to_owned());
    }
    Ok(())
}

/// A task is listed once with its framework and once with its agent; an ended one holds nothing. Nothing is left of a task
/// on an agent that is not counted on.
fn tasks_known_once(leading: &Leading) -> Result<(), String> {
    for (slot, task) in leading.tasks.iter() {
        let id = &task.record.id();
        if leading.frameworks[task.framework].tasks.get(id) != Some(&slot) {
            return Err(format!("task {id} is not listed with its framework"));
        }
        if !leading.agents[task.agent].tasks.contains(&slot) {
            return Err(format!("task {id} is not listed with its agent"));
        }
        let unreachable = matches!(leading.agents[task.agent].phase, Phase::Unreachable { .. });
        let holds = !tasks::is_terminal(task.state()) && !unreachable;
        if task.held && !holds {
            return Err(format!("task {id} holds resources as {:?}", task.state()));
        }
    }
    for (_, agent) in leading.agents.iter() {
        if (!agent.remnants.is_empty() || !agent.executors.is_empty())
            && matches!(agent.phase, Phase::Unreachable { .. } | Phase::Recovered)
        {
            return Err(format!(
                "something is left of a task on agent {}, or an executor, which is away",
                agent.id
            ));
        }
    }
    let tasks = leading.tasks.iter().count();
    let by_agent: usize = leading.agents.iter().map(|(_, agent)| agent.tasks.len()).sum();
    let by_framework: usize = leading
        .frameworks
        .iter()
        .map(|(_, framework)| framework.tasks.len())
        .sum();
    if by_agent != tasks || by_framework != tasks {
        return Err("a forgotten task is still listed".to_owned());
    }
    Ok(())
}

/// Every agent and framework that is spoken of is in the registry, and no change of it is there that it does not show.
fn durable(master: &Master, leading: &Leading) -> Result<(), String> {
    for (_, agent) in leading.agents.iter() {
        let Some(known) = master.registry.agents.get(&agent.id) else {
            return Err(format!("agent {} is not in the registry", agent.id));
        };
        let unreachable = matches!(agent.phase, Phase::Unreachable { .. });
        if unreachable != known.unreachable_ms.is_some() && !agent.in_flight {
            return Err(format!("agent {} is unreachable in one place only", agent.id));
        }
    }
    for (_, framework) in leading.frameworks.iter() {
        let Some(known) = master.registry.frameworks.get(&framework.id) else {
            return Err(format!("framework {} is not in the registry", framework.id));
        };
        if framework.stream().is_some() && known.failover_deadline_ms.is_some() {
            return Err(format!("framework {} is connected, but has a deadline", framework.id));
        }
    }
    if leading.agents.iter().count() != master.registry.agents.len() {
        return Err("an agent of the registry is not known".to_owned());
    }
    if leading.frameworks.iter().count() != master.registry.frameworks.len() {
        return Err("a framework of the registry is not known".to_owned());
    }
    let listed: BTreeSet<_> = leading.agent_ids.values().collect();
    if listed.len() != leading.agents.iter().count() {
        return Err("an agent has no id, or two".to_owned());
    }
    Ok(())
}

/// What the leader knows of reservations and volumes is what the registry has; each volume is there once, and what is held
/// for operations is listed with its agent.
fn laid_out(master: &Master, leading: &Leading) -> Result<(), String> {
    for (_, agent) in leading.agents.iter() {
        let known = master.registry.agents.get(&agent.id);
        let layout = known.and_then(|known| known.layout.clone()).unwrap_or_default();
        if layout != agent.layout {
            return Err(format!("agent {} has another layout than in the registry", agent.id));
        }
        let mut volumes = BTreeSet::new();
        for entry in &agent.converted {
            let role = entry.key().reservation_role();
            if entry.key().volume_id().is_some_and(|id| !volumes.insert((role, id))) {
                return Err(format!("agent {} has a volume twice: {}", agent.id, agent.converted));
            }
        }
        if !matches!(agent.phase, Phase::Attached(_)) {
            continue;
        }
        let declared = Resources::from_wire(&agent.info.resources).unwrap_or_default();
        if agent.total.clone().to_declared() != declared.unallocate() {
            return Err(format!(
                "agent {} does not have what it declares: {}",
                agent.id, agent.total
            ));
        }
    }
    let listed: usize = leading.agents.iter().map(|(_, agent)| agent.parked.len()).sum();
    if listed != leading.parked.len() {
        return Err("what is held for an operation is not listed with its agent".to_owned());
    }
    Ok(())
}

/// Streams and connections lead to who has them.
fn streams(leading: &Leading) -> Result<(), String> {
    for (stream, state) in &leading.streams {
        if let StreamState::Open(slot) = state
            && leading.frameworks.get(*slot).and_then(|framework| framework.stream()) != Some(*stream)
        {
            return Err(format!("stream {stream} leads to a framework that does not have it"));
        }
    }
    for (_, framework) in leading.frameworks.iter() {
        if framework
            .stream()
            .is_some_and(|stream| !leading.streams.contains_key(&stream))
        {
            return Err(format!("the stream of framework {} is forgotten", framework.id));
        }
    }
    for (connection, slot) in &leading.connections {
        if let Some(slot) = slot
            && leading.agents.get(*slot).and_then(|agent| agent.connection()) != Some(*connection)
        {
            return Err(format!(
                "connection {connection} leads to an agent that does not have it"
            ));
        }
    }
    Ok(())
}
