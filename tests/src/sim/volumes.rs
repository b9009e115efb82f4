//! The model of what an agent has on its disk of persistent volumes, and what frameworks do with them.

use std::collections::BTreeMap;

use proffer_proto::link;
use proffer_proto::v1::offer::Operation;
use proffer_proto::v1::{Offer, OperationState, OperationStatus, Resource};
use proffer_sdk::operations;

use super::rng::Rng;
use super::wire;

/// An operation whose agent was said to be unreachable so often is given up: an agent that stopped before it heard its own id comes
/// back as another.
const UNREACHABLE_MAX: u32 = 4;
/// How large every volume is.
const VOLUME_MEGABYTES: f64 = 4.0;

/// The volumes on the disk of a model agent, which does as the real one: it removes only what it is told to and has made before.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    lineage: i64,
    version: u64,
    /// By id, the version of the layout that each was made for.
    held: BTreeMap<String, u64>,
}

impl Shelf {
    /// Does what a layout wants; says which volumes are gone, and what is answered.
    pub(crate) fn lay_out(&mut self, layout: &link::Layout) -> (Vec<String>, Option<link::LayoutApplied>) {
        if layout.lineage != self.lineage {
            *self = Shelf {
                lineage: layout.lineage,
                ..Shelf::default()
            };
        }
        if layout.version < self.version {
            return (Vec::new(), None);
        }
        self.version = layout.version;
        let mut gone = Vec::new();
        for destroyed in &layout.destroyed {
            let id = operations::volume_id(&destroyed.volume).unwrap_or_default();
            if self.held.get(id).is_some_and(|since| *since < destroyed.version) {
                self.held.remove(id);
                gone.push(id.to_owned());
            }
        }
        for id in layout.resources.iter().filter_map(operations::volume_id) {
            self.held.entry(id.to_owned()).or_insert(layout.version);
        }
        let applied = link::LayoutApplied {
            lineage: layout.lineage,
            version: layout.version,
            failures: Vec::new(),
        };
        (gone, Some(applied))
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.held.contains_key(id)
    }
}

/// What an operation is to do with a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Create(String),
    Destroy(String),
}

/// The operations of a model framework whose outcome it does not know. Written down before they are asked for.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) open: BTreeMap<String, Asked>,
    /// How often in a row the agents of open operations were said to be unreachable.
    unreachable: BTreeMap<String, u32>,
    made: u64,
}

impl Ledger {
    /// Now and then makes a volume of an offer, or destroys the one that is in it; the volume that there is then.
    pub(crate) fn operate(
        &mut self,
        framework: usize,
        offer: &Offer,
        rng: &mut Rng,
    ) -> (Vec<Operation>, Option<Resource>) {
        let there = offer
            .resources
            .iter()
            .find(|resource| operations::volume_id(resource).is_some());
        let role = offer.allocation_info.as_ref().and_then(|info| info.role.clone());
        let role = role.unwrap_or_default();
        let whim = rng.one_in(3);
        if let Some(volume) = there {
            if !whim {
                return (Vec::new(), Some(volume.clone()));
            }
            let id = operations::volume_id(volume).unwrap_or_default().to_owned();
            let space = Resource {
                disk: None,
                ..volume.clone()
            };
            let destroy = operations::destroy(vec![volume.clone()]);
            let destroy = self.named(framework, destroy, Asked::Destroy(id));
            return (vec![destroy, operations::unreserve(vec![space])], None);
        }
        let is_plain = |resource: &&Resource| resource.name == "disk" && resource.reservations.is_empty();
        let plain: f64 = offer
            .resources
            .iter()
            .filter(is_plain)
            .map(|disk| wire::amount(std::slice::from_ref(disk), "disk"))
            .sum();
        if !whim || plain < VOLUME_MEGABYTES {
            return (Vec::new(), None);
        }
        self.made += 1;
        let id = format!("f{framework}-{}", self.made);
        let space = operations::reserved(operations::scalar("disk", VOLUME_MEGABYTES), &role);
        let volume = operations::volume(space.clone(), &id, "data");
        let create = operations::create(vec![volume.clone()]);
        let create = self.named(framework, create, Asked::Create(id));
        (
            vec![operations::reserve(vec![space]), create],
            Some(wire::allocated(volume, &role)),
        )
    }

    fn named(&mut self, framework: usize, operation: Operation, asked: Asked) -> Operation {
        self.made += 1;
        let id = format!("op{framework}-{}", self.made);
        self.open.insert(id.clone(), asked);
        operations::named(operation, &id)
    }

    /// Learns how an operation stands; what is done, where that is news.
    pub(crate) fn learn(&mut self, status: &OperationStatus) -> Option<Asked> {
        let id = &status.operation_id.as_ref()?.value;
        if status.state() == OperationState::OperationUnreachable {
            let times = self.unreachable.entry(id.clone()).or_default();
            *times += 1;
            if *times > UNREACHABLE_MAX {
                self.open.remove(id);
            }
            return None;
        }
        self.unreachable.remove(id);
        if !operations::is_final(status.state()) {
            return None;
        }
        let asked = self.open.remove(id)?;
        (status.state() == OperationState::OperationFinished).then_some(asked)
    }
}
