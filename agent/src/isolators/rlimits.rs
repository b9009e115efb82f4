//! The resource limits (`setrlimit(2)`) that a task asks for; those that it does not name are what the agent was started with.
//!
//! The agent itself needs some open files for each container, and so raises its own limit as far as it may. Its tasks do not inherit
//! that: programs that close every file they could have open, or wait by select(2), do badly with a high one.

use std::sync::OnceLock;

use proffer_shim::plan::Step;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Error, Isolator, LaunchPlan};
use crate::containerizer::{ContainerSpec, EnforcementNote, ResourceLimit};

/// `CAP_SYS_RESOURCE`, which may raise hard limits.
const SYS_RESOURCE: u64 = 1 << 24;
/// The most open files that a process may be allowed, whoever asks.
const OPEN_FILES_MAX: &str = "/proc/sys/fs/nr_open";

const RESOURCES: [(u32, &str, Resource); 16] = [
    (libc::RLIMIT_AS, "RLMT_AS", Resource::As),
    (libc::RLIMIT_CORE, "RLMT_CORE", Resource::Core),
    (libc::RLIMIT_CPU, "RLMT_CPU", Resource::Cpu),
    (libc::RLIMIT_DATA, "RLMT_DATA", Resource::Data),
    (libc::RLIMIT_FSIZE, "RLMT_FSIZE", Resource::Fsize),
    (libc::RLIMIT_LOCKS, "RLMT_LOCKS", Resource::Locks),
    (libc::RLIMIT_MEMLOCK, "RLMT_MEMLOCK", Resource::Memlock),
    (libc::RLIMIT_MSGQUEUE, "RLMT_MSGQUEUE", Resource::Msgqueue),
    (libc::RLIMIT_NICE, "RLMT_NICE", Resource::Nice),
    (libc::RLIMIT_NOFILE, "RLMT_NOFILE", Resource::Nofile),
    (libc::RLIMIT_NPROC, "RLMT_NPROC", Resource::Nproc),
    (libc::RLIMIT_RSS, "RLMT_RSS", Resource::Rss),
    (libc::RLIMIT_RTPRIO, "RLMT_RTPRIO", Resource::Rtprio),
    (libc::RLIMIT_RTTIME, "RLMT_RTTIME", Resource::Rttime),
    (libc::RLIMIT_SIGPENDING, "RLMT_SIGPENDING", Resource::Sigpending),
    (libc::RLIMIT_STACK, "RLMT_STACK", Resource::Stack),
];

/// Sets resource limits.
#[derive(Debug)]
pub(super) struct RlimitsIsolator {
    /// Whether hard limits may be raised.
    may_raise: bool,
    /// Of open files, for tasks that name none.
    open_files: ResourceLimit,
}

impl RlimitsIsolator {
    pub(super) fn new() -> Self {
        RlimitsIsolator {
            may_raise: super::capabilities::own().permitted & SYS_RESOURCE != 0,
            open_files: raise_open_files(),
        }
    }

    fn check(&self, limit: &ResourceLimit) -> Result<(), String> {
        let Some((_, name, resource)) = RESOURCES.iter().find(|(number, ..)| *number == limit.resource) else {
            return Err(format!("{} is no resource", limit.resource));
        };
        if limit.soft > limit.hard {
            return Err(format!("{name}: the soft limit must not be above the hard one"));
        }
        let most = match (self.may_raise, *resource) {
            (true, Resource::Nofile) => {
                let most = std::fs::read_to_string(OPEN_FILES_MAX).ok();
                most.and_then(|most| most.trim().parse().ok()).unwrap_or(u64::MAX)
            }
            (true, _) => u64::MAX,
            (false, resource) => getrlimit(resource).maximum.unwrap_or(u64::MAX),
        };
        if limit.hard > most {
            return Err(format!(
                "{name}: a hard limit of up to {most} is possible on this agent"
            ));
        }
        Ok(())
    }
}

impl Isolator for RlimitsIsolator {
    fn name(&self) -> &'static str {
        "rlimits"
    }

    fn note(&self) -> EnforcementNote {
        let text = match self.may_raise {
            true => "setrlimit: what a task asks for; else what the agent was started with",
            false => "setrlimit: what a task asks for, up to the agent's own hard limits (it lacks CAP_SYS_RESOURCE)",
        };
        EnforcementNote {
            isolator: "rlimits",
            text: text.into(),
            enforced: true,
        }
    }

    fn restrict(&self, container: &ContainerSpec, plan: &mut LaunchPlan) -> Result<(), Error> {
        let asked = &container.confinement.rlimits;
        for limit in asked {
            self.check(limit).map_err(|reason| Error::Rejected {
                field: "rlimit_info",
                reason,
            })?;
        }
        let names_open_files = asked.iter().any(|limit| limit.resource == libc::RLIMIT_NOFILE);
        for limit in asked.iter().chain((!names_open_files).then_some(&self.open_files)) {
            plan.privileges.push(&Step::ResourceLimit {
                resource: limit.resource,
                soft: limit.soft,
                hard: limit.hard,
            });
        }
        Ok(())
    }
}

/// Lets the agent have as many open files as it may, whatever isolators it uses; returns the limit that it was started with.
pub(super) fn raise_open_files() -> ResourceLimit {
    static BEFORE: OnceLock<ResourceLimit> = OnceLock::new();
    *BEFORE.get_or_init(|| {
        let before = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: before.maximum,
            maximum: before.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of the agent's open files cannot be raised");
        }
        ResourceLimit {
            resource: libc::RLIMIT_NOFILE,
            soft: before.current.unwrap_or(u64::MAX),
            hard: before.maximum.unwrap_or(u64::MAX),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_cannot_be_set_is_named_with_what_can() {
        let limit = |soft, hard| ResourceLimit {
            resource: libc::RLIMIT_NOFILE,
            soft,
            hard,
        };
        let isolator = RlimitsIsolator {
            may_raise: false,
            open_files: raise_open_files(),
        };
        let own = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        assert_eq!(isolator.check(&limit(5, own)), Ok(()));
        assert!(
            isolator
                .check(&limit(6, 5))
                .unwrap_err()
                .contains("RLMT_NOFILE: the soft")
        );
        if own < u64::MAX {
            let refused = isolator.check(&limit(5, own + 1)).unwrap_err();
            assert!(refused.contains(&format!("up to {own}")), "{refused}");
        }
        let raising = RlimitsIsolator {
            may_raise: true,
            ..isolator
        };
        assert!(raising.check(&limit(5, u64::MAX)).unwrap_err().contains("RLMT_NOFILE"));
    }
}
