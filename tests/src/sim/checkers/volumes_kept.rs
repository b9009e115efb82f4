//! A volume whose making was told as finished is on its agent, with what is in it, until somebody asks for its destruction or the agent
//! is gone.

use std::collections::{BTreeMap, BTreeSet};

use proffer_proto::v1::AgentId;

use super::Violation;
use crate::sim::agent::ModelAgent;
use crate::sim::volumes::Asked;

const NAME: &str = "volumes_kept";

#[derive(Debug, Default)]
pub(crate) struct VolumesKept {
    kept: BTreeMap<String, AgentId>,
    unwanted: BTreeSet<String>,
    done: u64,
}

impl VolumesKept {
    /// A framework sends an operation to a master.
    pub(crate) fn asked(&mut self, asked: &Asked) {
        if let Asked::Destroy(id) = asked {
            self.kept.remove(id);
            self.unwanted.insert(id.clone());
        }
    }

    /// A framework hears that an operation is done.
    pub(crate) fn finished(&mut self, asked: &Asked, agent: &AgentId, agents: &[ModelAgent]) -> Result<(), Violation> {
        self.done += 1;
        let here = agents.iter().find(|model| model.id.as_ref() == Some(agent));
        match asked {
            Asked::Create(id) if !self.unwanted.contains(id) => {
                self.kept.insert(id.clone(), agent.clone());
                self.finish(agents)
            }
            Asked::Destroy(id) if here.is_some_and(|model| model.volumes.has(id)) => {
                let what = format!("the volume {id} is destroyed, and still on agent {agent}");
                Err(Violation::new(NAME, what))
            }
            _ => Ok(()),
        }
    }

    /// An agent removes the data of a volume.
    pub(crate) fn removed(&self, id: &str) -> Result<(), Violation> {
        if self.unwanted.contains(id) {
            return Ok(());
        }
        let what = format!("the data of the volume {id} is removed, which nobody asked for");
        Err(Violation::new(NAME, what))
    }

    /// Whether every volume is where it is said to be.
    pub(crate) fn finish(&self, agents: &[ModelAgent]) -> Result<(), Violation> {
        for (id, agent) in &self.kept {
            let here = agents.iter().find(|model| model.id.as_ref() == Some(agent));
            if here.is_some_and(|model| !model.volumes.has(id)) {
                return Err(Violation::new(NAME, format!("the volume {id} is not on agent {agent}")));
            }
        }
        Ok(())
    }

    pub(crate) fn count(&self) -> u64 {
        self.done
    }
}
