//! What a group is founded with.

use std::collections::BTreeSet;

use proffer_proto::raft::Founding;
use proffer_proto::registry::{Member, Registry};

/// Whether a master can begin with this.
///
/// # Errors
/// What is wrong with it.
pub fn check(founding: &Founding, member: u64) -> Result<(), String> {
    let Founding {
        protocol,
        cluster_id,
        members,
        ..
    } = founding;
    if *protocol != super::PROTOCOL {
        return Err(format!(
            "the protocol is {protocol}, and this master speaks {}",
            super::PROTOCOL
        ));
    }
    if cluster_id.is_empty() {
        return Err("there is no cluster id".to_owned());
    }
    let ids: BTreeSet<u64> = members.iter().map(|member| member.id).collect();
    if ids.len() != members.len() || ids.contains(&0) {
        return Err("two members have the same id, or one has the id 0".to_owned());
    }
    if !ids.contains(&member) {
        return Err(format!(
            "this master has the id {member}, which is not among the initial members of cluster {cluster_id}: its work directory \
             was made after they had found each other"
        ));
    }
    Ok(())
}

/// The registry that a group begins with; the same at each of its masters.
pub fn registry(members: &[Member]) -> Registry {
    let mut members = members.to_vec();
    members.sort_by_key(|member| member.id);
    Registry {
        level: members.iter().map(|member| member.level).min(),
        members,
        ..Registry::default()
    }
}
