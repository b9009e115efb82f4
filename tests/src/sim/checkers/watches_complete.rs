//! A watch of the frameworks' state sees what was there at some moment, and from then on every change, once, in order.

use std::collections::BTreeMap;

use proffer_proto::registry::{Change, change};
use proffer_proto::state::event::Body;
use proffer_proto::state::{Deleted, Entry, Event};

use super::Violation;

const NAME: &str = "watches_complete";

/// Looks for the moment at which a stream of events began. True if it has seen everything up to now.
pub(crate) fn check(log: &[(u64, Change)], namespace: &str, seen: &[Event]) -> Result<bool, Violation> {
    let Some(current) = seen
        .iter()
        .position(|event| matches!(event.body, Some(Body::Current(_))))
    else {
        return Ok(false);
    };
    let changes = changes(log, namespace);
    let (there, then) = (&seen[..current], &seen[current + 1..]);
    let mut held = BTreeMap::new();
    // The same may have been there at several moments: the last one that fits has seen the most.
    let mut found = None;
    for begun in 0..=changes.len() {
        let fits = held.values().eq(there) && changes[begun..].len() >= then.len();
        if fits && changes[begun..].iter().zip(then).all(|(told, event)| told == event) {
            found = Some(begun + then.len() == changes.len());
        }
        if let Some(change) = changes.get(begun) {
            match &change.body {
                Some(Body::Put(entry)) => {
                    held.insert(entry.key.clone(), change.clone());
                }
                Some(Body::Deleted(deleted)) => {
                    held.remove(&deleted.key);
                }
                _ => {}
            }
        }
    }
    found.ok_or_else(|| {
        let what = format!("no moment explains the watch of {namespace} that saw {seen:?}");
        Violation::new(NAME, what)
    })
}

/// What every watch of the namespace that was open all the time would have heard.
fn changes(log: &[(u64, Change)], namespace: &str) -> Vec<Event> {
    let mut versions: BTreeMap<&str, u64> = BTreeMap::new();
    let mut changes = Vec::new();
    for (index, change) in log {
        let Some(change::Body::WriteState(write)) = &change.body else {
            continue;
        };
        let version = versions.get(write.key.as_str()).copied();
        let refused = write
            .expected_version
            .is_some_and(|expected| expected != version.unwrap_or_default());
        if write.namespace != namespace || refused {
            continue;
        }
        let (key, version_now) = (write.key.clone(), *index);
        let body = match &write.value {
            Some(value) => {
                versions.insert(&write.key, version_now);
                Body::Put(Entry {
                    key,
                    value: Some(value.clone()),
                    version: version_now,
                })
            }
            None if version.is_some() => {
                versions.remove(write.key.as_str());
                Body::Deleted(Deleted {
                    key,
                    version: version_now,
                })
            }
            None => continue,
        };
        changes.push(Event { body: Some(body) });
    }
    changes
}

#[cfg(test)]
mod tests {
    use proffer_proto::registry::WriteState;
    use proffer_proto::state::Current;

    use super::*;

    fn write(index: u64, key: &str, value: Option<&'static str>) -> (u64, Change) {
        let write = WriteState {
            namespace: "n".to_owned(),
            key: key.to_owned(),
            value: value.map(|value| value.as_bytes().into()),
            expected_version: None,
        };
        let body = Some(change::Body::WriteState(write));
        (index, Change { body })
    }

    fn put(key: &str, value: &'static str, version: u64) -> Event {
        let (key, value) = (key.to_owned(), Some(value.as_bytes().into()));
        let body = Some(Body::Put(Entry { key, value, version }));
        Event { body }
    }

    fn current() -> Event {
        let body = Some(Body::Current(Current {}));
        Event { body }
    }

    #[test]
    fn a_watch_may_begin_at_any_moment_and_misses_nothing_then() {
        let log = [
            write(3, "a", Some("1")),
            write(4, "none", None),
            write(5, "b", Some("2")),
            write(6, "a", None),
        ];
        let body = Some(Body::Deleted(Deleted {
            key: "a".to_owned(),
            version: 6,
        }));
        let deleted = Event { body };
        let seen = [put("a", "1", 3), current(), put("b", "2", 5), deleted.clone()];
        assert!(check(&log, "n", &seen).unwrap());
        assert!(!check(&log, "n", &seen[..3]).unwrap());
        assert!(check(&log, "n", &[put("b", "2", 5), current()]).unwrap());
        let missed = [put("a", "1", 3), current(), deleted];
        assert!(check(&log, "n", &missed).is_err());
        let again = [write(3, "a", Some("1")), write(4, "b", Some("2")), write(5, "b", None)];
        assert!(check(&again, "n", &[put("a", "1", 3), current()]).unwrap());
        let twice = [put("a", "1", 3), current(), put("b", "2", 5), put("b", "2", 5)];
        assert!(check(&log, "n", &twice).is_err());
    }
}
