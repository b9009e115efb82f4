//! The operator's orders for agents: they are drained, perhaps for good, deactivated, and reactivated.

use proffer_master_core::Input;
use proffer_proto::registry;
use proffer_proto::v1::{AgentId, master};

use super::*;

impl World {
    /// By whim, until the faults are over; then every agent is to be offered again.
    pub(super) fn order(&mut self) -> Step {
        let delay = if self.healed { 500 } else { self.rng.range(500, 5_000) };
        self.after(delay, Event::Order);
        let leaders: Vec<usize> = (0..self.machines.len())
            .filter(|machine| self.machines[*machine].leads() && self.machines[*machine].paused.is_none())
            .collect();
        let Some(leader) = self.rng.pick(&leaders) else {
            return Ok(());
        };
        let known = self.process(leader).core.registry().agents;
        if self.healed {
            let held_back = known.into_iter().filter(|agent| {
                let standing = agent.standing.unwrap_or_default();
                standing != registry::Standing::default()
            });
            for id in held_back.filter_map(|agent| agent.info.id) {
                self.give(leader, reactivate(id))?;
            }
            return Ok(());
        }
        let indices: Vec<usize> = (0..known.len()).collect();
        let picked = self.rng.pick(&indices).and_then(|index| known[index].info.id.clone());
        let Some(id) = picked else { return Ok(()) };
        let call = match self.rng.range(0, 3) {
            0 => {
                self.no_task_lost.drain_ordered(id.clone());
                drain(id, self.rng.one_in(4))
            }
            1 => master::Call {
                r#type: Some(master::call::Type::DeactivateAgent.into()),
                deactivate_agent: Some(master::call::DeactivateAgent { agent_id: id }),
                ..master::Call::default()
            },
            _ => reactivate(id),
        };
        self.give(leader, call)
    }

    /// Whether it is carried out does not matter: the answer may be a refusal, or be lost with the leader.
    fn give(&mut self, leader: usize, call: master::Call) -> Step {
        self.note(format_args!("the operator tells machine {leader} {:?}", call.r#type()));
        let request = self.request();
        let call = Box::new(call);
        self.process(leader).input(Input::Operator { request, call });
        self.drive(leader)
    }
}

fn drain(agent_id: AgentId, for_good: bool) -> master::Call {
    master::Call {
        r#type: Some(master::call::Type::DrainAgent.into()),
        drain_agent: Some(master::call::DrainAgent {
            agent_id,
            max_grace_period: None,
            mark_gone: Some(for_good),
        }),
        ..master::Call::default()
    }
}

fn reactivate(agent_id: AgentId) -> master::Call {
    master::Call {
        r#type: Some(master::call::Type::ReactivateAgent.into()),
        reactivate_agent: Some(master::call::ReactivateAgent { agent_id }),
        ..master::Call::default()
    }
}
