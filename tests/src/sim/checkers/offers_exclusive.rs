//! An offer belongs to one framework and ends in one way; what a master offers of an agent is never more than the agent has.
//!
//! A master that was deposed and has not noticed may still have offers open; they are worth nothing, so each master's
//! offers are counted by themselves. No two masters ever make the same id.

use std::collections::{BTreeMap, BTreeSet};

use proffer_master_core::StreamId;
use proffer_proto::v1::{AgentId, Offer, OfferId};

use super::Violation;
use crate::sim::wire;

const NAME: &str = "offers_exclusive";

#[derive(Debug)]
struct Outstanding {
    machine: usize,
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
    pub(crate) fn offered(
        &mut self,
        machine: usize,
        stream: StreamId,
        offer: &Offer,
        agent_cpus: f64,
    ) -> Result<(), Violation> {
        if !self.ever.insert(offer.id.clone()) {
            return Err(Violation::new(NAME, format!("offer {} was made twice", offer.id)));
        }
        let cpus = wire::amount(&offer.resources, "cpus");
        let agent = offer.agent_id.clone();
        let sum: f64 = self
            .outstanding
            .values()
            .filter(|other| other.machine == machine && other.agent == agent)
            .map(|other| other.cpus)
            .sum::<f64>()
            + cpus;
        if sum > agent_cpus + 0.0005 {
            return Err(Violation::new(
                NAME,
                format!("{sum} of {agent_cpus} cpus of agent {agent} are on offer"),
            ));
        }
        let outstanding = Outstanding {
            machine,
            stream,
            agent,
            cpus,
        };
        self.outstanding.insert(offer.id.clone(), outstanding);
        Ok(())
    }

    pub(crate) fn ended(&mut self, offer: &OfferId) {
        self.outstanding.remove(offer);
    }

    pub(crate) fn stream_ended(&mut self, stream: StreamId) {
        self.outstanding.retain(|_, offer| offer.stream != stream);
    }

    pub(crate) fn master_ended(&mut self, machine: usize) {
        self.outstanding.retain(|_, offer| offer.machine != machine);
    }
}
