//! Checks that an encoded message holds every required field, which prost does not: it decodes what is missing as empty.
//!
//! The wire format is walked without building anything, guided by a table that is generated from the descriptors and holds
//! only the fields that are required or have required fields below them. A singular message field may occur several
//! times on the wire and means the merge of its occurrences; it is checked as the merge.

use bytes::Bytes;
use prost::{Message, Name};

use crate::Rejection;

/// How deep messages may be nested; prost has the same limit.
pub const DEPTH_MAX: u32 = 100;

/// What the descriptors say of one message.
pub(crate) struct MessageRule {
    pub(crate) name: &'static str,
    pub(crate) fields: &'static [FieldRule],
}

/// A field that is required or has required fields below it.
pub(crate) struct FieldRule {
    pub(crate) number: u32,
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    pub(crate) repeated: bool,
    /// Index of the rule of its message type, if that has required fields.
    pub(crate) message: Option<usize>,
}

// Sorted by name.
include!(concat!(env!("OUT_DIR"), "/required_table.rs"));

/// The required fields of one message type.
#[derive(Clone, Copy)]
pub struct Required(&'static MessageRule);

impl std::fmt::Debug for Required {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Required").field(&self.0.name).finish()
    }
}

impl Required {
    /// The rule of a message by its full name, such as `mesos.v1.scheduler.Call`; `None` for messages not of this crate.
    pub fn named(full_name: &str) -> Option<Self> {
        let index = MESSAGES.binary_search_by(|rule| rule.name.cmp(full_name)).ok()?;
        Some(Self(&MESSAGES[index]))
    }

    /// The rule of a generated message type.
    pub fn of<T: Name>() -> Option<Self> {
        Self::named(&T::full_name())
    }

    /// Checks an encoded message.
    ///
    /// # Errors
    /// The first required field that is missing, by its path; or that the bytes are malformed or nested too deeply.
    pub fn check(self, bytes: &[u8]) -> Result<(), Rejection> {
        let mut walk = Walk {
            parts: vec![(0, bytes)],
        };
        walk.message(self.0, 0, 1, DEPTH_MAX)
    }
}

/// Decodes a message after checking that all its required fields are there.
///
/// # Errors
/// A missing required field by its path, or bytes that are no such message.
pub fn decode<T: Message + Default + Name>(bytes: impl Into<Bytes>) -> Result<T, Rejection> {
    decode_by(Required::of::<T>(), bytes.into())
}

pub(crate) fn decode_by<T: Message + Default + Name>(required: Option<Required>, bytes: Bytes) -> Result<T, Rejection> {
    if let Some(required) = required {
        required.check(&bytes)?;
    }
    T::decode(bytes).map_err(|error| {
        let accepted = format!("an encoded {}", T::full_name());
        Rejection::new("", format!("is malformed: {error}"), accepted)
    })
}

fn malformed(what: &str) -> Rejection {
    Rejection::new("", format!("is malformed: {what}"), "the protobuf encoding of its type")
}

/// The pieces of the messages being checked: a stack, so that the common message needs no allocation.
struct Walk<'a> {
    /// The index of the field that the piece belongs to, and its bytes.
    parts: Vec<(usize, &'a [u8])>,
}

impl<'a> Walk<'a> {
    /// Checks the message whose encoding is spread over `parts[first..last]`, at the top of the stack.
    fn message(&mut self, rule: &'static MessageRule, first: usize, last: usize, depth: u32) -> Result<(), Rejection> {
        if depth == 0 {
            return Err(malformed(&format!("it is nested more than {DEPTH_MAX} deep")));
        }
        let base = self.parts.len();
        let mut seen = 0u64;
        for part in first..last {
            let whole = self.parts[part].1;
            let mut rest = whole;
            while !rest.is_empty() {
                let before = whole.len() - rest.len();
                let (number, payload) = next_field(&mut rest)?;
                let Some(index) = rule.fields.iter().position(|field| field.number == number) else {
                    continue;
                };
                seen |= 1 << index;
                let field = &rule.fields[index];
                let (Some(message), Some(payload)) = (field.message, payload) else {
                    continue;
                };
                let top = self.parts.len();
                self.parts.push((index, payload));
                if field.repeated {
                    self.message(&MESSAGES[message], top, top + 1, depth - 1)
                        .map_err(|rejection| {
                            let earlier: usize = self.parts[first..part]
                                .iter()
                                .map(|(_, bytes)| occurrences(bytes, number))
                                .sum();
                            let position = earlier + occurrences(&whole[..before], number);
                            rejection.within(format_args!("{}[{position}]", field.name))
                        })?;
                    self.parts.truncate(top);
                }
            }
        }
        for (index, field) in rule.fields.iter().enumerate() {
            if field.required && seen & (1 << index) == 0 {
                return Err(Rejection::missing(field.name));
            }
        }
        self.merged(rule, base, depth)
    }

