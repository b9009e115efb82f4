//! How many processes and threads may live at once.

use std::sync::Arc;

use proffer_shim::record::number;

use super::gauges::Gauge;
use super::{Controller, Error, Hierarchy};
use crate::containerizer::{ContainerId, Resources};

/// The `pids` controller, the same in both versions.
#[derive(Debug)]
pub struct Pids {
    hierarchy: Arc<Hierarchy>,
}

impl Pids {
    pub(super) fn new(hierarchy: Arc<Hierarchy>) -> Self {
        Pids { hierarchy }
    }
}

impl Controller for Pids {
    fn hierarchy(&self) -> &Arc<Hierarchy> {
        &self.hierarchy
    }

    fn apply(&self, container: &ContainerId, resources: &Resources) -> Result<(), Error> {
        let limit = resources
            .pids_max
            .map_or("max".into(), |limit| limit.max(1).to_string());
        self.hierarchy.write(container, "pids.max", &limit)
    }

    fn gauges(&self) -> &'static [Gauge] {
        &[("pids.current", |text, usage| usage.pids = number(text))]
    }
}
