//! Turns `linux_info` and `rlimit_info` of a task into what its container asks for. Pure.

use proffer_proto::v1;
use proffer_proto::v1::linux_info::IpcMode;
use proffer_proto::v1::r_limit_info::r_limit::Type;

use crate::containerizer::{CAPABILITY_ENUM_BASE, Confinement, Policy, ResourceLimit};
use crate::core::{FailureKind, LaunchFailure};

/// What the container of a task asks for.
///
/// # Errors
/// What makes no sense, cannot be had, or is not allowed by the operator.
pub(crate) fn of(task: &v1::TaskInfo, policy: &Policy) -> Result<Confinement, LaunchFailure> {
    let Some(container) = &task.container else {
        return Ok(Confinement::default());
    };
    let mut confinement = match &container.linux_info {
        Some(linux) => privileges(linux, policy)?,
        None => Confinement::default(),
    };
    for limit in container.rlimit_info.iter().flat_map(|info| &info.rlimits) {
        let limit = resource_limit(limit).map_err(invalid)?;
        if confinement.rlimits.iter().any(|other| other.resource == limit.resource) {
            return Err(invalid("container.rlimit_info: a limit is given twice".into()));
        }
        confinement.rlimits.push(limit);
    }
    Ok(confinement)
}

fn privileges(linux: &v1::LinuxInfo, policy: &Policy) -> Result<Confinement, LaunchFailure> {
    let unsupported = [
        (linux.share_pid_namespace == Some(true), "share_pid_namespace"),
        (linux.ipc_mode == Some(IpcMode::ShareParent.into()), "ipc_mode"),
        (linux.shm_size.is_some(), "shm_size"),
    ];
    if let Some((_, field)) = unsupported.iter().find(|(set, _)| *set) {
        return Err(invalid(format!(
            "container.linux_info.{field}: not supported yet; leave it unset"
        )));
    }
    // The deprecated field means the effective ones.
    #[allow(deprecated)]
    let effective = linux.effective_capabilities.as_ref().or(linux.capability_info.as_ref());
    let effective = effective.map(|info| bits("effective_capabilities", info));
    let bounding = linux.bounding_capabilities.as_ref();
    let bounding = bounding.map(|info| bits("bounding_capabilities", info));
    let effective = effective.transpose().map_err(invalid)?.unwrap_or(0);
    let bounding = bounding.transpose().map_err(invalid)?.unwrap_or(effective);
    if effective & !bounding != 0 {
        return Err(invalid(format!(
            "container.linux_info.effective_capabilities: {} is missing in bounding_capabilities",
            Policy::names(effective & !bounding)
        )));
    }
    let refused = bounding & !policy.capabilities;
    if refused != 0 {
        return Err(unauthorized(format!(
            "container.linux_info: {} is not for tasks of this agent, which allows {} (--allow-capabilities)",
            Policy::names(refused),
            Policy::names(policy.capabilities)
        )));
    }
    let seccomp = linux.seccomp.clone().unwrap_or_default();
    if seccomp.profile_name.is_some() {
        return Err(invalid(
            "container.linux_info.seccomp.profile_name: there are no profiles; leave it unset".into(),
        ));
    }
    let unconfined = seccomp.unconfined();
    if unconfined && !policy.unconfined {
        return Err(unauthorized(
            "container.linux_info.seccomp.unconfined: tasks of this agent may not be unconfined; leave it unset, or start \
             the agent with --allow-unconfined-tasks"
                .into(),
        ));
    }
    Ok(Confinement {
        effective,
        bounding,
        unconfined,
        ..Confinement::default()
    })
}

fn bits(field: &str, info: &v1::CapabilityInfo) -> Result<u64, String> {
    info.capabilities.iter().try_fold(0, |bits, capability| {
        match u32::try_from(capability - CAPABILITY_ENUM_BASE) {
            Ok(number @ 0..64) => Ok(bits | 1 << number),
            _ => Err(format!("container.linux_info.{field}: {capability} is no capability")),
        }
    })
}

fn resource_limit(limit: &v1::r_limit_info::RLimit) -> Result<ResourceLimit, String> {
    let kind = limit.r#type();
    let resource = match kind {
        Type::Unknown => return Err("container.rlimit_info: `type` must be one of RLMT_AS to RLMT_STACK".into()),
        Type::RlmtAs => libc::RLIMIT_AS,
        Type::RlmtCore => libc::RLIMIT_CORE,
        Type::RlmtCpu => libc::RLIMIT_CPU,
        Type::RlmtData => libc::RLIMIT_DATA,
        Type::RlmtFsize => libc::RLIMIT_FSIZE,
        Type::RlmtLocks => libc::RLIMIT_LOCKS,
        Type::RlmtMemlock => libc::RLIMIT_MEMLOCK,
        Type::RlmtMsgqueue => libc::RLIMIT_MSGQUEUE,
        Type::RlmtNice => libc::RLIMIT_NICE,
        Type::RlmtNofile => libc::RLIMIT_NOFILE,
        Type::RlmtNproc => libc::RLIMIT_NPROC,
        Type::RlmtRss => libc::RLIMIT_RSS,
        Type::RlmtRtprio => libc::RLIMIT_RTPRIO,
        Type::RlmtRttime => libc::RLIMIT_RTTIME,
        Type::RlmtSigpending => libc::RLIMIT_SIGPENDING,
        Type::RlmtStack => libc::RLIMIT_STACK,
    };
    match (limit.soft, limit.hard) {
        (Some(soft), Some(hard)) if soft <= hard => Ok(ResourceLimit { resource, soft, hard }),
        (None, None) => Ok(ResourceLimit {
            resource,
            soft: u64::MAX,
            hard: u64::MAX,
        }),
        _ => Err(format!(
            "container.rlimit_info: {}: both limits, `soft` not above `hard`, or neither for no limit",
            kind.as_str_name()
        )),
    }
}

