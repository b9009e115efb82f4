//! An offer belongs to one framework and ends in one way; what is offered of an agent is never more than the agent has.

use std::collections::{BTreeMap, BTreeSet};

use proffer_master_core::StreamId;
use proffer_proto::v1::{AgentId, Offer, OfferId};

use super::Violation;
use crate::sim::wire;

const NAME: &str = "offers_exclusive";

#[derive(Debug)]
struct Outstanding {
    stream: StreamId,
    agent: AgentId,
    cpus: f64,
}

#[derive(Debug, Default)]
pub(crate) struct OffersExclusive {
    ever: BTreeSet<OfferId>,
    outstanding: BTreeMap<OfferId, Outstanding>,
}

impl OffersExclusive {
    pub(crate) fn offered(&mut self, stream: StreamId, offer: &Offer, agent_cpus: f64) -> Result<(), Violation> {
        if !self.ever.insert(offer.id.clone()) {
            return Err(Violation::new(NAME, format!("offer {} was made twice", offer.id)));
        }
        let cpus = wire::amount(&offer.resources, "cpus");
        let agent = offer.agent_id.clone();
        let sum: f64 = self
            .outstanding
            .values()
            .filter(|other| other.agent == agent)
            .map(|other| other.cpus)
            .sum::<f64>()
            + cpus;
        if sum > agent_cpus + 0.0005 {
            return Err(Violation::new(
                NAME,
                format!("{sum} of {agent_cpus} cpus of agent {agent} are on offer"),
            ));
        }
        self.outstanding
            .insert(offer.id.clone(), Outstanding { stream, agent, cpus });
        Ok(())
    }

    pub(crate) fn ended(&mut self, offer: &OfferId) {
        self.outstanding.remove(offer);
    }

    pub(crate) fn stream_ended(&mut self, stream: StreamId) {
        self.outstanding.retain(|_, offer| offer.stream != stream);
    }

    pub(crate) fn master_ended(&mut self) {
        self.outstanding.clear();
    }
}