    /// Checks the singular message fields whose occurrences were put on the stack from `base` on, and removes them.
    fn merged(&mut self, rule: &'static MessageRule, base: usize, depth: u32) -> Result<(), Rejection> {
        let end = self.parts.len();
        if end - base > 1 {
            self.parts[base..].sort_by_key(|(index, _)| *index);
        }
        let mut first = base;
        while first < end {
            let index = self.parts[first].0;
            let mut last = first + 1;
            while last < end && self.parts[last].0 == index {
                last += 1;
            }
            let field = &rule.fields[index];
            let message = field.message.expect("only message fields are put on the stack");
            self.message(&MESSAGES[message], first, last, depth - 1)
                .map_err(|rejection| rejection.within(field.name))?;
            first = last;
        }
        self.parts.truncate(base);
        Ok(())
    }
}

/// How often a field occurs at the top level of bytes that are known to be well-formed.
fn occurrences(mut bytes: &[u8], number: u32) -> usize {
    let mut count = 0;
    while let (false, Ok((found, _))) = (bytes.is_empty(), next_field(&mut bytes)) {
        count += usize::from(found == number);
    }
    count
}

/// Takes one field off the front: its number, and its payload where it is length-delimited.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Result<(u32, Option<&'a [u8]>), Rejection> {
    let (number, wire) = key(bytes)?;
    let payload = match wire {
        3 => {
            skip_group(bytes, number)?;
            None
        }
        4 => return Err(malformed(&format!("field {number} ends a group that was not begun"))),
        wire => value(bytes, number, wire)?,
    };
    Ok((number, payload))
}

fn key(bytes: &mut &[u8]) -> Result<(u32, u8), Rejection> {
    let key = varint(bytes)?;
    let number = u32::try_from(key >> 3).unwrap_or(0);
    if number == 0 || number >= 1 << 29 {
        return Err(malformed(&format!("{} is no field number", key >> 3)));
    }
    Ok((number, (key & 7) as u8))
}

/// A value that is no group.
fn value<'a>(bytes: &mut &'a [u8], number: u32, wire: u8) -> Result<Option<&'a [u8]>, Rejection> {
    match wire {
        0 => varint(bytes).map(|_| None),
        1 => take(bytes, 8, number).map(|_| None),
        2 => {
            let length = varint(bytes)?;
            take(bytes, length, number).map(Some)
        }
        5 => take(bytes, 4, number).map(|_| None),
        other => Err(malformed(&format!("field {number} has wire type {other}"))),
    }
}

/// Skips to the end of a group; the open groups are kept in a list, not on the call stack.
fn skip_group(bytes: &mut &[u8], number: u32) -> Result<(), Rejection> {
    let mut open = vec![number];
    while let Some(&innermost) = open.last() {
        match key(bytes)? {
            (inner, 3) if open.len() < DEPTH_MAX as usize => open.push(inner),
            (inner, 3) => {
                return Err(malformed(&format!(
                    "group {inner} is nested more than {DEPTH_MAX} deep"
                )));
            }
            (ended, 4) if ended == innermost => {
                open.pop();
            }
            (ended, 4) => {
                return Err(malformed(&format!("group {innermost} is ended as group {ended}")));
            }
            (inner, wire) => {
                value(bytes, inner, wire)?;
            }
        }
    }
    Ok(())
}

