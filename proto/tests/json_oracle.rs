//! The JSON mapping against reflection: random messages of every kind have to look the same through both.

use proffer_proto::v1::{self, agent, executor, maintenance, master, quota, scheduler};
use proffer_proto::{DESCRIPTORS, json, required};
use proptest::prelude::*;
use prost::{Message, Name};
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage,
    SerializeOptions, Value,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::LazyLock;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).unwrap());

/// A small generator, so that a message is a function of its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }
}

fn random_message(random: &mut Random, descriptor: MessageDescriptor, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    if descriptor.full_name() == "google.protobuf.Duration" {
        message.set_field_by_name("seconds", Value::I64(random.below(100_000) as i64));
        message.set_field_by_name("nanos", Value::I32(random.pick(&[0, 500_000_000, 1])));
        return message;
    }
    for field in descriptor.fields() {
        let is_message = matches!(field.kind(), Kind::Message(_));
        let wanted = field.cardinality() == Cardinality::Required
            || (random.below(3) == 0 && !(is_message && (depth == 0 || random.below(6) > depth)));
        if !wanted {
            continue;
        }
        let value = if field.is_map() {
            random_map(random, &field, depth)
        } else if field.is_list() {
            let count = random.below(3);
            Value::List((0..count).map(|_| random_value(random, &field.kind(), depth)).collect())
        } else {
            random_value(random, &field.kind(), depth)
        };
        message.set_field(&field, value);
    }
    message
}

fn random_map(random: &mut Random, field: &FieldDescriptor, depth: usize) -> Value {
    let Kind::Message(entry) = field.kind() else {
        unreachable!("a map is a list of entries")
    };
    let kind = entry.map_entry_value_field().kind();
    let keys = ["a", "b/c", "*"].iter().take(random.below(4));
    let entries: HashMap<MapKey, Value> = keys
        .map(|key| (MapKey::String((*key).into()), random_value(random, &kind, depth)))
        .collect();
    Value::Map(entries)
}

fn random_value(random: &mut Random, kind: &Kind, depth: usize) -> Value {
    match kind {
        Kind::Message(descriptor) => {
            Value::Message(random_message(random, descriptor.clone(), depth.saturating_sub(1)))
        }
        Kind::Enum(descriptor) => {
            let numbers: Vec<i32> = descriptor.values().map(|value| value.number()).collect();
            Value::EnumNumber(random.pick(&numbers))
        }
        Kind::Double => Value::F64(random.pick(&[0.0, 1.5, -2.25, 1e300, 0.1, 15.0, f64::INFINITY, f64::NEG_INFINITY])),
        Kind::Float => Value::F32(random.pick(&[0.0, 1.5])),
        Kind::Bool => Value::Bool(random.below(2) == 0),
        Kind::String => Value::String(random.pick(&["", "*", "a b", "\"\\\n\u{1}", "ünïcode"]).into()),
        Kind::Bytes => Value::Bytes(
            random
                .pick(&[&b""[..], b"\0\xff\xfe", b"0123456789abcdef"])
                .to_vec()
                .into(),
        ),
        Kind::Int32 => Value::I32(random.pick(&[0, -1, i32::MIN, i32::MAX])),
        Kind::Int64 => Value::I64(random.pick(&[0, -1, i64::MIN, i64::MAX, 1 << 53])),
        Kind::Uint32 => Value::U32(random.pick(&[0, 1, u32::MAX])),
        Kind::Uint64 => Value::U64(random.pick(&[0, 1, u64::MAX, (1 << 53) + 1])),
        other => unreachable!("no field of the v1 API is a {other:?}"),
    }
}

/// What reflection makes of the message.
fn oracle(message: &DynamicMessage) -> serde_json::Value {
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .unwrap()
}

