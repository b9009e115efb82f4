//! What is decided about one set of offers.

use std::collections::HashMap;

use proffer_proto::v1::Offer;
use proffer_sdk::offers::{Matcher, Placement, TaskShape};

use crate::spec::ServiceSpec;

use super::{Chooser, Machine};

/// Where an instance goes.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The index of the instance.
    pub index: u32,
    /// What of which offers it takes.
    pub placement: Placement,
    /// The agent.
    pub machine: Machine,
}

/// Places instances on what is left of some offers, one service after the other.
#[derive(Debug)]
pub struct Round {
    machines: Vec<Machine>,
    matchers: Vec<Matcher>,
    /// Thousandths of processors that are left of each agent.
    room: Vec<u64>,
}

impl Round {
    /// Begins with these offers.
    pub fn new(offers: &[Offer]) -> Self {
        let mut of_agent: HashMap<&str, usize> = HashMap::new();
        let mut grouped: Vec<Vec<&Offer>> = Vec::new();
        for offer in offers {
            let index = *of_agent.entry(&offer.agent_id.value).or_insert_with(|| {
                grouped.push(Vec::new());
                grouped.len() - 1
            });
            grouped[index].push(offer);
        }
        Self {
            machines: grouped.iter().map(|offers| Machine::of(offers[0])).collect(),
            room: grouped.iter().map(|offers| cpus(offers)).collect(),
            matchers: grouped.into_iter().map(Matcher::new).collect(),
        }
    }

    /// Finds agents for instances of a service, as many as have room. `here` is where its other instances are;
    /// `neighbours` says whether instances of another service are on an agent.
    pub fn decide<'a>(
        &mut self,
        spec: &ServiceSpec,
        shape: &TaskShape,
        indices: impl IntoIterator<Item = u32>,
        here: impl IntoIterator<Item = &'a Machine>,
        neighbours: impl Fn(&str, &Machine) -> bool,
    ) -> Vec<Decision> {
        let mut chooser = Chooser::new(spec, &self.machines, self.room.clone(), here, neighbours);
        let taken = (spec.cpus * 1000.0).round() as u64;
        let mut decisions = Vec::new();
        for index in indices {
            let placed = loop {
                let Some(machine) = chooser.best() else { break None };
                match self.matchers[machine].place(shape) {
                    Some(placement) => break Some((machine, placement)),
                    // All instances of a service are alike: where one finds no room the others do not either.
                    None => chooser.close(machine),
                }
            };
            let Some((machine, placement)) = placed else { break };
            self.room[machine] = self.room[machine].saturating_sub(taken);
            chooser.place(machine, self.room[machine]);
            decisions.push(Decision {
                index,
                placement,
                machine: self.machines[machine].clone(),
            });
        }
        decisions
    }
}

/// The processors of some offers, in thousandths.
fn cpus(offers: &[&Offer]) -> u64 {
    let resources = offers.iter().flat_map(|offer| &offer.resources);
    let cpus = resources.filter(|resource| resource.name == "cpus");
    let cpus = cpus.filter_map(|resource| resource.scalar.as_ref());
    cpus.map(|cpus| (cpus.value * 1000.0).round() as u64).sum()
}
