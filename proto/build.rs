//! Generates the Rust types from the .proto files without `protoc`.
//!
//! The descriptors decide everything: which serde attributes each field of the v1 messages carries (the JSON mapping is
//! described in `src/json.rs`), and the tables of required fields by which decoded bytes are checked (`src/required.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// The package whose messages have a JSON form.
const JSON_PACKAGE: &str = "mesos.v1";

const DERIVE_SERDE: &str = "#[derive(serde::Serialize, serde::Deserialize)]";

/// The messages of `mesos.v1` that are ids or points in time: they have an order, so that they can be keys.
const ORDERED: &[&str] = &[
    "FrameworkID",
    "OfferID",
    "AgentID",
    "TaskID",
    "ExecutorID",
    "ContainerID",
    "OperationID",
    "MachineID",
    "TimeInfo",
    "DurationInfo",
];

/// The packages whose byte fields are shared, not copied, by whoever holds a message.
const SHARED_BYTES: &[&str] = &[".proffer.registry.v1", ".proffer.state.v1"];

/// Fields that are large and seldom set: they are kept apart, so that messages that are many are small.
const BOXED: &[&str] = &[
    ".mesos.v1.Resource.disk",
    ".mesos.v1.Resource.reservation",
    ".mesos.v1.TaskInfo.executor",
    ".mesos.v1.TaskInfo.container",
    ".mesos.v1.TaskInfo.health_check",
    ".mesos.v1.TaskInfo.check",
    ".mesos.v1.TaskInfo.discovery",
    ".mesos.v1.Task.container",
    ".mesos.v1.Task.health_check",
    ".mesos.v1.Task.check",
    ".mesos.v1.Task.discovery",
    ".mesos.v1.ExecutorInfo.container",
    ".mesos.v1.ExecutorInfo.discovery",
    ".mesos.v1.Offer.Operation.launch_group",
    ".mesos.v1.Offer.Operation.grow_volume",
    ".mesos.v1.Offer.Operation.shrink_volume",
    ".mesos.v1.Offer.Operation.create_disk",
    ".mesos.v1.Offer.Operation.destroy_disk",
    ".mesos.v1.scheduler.Call.subscribe",
    ".mesos.v1.scheduler.Call.update_framework",
    ".mesos.v1.scheduler.Event.subscribed",
    ".proffer.link.v1.Launch.executor",
];

const FILES: &[&str] = &[
    "mesos/v1/mesos.proto",
    "mesos/v1/allocator/allocator.proto",
    "mesos/v1/maintenance/maintenance.proto",
    "mesos/v1/quota/quota.proto",
    "mesos/v1/scheduler/scheduler.proto",
    "mesos/v1/executor/executor.proto",
    "mesos/v1/master/master.proto",
    "mesos/v1/agent/agent.proto",
    "proffer/link/v1/link.proto",
    "proffer/registry/v1/registry.proto",
    "proffer/raft/v1/raft.proto",
    "proffer/state/v1/state.proto",
    "proffer/calls/v1/calls.proto",
    "proffer/masters/v1/masters.proto",
    "proffer/api/v1/services.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=build.rs");
    let descriptors = protox::compile(FILES.iter().map(|file| root.join(file)), [&root])?;

    let mut config = tonic_prost_build::Config::new();
    config
        .btree_map(["."])
        .message_attribute(format!(".{JSON_PACKAGE}"), DERIVE_SERDE);
    config.bytes(SHARED_BYTES);
    config.enable_type_names();
    for field in BOXED {
        config.boxed(field);
    }
    for id in ORDERED {
        config.message_attribute(format!(".{JSON_PACKAGE}.{id}"), "#[derive(PartialOrd, Ord)]");
    }
    // prost does not see that a recursive message can have these.
    config.message_attribute(format!(".{JSON_PACKAGE}.ContainerID"), "#[derive(Eq, Hash)]");
    let mut generated = Generated::default();
    for file in &descriptors.file {
        let package = file.package().to_owned();
        for message in &file.message_type {
            generated.message(&package, &[], message, &mut config);
        }
        for enumeration in &file.enum_type {
            generated.enumeration(&package, &[], enumeration);
        }
    }
    write(&out, "enums.rs", &generated.enums)?;
    write(&out, "json_defaults.rs", &generated.defaults)?;
    write(&out, "required_table.rs", &required_table(&descriptors))?;
    std::fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure()
        .codec_path("crate::codec::CheckedCodec")
        .compile_fds_with_config(descriptors, config)?;
    flatten_oneofs(&out)?;
    Ok(())
}