/// Adds what the v1 API writes besides: the default of an unset optional field that has one and is not deprecated.
fn add_defaults(message: &DynamicMessage, json: &mut serde_json::Value) {
    let descriptor = message.descriptor();
    if descriptor.full_name() == "google.protobuf.Duration" {
        return;
    }
    let object = json.as_object_mut().unwrap();
    for field in descriptor.fields() {
        let proto = field.field_descriptor_proto();
        if message.has_field(&field) {
            let value = message.get_field(&field);
            let json = object.get_mut(field.name()).unwrap();
            match value.as_ref() {
                Value::Message(inner) => add_defaults(inner, json),
                Value::List(list) => {
                    for (value, json) in list.iter().zip(json.as_array_mut().unwrap()) {
                        if let Value::Message(inner) = value {
                            add_defaults(inner, json);
                        }
                    }
                }
                Value::Map(map) => {
                    for (key, value) in map {
                        if let Value::Message(inner) = value {
                            add_defaults(inner, &mut json[key.as_str().unwrap()]);
                        }
                    }
                }
                _ => {}
            }
        } else if field.cardinality() == Cardinality::Optional
            && proto.default_value.is_some()
            && !proto.options.as_ref().is_some_and(|options| options.deprecated())
        {
            let value = match (field.default_value(), field.kind()) {
                (Value::EnumNumber(number), Kind::Enum(kind)) => kind.get_value(number).unwrap().name().into(),
                (Value::Bool(value), _) => value.into(),
                (Value::F64(value), _) => value.into(),
                (Value::I32(value), _) => value.into(),
                (Value::U32(value), _) => value.into(),
                (Value::String(value), _) => value.into(),
                (other, _) => panic!("no default of {} is expected to be {other:?}", field.full_name()),
            };
            object.insert(field.name().to_owned(), value);
        }
    }
}

/// Removes one required field somewhere in the message, if there is one, and says its path.
fn remove_required(message: &DynamicMessage, json: &mut serde_json::Value, random: &mut Random) -> Option<String> {
    let object = json.as_object_mut()?;
    let fields: Vec<FieldDescriptor> = message.descriptor().fields().filter(|f| message.has_field(f)).collect();
    let start = random.below(fields.len().max(1));
    for field in fields.iter().cycle().skip(start).take(fields.len()) {
        if let Value::Message(inner) = message.get_field(field).as_ref()
            && let Some(path) = remove_required(inner, object.get_mut(field.name())?, random)
        {
            return Some(format!("{}.{path}", field.name()));
        }
    }
    let required = fields
        .iter()
        .find(|field| field.cardinality() == Cardinality::Required)?;
    object.remove(required.name())?;
    Some(required.name().to_owned())
}

fn compare<T>(seed: u64)
where
    T: Message + Name + Default + PartialEq + Debug + Serialize + DeserializeOwned,
{
    let mut random = Random(seed);
    let descriptor = POOL.get_message_by_name(&T::full_name()).unwrap();
    let dynamic = random_message(&mut random, descriptor, 6);
    let message: T = required::decode(dynamic.encode_to_vec()).unwrap();

    let plain = oracle(&dynamic);
    let mut expected = plain.clone();
    add_defaults(&dynamic, &mut expected);
    let written = json::to_vec(&message);
    let actual: serde_json::Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(actual, expected, "{}", T::full_name());

    let read: T = json::from_slice(plain.to_string().as_bytes()).unwrap();
    assert_eq!(read, message, "{}", T::full_name());
    let reread: T = json::from_slice(&written).unwrap();
    assert_eq!(json::to_vec(&reread), written, "what is written is read back");

    let mut damaged = plain;
    if let Some(path) = remove_required(&dynamic, &mut damaged, &mut random) {
        let rejection = json::from_slice::<T>(damaged.to_string().as_bytes()).unwrap_err();
        assert_eq!(rejection.field, path, "{rejection}");
    }
}

macro_rules! compare_all {
    ($($test:ident: $type:ty),* $(,)?) => {
        proptest! {
            #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
            $(
                #[test]
                fn $test(seed in any::<u64>()) {
                    compare::<$type>(seed);
                }
            )*
        }
    };
}

