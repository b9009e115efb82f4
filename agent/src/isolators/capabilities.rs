//! Capabilities: none, unless the operator lets tasks ask for some; and no way to gain one.

use proffer_shim::plan::Step;

use super::{Error, Isolator, LaunchPlan};
use crate::containerizer::{self, Config, ContainerSpec, EnforcementNote, Policy};

/// Bounds capabilities.
#[derive(Debug)]
pub(super) struct CapabilitiesIsolator {
    allowed: u64,
}

impl CapabilitiesIsolator {
    pub(super) fn new(config: &Config) -> Result<Self, containerizer::Error> {
        let allowed = config.policy.capabilities;
        let own = own();
        let missing = allowed & !(own.permitted & own.bounding);
        if missing != 0 {
            return Err(containerizer::Error::Unenforceable {
                isolator: "capabilities",
                reason: format!("the agent itself does not have {}", Policy::names(missing)),
            });
        }
        Ok(CapabilitiesIsolator { allowed })
    }
}

impl Isolator for CapabilitiesIsolator {
    fn name(&self) -> &'static str {
        "capabilities"
    }

    fn note(&self) -> EnforcementNote {
        let text = match self.allowed {
            0 => "no_new_privs, an empty bounding set".into(),
            allowed => format!(
                "no_new_privs, a bounding set of what a task asks for of {}",
                Policy::names(allowed)
            ),
        };
        EnforcementNote {
            isolator: "capabilities",
            text,
            enforced: true,
        }
    }

    fn bounding_set(&self) -> Option<u64> {
        Some(self.allowed)
    }

    fn restrict(&self, container: &ContainerSpec, plan: &mut LaunchPlan) -> Result<(), Error> {
        let confinement = &container.confinement;
        let asked = confinement.effective | confinement.bounding;
        if asked & !self.allowed != 0 {
            let reason = format!(
                "{} is not for tasks of this agent; it allows {}",
                Policy::names(asked & !self.allowed),
                Policy::names(self.allowed)
            );
            return Err(Error::Rejected {
                field: "linux_info",
                reason,
            });
        }
        plan.privileges.push(&Step::BoundCapabilities(asked));
        plan.privileges.push(&Step::NoNewPrivileges);
        plan.confinement.push(&Step::Capabilities(confinement.effective));
        Ok(())
    }
}

/// The agent's own capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) permitted: u64,
    pub(super) bounding: u64,
}

pub(super) fn own() -> Own {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    Own {
        permitted: set("CapPrm:").unwrap_or_default(),
        bounding: set("CapBnd:").unwrap_or_default(),
    }
}
