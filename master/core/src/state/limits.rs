//! What calls about the state may hold.

use bytes::Bytes;
use proffer_proto::Rejection;
use proffer_proto::state::List;

use crate::registry::Registry;

const NAMESPACE_BYTES_MAX: usize = 256;
const KEY_BYTES_MAX: usize = 1024;
const VALUE_BYTES_MAX: usize = 1 << 20;
/// How many entries are listed where no limit is given.
pub(super) const LIST_DEFAULT: usize = 1000;
/// How many bytes of entries are listed at once: a message of 4 MiB has room for them.
pub(super) const LIST_BYTES_MAX: usize = (4 << 20) - 1024;
/// What an entry takes in a message beside its key and value, at most.
pub(super) const ENTRY_BYTES: usize = 32;

pub(super) fn namespace(registry: &Registry, namespace: &str) -> Result<(), Rejection> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
    let problem = if namespace.is_empty() {
        "is empty".to_owned()
    } else if namespace.len() > NAMESPACE_BYTES_MAX {
        format!("is {} bytes long", namespace.len())
    } else if let Some(bad) = namespace.chars().find(|c| !u8::try_from(*c).is_ok_and(good)) {
        format!("holds {bad:?}")
    } else if !registry.is_open(namespace) {
        let problem = format!("is {namespace:?}, but no framework with this id is registered");
        let accepted = "`framework/` and the id of a registered framework, or a name that does not begin so";
        return Err(Rejection::new("namespace", problem, accepted));
    } else {
        return Ok(());
    };
    let accepted = format!("1 to {NAMESPACE_BYTES_MAX} bytes of `A-Z a-z 0-9 . _ - /`");
    Err(Rejection::new("namespace", problem, accepted))
}

pub(super) fn key(key: &str) -> Result<(), Rejection> {
    if key.is_empty() {
        return Err(bad_key("key", "is empty".to_owned(), 1));
    }
    part_of_key("key", key, 1)
}

fn part_of_key(field: &str, part: &str, least: usize) -> Result<(), Rejection> {
    if part.len() > KEY_BYTES_MAX {
        return Err(bad_key(field, format!("is {} bytes long", part.len()), least));
    }
    match part.chars().find(|c| c.is_control()) {
        Some(bad) => Err(bad_key(field, format!("holds {bad:?}"), least)),
        None => Ok(()),
    }
}

fn bad_key(field: &str, problem: String, least: usize) -> Rejection {
    let accepted = format!("{least} to {KEY_BYTES_MAX} bytes of UTF-8 without control characters");
    Rejection::new(field, problem, accepted)
}

pub(super) fn value(value: &Bytes) -> Result<(), Rejection> {
    if value.len() <= VALUE_BYTES_MAX {
        return Ok(());
    }
    let problem = format!("is {} bytes long", value.len());
    let accepted = format!("at most {VALUE_BYTES_MAX} bytes");
    Err(Rejection::new("value", problem, accepted))
}

pub(super) fn list(list: &List) -> Result<(), Rejection> {
    prefix(list.prefix.as_deref())?;
    if let Some(after) = &list.after {
        part_of_key("after", after, 0)?;
    }
    if list.limit == Some(0) {
        return Err(Rejection::new("limit", "is 0", "1 or more, or none"));
    }
    Ok(())
}

pub(super) fn prefix(prefix: Option<&str>) -> Result<(), Rejection> {
    part_of_key("prefix", prefix.unwrap_or_default(), 0)
}
