//! Process ids and System V/POSIX message queues of the container's own: it neither sees nor signals what it did not start.

use super::{Error, Isolator, LaunchPlan};
use crate::containerizer::{ContainerSpec, EnforcementNote};

/// `CLONE_NEWIPC` (clone(2)).
const NEW_IPC: u64 = 0x0800_0000;

/// Separates pids and IPC.
#[derive(Debug)]
pub(super) struct NamespacesIsolator;

impl Isolator for NamespacesIsolator {
    fn name(&self) -> &'static str {
        "namespaces"
    }

    fn note(&self) -> EnforcementNote {
        EnforcementNote {
            isolator: "namespaces",
            text: "pid and ipc namespaces".into(),
            enforced: true,
        }
    }

    fn prepare(&self, _container: &ContainerSpec, plan: &mut LaunchPlan) -> Result<(), Error> {
        plan.pid_namespace = true;
        plan.clone_flags |= NEW_IPC;
        Ok(())
    }
}
