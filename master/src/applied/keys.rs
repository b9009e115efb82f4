//! The keys of the records: a letter for the kind, then the id.

use proffer_proto::v1;

pub(super) const SUMMARY: &[u8] = b"m";
pub(super) const LEVEL: &[u8] = b"l";
pub(super) const MAINTENANCE: &[u8] = b"w";
pub(super) const AGENT: u8 = b'a';
pub(super) const FRAMEWORK: u8 = b'f';
pub(super) const COMPLETED: u8 = b'c';
pub(super) const GONE: u8 = b'g';
pub(super) const MEMBER: u8 = b'p';
pub(super) const REMOVED: u8 = b'r';
pub(super) const STATE: u8 = b's';
pub(super) const QUOTA: u8 = b'q';
pub(super) const WEIGHT: u8 = b'h';

pub(super) fn agent(id: &v1::AgentId) -> Vec<u8> {
    of(AGENT, id.value.as_bytes())
}

pub(super) fn framework(id: &v1::FrameworkId) -> Vec<u8> {
    of(FRAMEWORK, id.value.as_bytes())
}

pub(super) fn completed(id: &v1::FrameworkId) -> Vec<u8> {
    of(COMPLETED, id.value.as_bytes())
}

pub(super) fn gone(id: &v1::AgentId) -> Vec<u8> {
    of(GONE, id.value.as_bytes())
}

pub(super) fn member(id: u64) -> Vec<u8> {
    of(MEMBER, &id.to_be_bytes())
}

pub(super) fn removed(id: u64) -> Vec<u8> {
    of(REMOVED, &id.to_be_bytes())
}

pub(super) fn quota(role: &str) -> Vec<u8> {
    of(QUOTA, role.as_bytes())
}

pub(super) fn weight(role: &str) -> Vec<u8> {
    of(WEIGHT, role.as_bytes())
}

/// No namespace holds a zero byte, so the keys of one stand together, in their order.
pub(super) fn state(namespace: &str, name: &str) -> Vec<u8> {
    let mut key = namespace_prefix(namespace);
    key.extend_from_slice(name.as_bytes());
    key
}

pub(super) fn namespace_prefix(namespace: &str) -> Vec<u8> {
    let mut key = of(STATE, namespace.as_bytes());
    key.push(0);
    key
}

/// The namespace and the key of an entry of the frameworks' state.
pub(super) fn names_of_state(key: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(key.get(1..)?).ok()?.split_once('\0')
}

/// The id of a master.
pub(super) fn number(key: &[u8]) -> Option<u64> {
    key.get(1..)?.try_into().ok().map(u64::from_be_bytes)
}

fn of(kind: u8, id: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(id.len() + 1);
    key.push(kind);
    key.extend_from_slice(id);
    key
}