fn invalid(message: String) -> LaunchFailure {
    LaunchFailure {
        kind: FailureKind::Invalid,
        message,
    }
}

fn unauthorized(message: String) -> LaunchFailure {
    LaunchFailure {
        kind: FailureKind::Unauthorized,
        message,
    }
}

#[cfg(test)]
mod tests {
    use proffer_proto::v1::capability_info::Capability;

    use super::*;

    fn ask(container: v1::ContainerInfo, policy: &Policy) -> Result<Confinement, (FailureKind, String)> {
        let task = v1::TaskInfo {
            container: Some(Box::new(container)),
            ..Default::default()
        };
        of(&task, policy).map_err(|failure| (failure.kind, failure.message))
    }

    fn linux(linux_info: v1::LinuxInfo) -> v1::ContainerInfo {
        v1::ContainerInfo {
            linux_info: Some(linux_info),
            ..Default::default()
        }
    }

    fn capabilities(list: &[Capability]) -> Option<v1::CapabilityInfo> {
        Some(v1::CapabilityInfo {
            capabilities: list.iter().map(|capability| i32::from(*capability)).collect(),
        })
    }

    #[test]
    fn capabilities_are_those_that_the_operator_allows() {
        let policy = Policy {
            capabilities: 1 << 13 | 1 << 12,
            ..Policy::default()
        };
        let info = v1::LinuxInfo {
            effective_capabilities: capabilities(&[Capability::NetRaw]),
            bounding_capabilities: capabilities(&[Capability::NetRaw, Capability::NetAdmin]),
            ..Default::default()
        };
        let asked = ask(linux(info.clone()), &policy).unwrap();
        assert_eq!((asked.effective, asked.bounding), (1 << 13, 1 << 13 | 1 << 12));
        let (kind, message) = ask(linux(info), &Policy::default()).unwrap_err();
        assert_eq!(kind, FailureKind::Unauthorized);
        assert!(message.contains("NET_ADMIN, NET_RAW is not for tasks"), "{message}");
        let info = v1::LinuxInfo {
            effective_capabilities: capabilities(&[Capability::NetRaw]),
            bounding_capabilities: capabilities(&[Capability::NetAdmin]),
            ..Default::default()
        };
        let (kind, message) = ask(linux(info), &policy).unwrap_err();
        assert_eq!(kind, FailureKind::Invalid);
        assert!(message.contains("NET_RAW is missing"), "{message}");
    }

    #[test]
    fn nobody_is_unconfined_who_may_not_be() {
        let info = v1::LinuxInfo {
            seccomp: Some(v1::SeccompInfo {
                unconfined: Some(true),
                ..Default::default()
            }),
            ..Default::default()
        };
        let (kind, message) = ask(linux(info.clone()), &Policy::default()).unwrap_err();
        assert_eq!(kind, FailureKind::Unauthorized);
        assert!(message.contains("--allow-unconfined-tasks"), "{message}");
        let policy = Policy {
            unconfined: true,
            ..Policy::default()
        };
        assert!(ask(linux(info), &policy).unwrap().unconfined);
    }

    #[test]
    fn limits_are_both_or_neither() {
        let limit = |soft, hard| {
            let mut limit = v1::r_limit_info::RLimit {
                soft,
                hard,
                ..Default::default()
            };
            limit.set_type(Type::RlmtNofile);
            limit
        };
        let of = |rlimits: Vec<_>| {
            let container = v1::ContainerInfo {
                rlimit_info: Some(v1::RLimitInfo { rlimits }),
                ..Default::default()
            };
            ask(container, &Policy::default()).map(|confinement| confinement.rlimits)
        };
        let expected = |soft, hard| ResourceLimit {
            resource: libc::RLIMIT_NOFILE,
            soft,
            hard,
        };
        assert_eq!(of(vec![limit(Some(1), Some(2))]).unwrap(), [expected(1, 2)]);
        assert_eq!(of(vec![limit(None, None)]).unwrap(), [expected(u64::MAX, u64::MAX)]);
        for bad in [limit(Some(3), Some(2)), limit(Some(1), None), limit(None, Some(1))] {
            assert!(of(vec![bad]).unwrap_err().1.contains("RLMT_NOFILE"));
        }
        assert!(of(vec![limit(None, None), limit(None, None)]).is_err());
        assert!(of(vec![v1::r_limit_info::RLimit::default()]).is_err());
    }
}
