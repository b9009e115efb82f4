//! What the tasks and executors of an agent hold, which its resources must not fall below.
//!
//! An agent may be started again with other resources. More is offered as soon as it has registered; less will do as long as all
//! that runs fits. Otherwise it does not start: the master would count what runs against resources that are not there.

use std::fmt;

use proffer_proto::resources::Resources;
use proffer_proto::v1;

use super::Core;

/// Why an agent cannot have the resources that it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooFew {
    held: Resources,
    total: Resources,
}

impl fmt::Display for TooFew {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { held, total } = self;
        write!(
            formatter,
            "{total} is less than the tasks that run here hold, which is {held}; accepted: at least that. To have less, start the \
             agent with what it had, and let these tasks end first"
        )
    }
}

impl std::error::Error for TooFew {}

/// Compares what is held with what there is.
///
/// # Errors
/// There is less.
pub fn check(core: &Core) -> Result<(), TooFew> {
    let tasks = core.tasks.values().filter(|task| task.is_alive());
    let tasks = tasks.map(|task| &task.info.resources);
    let executors = core.executors.values().map(|executor| &executor.info.resources);
    let mut held = Resources::default();
    tasks.chain(executors).for_each(|resources| held += &plain(resources));
    let total = plain(&core.settings.agent.resources);
    match total.contains(&held) {
        true => Ok(()),
        false => Err(TooFew { held, total }),
    }
}

/// Whoever they are reserved for or allocated to, volumes as the disk space that they are made of, but for those that may be taken
/// back. What makes no sense was refused before.
fn plain(resources: &[v1::Resource]) -> Resources {
    let resources = Resources::from_wire(resources).unwrap_or_default();
    resources.non_revocable().unallocate().to_plain_disk().to_unreserved()
}