/// Puts `#[serde(flatten)]` on the oneof fields: prost matches attribute paths by prefix, and would put it on the variants too.
fn flatten_oneofs(out: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(out)? {
        let path = entry?.path();
        let is_v1 = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(JSON_PACKAGE));
        if is_v1 {
            let text = std::fs::read_to_string(&path)?;
            std::fs::write(&path, text.replace("#[prost(oneof", "#[serde(flatten)]\n#[prost(oneof"))?;
        }
    }
    Ok(())
}

fn write(out: &Path, name: &str, text: &str) -> std::io::Result<()> {
    std::fs::write(out.join(name), text)
}

/// The source text that is gathered while the descriptors are walked.
#[derive(Default)]
struct Generated {
    enums: String,
    defaults: String,
    seen_defaults: BTreeSet<String>,
}

impl Generated {
    fn message(
        &mut self,
        package: &str,
        outer: &[&str],
        message: &DescriptorProto,
        config: &mut tonic_prost_build::Config,
    ) {
        let mut path = outer.to_vec();
        path.push(message.name());
        if message.options.as_ref().is_some_and(|options| options.map_entry()) {
            return;
        }
        let full = format!(".{package}.{}", path.join("."));
        if package.starts_with(JSON_PACKAGE) {
            for oneof in &message.oneof_decl {
                config.enum_attribute(format!("{full}.{}", oneof.name()), DERIVE_SERDE);
            }
            for field in &message.field {
                if field.oneof_index.is_some() {
                    let oneof = message.oneof_decl[field.oneof_index() as usize].name();
                    let attribute = self.oneof_attribute(field);
                    config.field_attribute(format!("{full}.{oneof}.{}", field.name()), attribute);
                } else if let Some(attribute) = self.field_attribute(message, field) {
                    config.field_attribute(format!("{full}.{}", field.name()), attribute);
                }
            }
        }
        for nested in &message.nested_type {
            self.message(package, &path, nested, config);
        }
        for enumeration in &message.enum_type {
            self.enumeration(package, &path, enumeration);
        }
    }

    fn enumeration(&mut self, package: &str, outer: &[&str], enumeration: &EnumDescriptorProto) {
        let path = rust_path(package, outer, enumeration.name());
        writeln!(
            self.enums,
            "impl crate::json::NamedEnum for {path} {{\n    fn name(self) -> &'static str {{ self.as_str_name() }}\n    \
             fn from_name(name: &str) -> Option<Self> {{ Self::from_str_name(name) }}\n}}"
        )
        .expect("writing to a string");
    }