compare_all! {
    scheduler_call: scheduler::Call,
    scheduler_event: scheduler::Event,
    scheduler_offer_constraints: scheduler::OfferConstraints,
    scheduler_response: scheduler::ApiResult,
    executor_call: executor::Call,
    executor_event: executor::Event,
    master_call: master::Call,
    master_event: master::Event,
    master_response: master::Response,
    agent_call: agent::Call,
    agent_response: agent::Response,
    agent_process_io: agent::ProcessIo,
    quota_status: quota::QuotaStatus,
    maintenance_schedule: maintenance::Schedule,
    task_info: v1::TaskInfo,
    offer: v1::Offer,
    framework_info: v1::FrameworkInfo,
    resource_usage: v1::ResourceUsage,
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    json::from_slice(text.as_bytes()).map_err(|rejection| rejection.to_string())
}

#[test]
fn numbers_may_be_strings_and_enums_numbers() {
    let time: v1::TimeInfo = read(r#"{"nanoseconds": "9007199254740993"}"#).unwrap();
    assert_eq!(time.nanoseconds, 9_007_199_254_740_993);
    let time: v1::TimeInfo = read(r#"{"nanoseconds": 5.0}"#).unwrap();
    assert_eq!(time.nanoseconds, 5);
    let scalar: v1::value::Scalar = read(r#"{"value": "Infinity"}"#).unwrap();
    assert_eq!(scalar.value, f64::INFINITY);
    let scalar: v1::value::Scalar = read(r#"{"value": "NaN"}"#).unwrap();
    assert_eq!(json::to_vec(&scalar), br#"{"value":"NaN"}"#);
    let call: scheduler::Call = read(r#"{"type": 2}"#).unwrap();
    assert_eq!(call.r#type(), scheduler::call::Type::Teardown);
}

#[test]
fn unknown_enum_names_are_dropped_where_they_may_be() {
    let call: scheduler::Call = read(r#"{"type": "DANCE"}"#).unwrap();
    assert_eq!(call.r#type, None);
    let capabilities: v1::CapabilityInfo = read(r#"{"capabilities": ["DANCE", "CHOWN"]}"#).unwrap();
    assert_eq!(capabilities.capabilities, [1000]);
    let error = read::<v1::Resource>(r#"{"name": "cpus", "type": "DANCE"}"#).unwrap_err();
    assert!(
        error.contains("`type` is wrong: unknown enum value \"DANCE\""),
        "{error}"
    );
}

#[test]
fn null_is_unset_and_unknown_fields_are_ignored() {
    let call: scheduler::Call = read(r#"{"type": null, "accept": {"offer_ids": null}, "later": [1]}"#).unwrap();
    assert_eq!(call.r#type, None);
    assert_eq!(call.accept, Some(scheduler::call::Accept::default()));
}

#[test]
fn what_is_wrong_is_named_by_its_path() {
    for (text, expected) in [
        ("", "the message is wrong: EOF"),
        ("[]x", "the message "),
        (r#"{"type": "REVIVE"} {}"#, "the message is followed by something else"),
        (r#"{"kill": {}}"#, "`kill.task_id` is missing"),
        (r#"{"kill": {"task_id": 5}}"#, "`kill.task_id` is wrong: invalid type"),
        (
            r#"{"accept": {"operations": [{"type": {}}]}}"#,
            "`accept.operations[0].type` is wrong: invalid type",
        ),
        (
            r#"{"accept": {"filters": {"refuse_seconds": "soon"}}}"#,
            "`accept.filters.refuse_seconds` is wrong",
        ),
        (r#"{"acknowledge": {"uuid": "%"}}"#, "`acknowledge.uuid` is wrong"),
    ] {
        let error = read::<scheduler::Call>(text).unwrap_err();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
    let deep = "{\"parent\":".repeat(5000);
    assert!(read::<v1::ContainerId>(&deep).unwrap_err().contains("recursion limit"));
}
