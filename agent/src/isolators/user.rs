//! The user that the container runs as.

use proffer_shim::plan::Step;

use super::{Error, Isolator, LaunchPlan};
use crate::containerizer::{ContainerSpec, EnforcementNote};

/// What Linux takes (`NGROUPS_MAX`).
const GROUPS_MAX: usize = 65_536;

/// Switches the user.
#[derive(Debug)]
pub(super) struct UserIsolator;

impl Isolator for UserIsolator {
    fn name(&self) -> &'static str {
        "user"
    }

    fn note(&self) -> EnforcementNote {
        EnforcementNote {
            isolator: "user",
            text: "the task's user and groups, root only where allowed".into(),
            enforced: true,
        }
    }

    fn restrict(&self, container: &ContainerSpec, plan: &mut LaunchPlan) -> Result<(), Error> {
        let user = &container.user;
        let rejected = |field, reason: String| Err(Error::Rejected { field, reason });
        if user.uid == 0 && !container.root_allowed {
            return rejected(
                "user",
                "root is not allowed to run tasks on this agent; name another user".into(),
            );
        }
        // All ones stands for "unchanged" in the system calls.
        if user.uid == u32::MAX || user.gid == u32::MAX || user.groups.contains(&u32::MAX) {
            return rejected("user", format!("{} is not a user or group id", u32::MAX));
        }
        if user.groups.len() > GROUPS_MAX {
            return rejected(
                "user",
                format!("{} groups are more than {GROUPS_MAX}", user.groups.len()),
            );
        }
        let groups: Vec<u8> = user.groups.iter().flat_map(|group| group.to_le_bytes()).collect();
        plan.privileges.push(&Step::Credentials {
            uid: user.uid,
            gid: user.gid,
            groups: &groups,
        });
        Ok(())
    }
}