    fn oneof_attribute(&mut self, field: &FieldDescriptorProto) -> String {
        let with = match field.r#type() {
            Type::Enum => format!(
                ", with = \"crate::json::Enum::<{}>\"",
                rust_type_path(field.type_name())
            ),
            _ => String::new(),
        };
        format!("#[serde(rename = \"{}\"{with})]", field.name())
    }

    /// The serde attribute of a field outside a oneof; see `src/json.rs` for the rules.
    fn field_attribute(&mut self, message: &DescriptorProto, field: &FieldDescriptorProto) -> Option<String> {
        let mut parts = vec![format!("rename = \"{}\"", field.name())];
        let is_map = is_map(message, field);
        let enum_path = (field.r#type() == Type::Enum).then(|| rust_type_path(field.type_name()));
        match field.label() {
            Label::Repeated if is_map => {
                parts.push("default, skip_serializing_if = \"std::collections::BTreeMap::is_empty\"".into());
                parts.push("deserialize_with = \"crate::json::null_default\"".into());
            }
            Label::Repeated => {
                parts.push("default, skip_serializing_if = \"Vec::is_empty\"".into());
                parts.push(match (field.r#type(), enum_path) {
                    (Type::Enum, Some(path)) => format!("with = \"crate::json::EnumList::<{path}>\""),
                    (Type::Uint32, _) => "deserialize_with = \"crate::json::list\"".into(),
                    _ => "deserialize_with = \"crate::json::null_default\"".into(),
                });
            }
            Label::Required => match (field.r#type(), enum_path) {
                (Type::Enum, Some(path)) => parts.push(format!("with = \"crate::json::Enum::<{path}>\"")),
                (Type::Bytes, _) => parts.push("with = \"crate::json::bytes\"".into()),
                (Type::Double | Type::Float, _) => parts.push("with = \"crate::json::double\"".into()),
                (kind, _) if is_integer(kind) => parts.push("deserialize_with = \"crate::json::integer\"".into()),
                _ => {}
            },
            Label::Optional => {
                parts.push("default".into());
                let deprecated = field.options.as_ref().is_some_and(|options| options.deprecated());
                let default = field.default_value.as_ref().filter(|_| !deprecated);
                if default.is_none() {
                    parts.push("skip_serializing_if = \"Option::is_none\"".into());
                }
                match (field.r#type(), enum_path) {
                    (Type::Enum, Some(path)) => {
                        parts.push(format!(
                            "deserialize_with = \"crate::json::EnumOption::<{path}>::deserialize\""
                        ));
                        parts.push(match default {
                            None => format!("serialize_with = \"crate::json::EnumOption::<{path}>::serialize\""),
                            Some(default) => {
                                format!(
                                    "serialize_with = \"{}\"",
                                    self.default_function(field, default, Some(&path))
                                )
                            }
                        });
                    }
                    (kind, _) => {
                        let (deserialize, serialize) = match kind {
                            Type::Bytes => (
                                Some("crate::json::bytes_option::deserialize"),
                                Some("crate::json::bytes_option::serialize"),
                            ),
                            Type::Double | Type::Float => (
                                Some("crate::json::double_option::deserialize"),
                                Some("crate::json::double_option::serialize"),
                            ),
                            kind if is_integer(kind) => (Some("crate::json::integer_option"), None),
                            Type::Message if field.type_name() == ".google.protobuf.Duration" => (
                                Some("crate::json::duration_option::deserialize"),
                                Some("crate::json::duration_option::serialize"),
                            ),
                            _ => (None, None),
                        };
                        if let Some(function) = deserialize {
                            parts.push(format!("deserialize_with = \"{function}\""));
                        }
                        match (default, serialize) {
                            (Some(default), _) => {
                                parts.push(format!(
                                    "serialize_with = \"{}\"",
                                    self.default_function(field, default, None)
                                ));
                            }
                            (None, Some(function)) => parts.push(format!("serialize_with = \"{function}\"")),
                            (None, None) => {}
                        }
                    }
                }
            }
        }
        Some(format!("#[serde({})]", parts.join(", ")))
    }

    /// A function that writes an optional field with its default where it is unset.
    fn default_function(&mut self, field: &FieldDescriptorProto, default: &str, enum_path: Option<&str>) -> String {
        let (kind, literal) = match field.r#type() {
            Type::String => ("String".to_owned(), format!("{default:?}")),
            Type::Bool => ("bool".to_owned(), default.to_owned()),
            Type::Double => ("f64".to_owned(), format!("{default}f64")),
            Type::Int32 => ("i32".to_owned(), format!("{default}i32")),
            Type::Uint32 => ("u32".to_owned(), format!("{default}u32")),
            Type::Enum => ("i32".to_owned(), format!("{default:?}")),
            other => panic!("no JSON default for {other:?} of field {}", field.name()),
        };
        let name = format!("{kind}::{}::{default}", enum_path.unwrap_or_default())
            .to_lowercase()
            .replace('*', "any")
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("_");
        if self.seen_defaults.insert(name.clone()) {
            let body = match (field.r#type(), enum_path) {
                (Type::Enum, Some(path)) => format!(
                    "match value {{ Some(number) => crate::json::Enum::<{path}>::serialize(number, serializer), \
                     None => serializer.serialize_str({literal}) }}"
                ),
                (Type::String, _) => format!("serializer.serialize_str(value.as_deref().unwrap_or({literal}))"),
                (Type::Double, _) => {
                    format!("crate::json::double::serialize(&value.unwrap_or({literal}), serializer)")
                }
                _ => format!("serde::Serialize::serialize(&value.unwrap_or({literal}), serializer)"),
            };
            writeln!(
                self.defaults,
                "pub(crate) fn {name}<S: serde::Serializer>(value: &Option<{kind}>, serializer: S) -> Result<S::Ok, S::Error> {{ {body} }}"
            )
            .expect("writing to a string");
        }
        format!("crate::json::defaults::{name}")
    }
}