fn take<'a>(bytes: &mut &'a [u8], length: u64, number: u32) -> Result<&'a [u8], Rejection> {
    let available = bytes.len();
    let length = usize::try_from(length).ok().filter(|length| *length <= available);
    let Some(length) = length else {
        return Err(malformed(&format!(
            "field {number} is longer than the {available} bytes left"
        )));
    };
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Rejection> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *bytes = &bytes[index + 1..];
            return Ok(value);
        }
    }
    Err(malformed(
        "it ends within a number, or a number has more than ten bytes",
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::v1::scheduler::{Call, call};
    use crate::v1::{ContainerId, FrameworkInfo, Offer, Resource, TaskInfo, offer, value};

    fn check<T: Name>(bytes: &[u8]) -> Result<(), String> {
        let required = Required::of::<T>().expect("a message of this crate");
        required.check(bytes).map_err(|rejection| rejection.field)
    }

    fn missing(field: &str) -> Result<(), String> {
        Err(field.to_owned())
    }

    /// A call whose first task lacks the amount of its second resource.
    fn incomplete_call() -> Vec<u8> {
        // Resource { name: "cpus", type: SCALAR, scalar: {} }
        let resource = [&[0x0a, 4][..], b"cpus", &[0x10, 0, 0x1a, 0]].concat();
        let complete = Resource {
            name: "mem".into(),
            ..Default::default()
        };
        let task = TaskInfo {
            resources: vec![complete],
            ..Default::default()
        };
        let mut task = task.encode_to_vec();
        task.extend([0x22, resource.len() as u8]);
        task.extend(resource);
        let launch = [&[0x0a, task.len() as u8][..], &task].concat();
        let operation = [&[0x08, 1, 0x12, launch.len() as u8][..], &launch].concat();
        let accept = [&[0x12, operation.len() as u8][..], &operation].concat();
        [&[0x10, 3, 0x22, accept.len() as u8][..], &accept].concat()
    }

    #[test]
    fn a_missing_field_is_named_by_its_path() {
        let path = "accept.operations[0].launch.task_infos[0].resources[1].scalar.value";
        assert_eq!(check::<Call>(&incomplete_call()), missing(path));
        assert_eq!(decode::<Call>(incomplete_call()).unwrap_err().field, path);
        assert_eq!(check::<FrameworkInfo>(&[]), missing("user"));
        assert_eq!(check::<FrameworkInfo>(&[0x0a, 0]), missing("name"));
        assert_eq!(check::<FrameworkInfo>(&[0x0a, 0, 0x12, 0]), Ok(()));
    }

    #[test]
    fn a_message_given_in_pieces_is_checked_as_their_merge() {
        // subscribe { framework_info { user: "" } } and subscribe { framework_info { name: "" } }.
        let halves = [0x1a, 4, 0x0a, 2, 0x0a, 0, 0x1a, 4, 0x0a, 2, 0x12, 0];
        assert_eq!(check::<Call>(&halves), Ok(()));
        assert_eq!(check::<Call>(&halves[..6]), missing("subscribe.framework_info.name"));
        assert_eq!(check::<Call>(&halves[6..]), missing("subscribe.framework_info.user"));
    }

    #[test]
    fn what_is_malformed_is_an_error() {
        for bytes in [
            &[0x0a][..],
            &[0x0a, 5, 1],
            &[0x80; 11],
            &[0x00, 0x00],
            &[0x0c],
            &[0x0b],
            &[0x0b, 0x14],
            &[0x0e],
            &[0x0f],
        ] {
            let rejection = Required::of::<Call>().unwrap().check(bytes).unwrap_err();
            assert!(rejection.problem.starts_with("is malformed"), "{rejection}");
        }
        // An unknown group within a group, and a fixed-width field, are skipped.
        assert_eq!(
            check::<Call>(&[0x5b, 0x63, 0x08, 1, 0x64, 0x5c, 0x7d, 1, 2, 3, 4]),
            Ok(())
        );
        assert_eq!(decode::<Call>(vec![0x10, 0xff]).unwrap_err().field, "");
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| {
            let mut id = ContainerId::from("c").encode_to_vec();
            for _ in 1..depth {
                let mut outer = ContainerId::from("c").encode_to_vec();
                outer.push(0x12);
                prost::encoding::encode_varint(id.len() as u64, &mut outer);
                outer.extend(id);
                id = outer;
            }
            id
        };
        assert_eq!(check::<ContainerId>(&nested(100)), Ok(()));
        assert!(check::<ContainerId>(&nested(101)).is_err());
        assert!(
            check::<ContainerId>(&[0x1b; 5000]).is_err(),
            "open groups are bounded too"
        );
    }

    #[test]
    fn every_message_has_a_rule_and_the_table_is_sorted() {
        assert!(MESSAGES.is_sorted_by_key(|rule| rule.name));
        assert!(Required::of::<Call>().is_some());
        assert!(Required::of::<call::Accept>().is_some());
        assert!(Required::of::<offer::operation::Launch>().is_some());
        assert!(Required::named("mesos.v1.Nothing").is_none());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = check::<Call>(&bytes);
        }

        #[test]
        fn damaged_messages_do_no_harm(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = incomplete_call();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode::<Call>(bytes);
        }
    }

    /// Prints what the check costs on an event with 1,000 offers; run by hand with `--release -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    #[allow(clippy::print_stdout)]
    fn cost_of_the_check() {
        use crate::v1::scheduler::{Event, event};
        let resource = |name: &str| Resource {
            name: name.into(),
            scalar: Some(value::Scalar { value: 4.0 }),
            ..Default::default()
        };
        let offer = Offer {
            hostname: "agent-17.example.org".into(),
            resources: ["cpus", "mem", "disk", "gpus"].map(resource).into(),
            ..Default::default()
        };
        let event = Event {
            offers: Some(event::Offers {
                offers: vec![offer; 1000],
            }),
            ..Default::default()
        };
        let bytes = Bytes::from(event.encode_to_vec());
        let required = Required::of::<Event>().unwrap();
        let mut checked = Vec::new();
        let mut decoded = Vec::new();
        for _ in 0..200 {
            let start = std::time::Instant::now();
            required.check(&bytes).unwrap();
            checked.push(start.elapsed());
            let start = std::time::Instant::now();
            std::hint::black_box(Event::decode(bytes.clone()).unwrap());
            decoded.push(start.elapsed());
        }
        checked.sort();
        decoded.sort();
        println!(
            "{} bytes: check {:?}, decode {:?} (medians)",
            bytes.len(),
            checked[100],
            decoded[100]
        );
    }
}