fn is_integer(kind: Type) -> bool {
    matches!(kind, Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64)
}

fn is_map(message: &DescriptorProto, field: &FieldDescriptorProto) -> bool {
    let name = field.type_name().rsplit('.').next().unwrap_or_default();
    message
        .nested_type
        .iter()
        .any(|nested| nested.name() == name && nested.options.as_ref().is_some_and(|options| options.map_entry()))
}

/// Every message with its required fields and the fields below which there are required ones.
fn required_table(descriptors: &FileDescriptorSet) -> String {
    let mut messages = Vec::new();
    for file in &descriptors.file {
        for message in &file.message_type {
            flatten(&format!(".{}", file.package()), message, &mut messages);
        }
    }
    messages.sort_by(|a, b| a.0.cmp(&b.0));
    let constrained = constrained(&messages);
    let mut text = String::from("pub(crate) static MESSAGES: &[MessageRule] = &[\n");
    for (name, message) in &messages {
        let mut fields = String::new();
        let mut count = 0;
        for field in &message.field {
            let required = field.label() == Label::Required;
            let nested = messages
                .iter()
                .position(|(other, _)| field.r#type() == Type::Message && other == field.type_name())
                .filter(|index| constrained[*index]);
            if required || nested.is_some() {
                count += 1;
                write!(
                    fields,
                    "FieldRule {{ number: {}, name: {:?}, required: {required}, repeated: {}, message: {nested:?} }}, ",
                    field.number(),
                    field.name(),
                    field.label() == Label::Repeated,
                )
                .expect("writing to a string");
            }
        }
        assert!(count <= 64, "{name} has more than 64 fields to check");
        let name = &name[1..];
        writeln!(text, "    MessageRule {{ name: {name:?}, fields: &[{fields}] }},").expect("writing to a string");
    }
    text.push_str("];\n");
    text
}

/// Which messages have a required field at any depth.
fn constrained(messages: &[(String, &DescriptorProto)]) -> Vec<bool> {
    let index_of: BTreeMap<&str, usize> = messages.iter().map(|(name, _)| name.as_str()).zip(0..).collect();
    let mut constrained = vec![false; messages.len()];
    loop {
        let before = constrained.clone();
        for (index, (_, message)) in messages.iter().enumerate() {
            constrained[index] = message.field.iter().any(|field| {
                let nested = index_of.get(field.type_name());
                field.label() == Label::Required || nested.is_some_and(|&nested| before[nested])
            });
        }
        if constrained == before {
            return constrained;
        }
    }
}

fn flatten<'a>(prefix: &str, message: &'a DescriptorProto, messages: &mut Vec<(String, &'a DescriptorProto)>) {
    let name = format!("{prefix}.{}", message.name());
    for nested in &message.nested_type {
        flatten(&name, nested, messages);
    }
    messages.push((name, message));
}

/// `.mesos.v1.TaskStatus.Reason` -> `crate::mesos::v1::task_status::Reason`.
fn rust_type_path(type_name: &str) -> String {
    let parts: Vec<&str> = type_name.trim_start_matches('.').split('.').collect();
    let package_length = parts
        .iter()
        .take_while(|part| part.starts_with(|c: char| c.is_ascii_lowercase()))
        .count();
    let package = parts[..package_length].join(".");
    rust_path(
        &package,
        &parts[package_length..parts.len() - 1],
        parts[parts.len() - 1],
    )
}

fn rust_path(package: &str, outer: &[&str], name: &str) -> String {
    let mut path = String::from("crate");
    for part in package.split('.') {
        write!(path, "::{part}").expect("writing to a string");
    }
    for part in outer {
        write!(path, "::{}", snake(part)).expect("writing to a string");
    }
    format!("{path}::{}", camel(name))
}

/// prost's module name of a message: `URIInfo` -> `uri_info`.
fn snake(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (i, c) in chars.iter().enumerate() {
        let starts_word = c.is_ascii_uppercase()
            && i > 0
            && (!chars[i - 1].is_ascii_uppercase() || chars.get(i + 1).is_some_and(char::is_ascii_lowercase));
        if starts_word {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// prost's type name: `AgentID` -> `AgentId`.
fn camel(name: &str) -> String {
    snake(name)
        .split('_')
        .map(|word| word[..1].to_ascii_uppercase() + &word[1..])
        .collect()
}
