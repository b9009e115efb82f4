//! No name, number, type, label or default of the v1 API may drift from the table that was written down from its reference.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

const TABLE: &str = include_str!("api_table.txt");
/// Numbers from here on are extensions.
const EXTENSION: i32 = 1000;

fn relative(name: &str) -> &str {
    name.strip_prefix("mesos.v1.").unwrap_or(name)
}

fn type_of(field: &FieldDescriptor) -> String {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let value = type_of(&entry.map_entry_value_field());
            format!("map<{},{value}>", type_of(&entry.map_entry_key_field()))
        }
        Kind::Message(message) => relative(message.full_name()).to_owned(),
        Kind::Enum(enumeration) => relative(enumeration.full_name()).to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

fn row(message: &MessageDescriptor, field: &FieldDescriptor) -> String {
    let label = match field.cardinality() {
        _ if field.is_map() => "map",
        Cardinality::Required => "req",
        Cardinality::Repeated => "rep",
        Cardinality::Optional => "opt",
    };
    let proto = field.field_descriptor_proto();
    let mut remarks = Vec::new();
    remarks.extend(proto.default_value.clone());
    let deprecated = proto.options.as_ref().is_some_and(|options| options.deprecated());
    remarks.extend(deprecated.then(|| "deprecated".to_owned()));
    remarks.extend(field.containing_oneof().map(|oneof| format!("oneof:{}", oneof.name())));
    format!(
        "{}|{}|{}|{}|{label}|{}",
        message.full_name(),
        field.name(),
        field.number(),
        type_of(field),
        remarks.join(" ")
    )
}

fn enum_rows(enumeration: &EnumDescriptor) -> Vec<(i32, String)> {
    enumeration
        .values()
        .map(|value| {
            let name = enumeration.full_name();
            (
                value.number(),
                format!("{name}|{}|{}|enum||", value.name(), value.number()),
            )
        })
        .collect()
}

#[test]
fn descriptors_agree_with_the_published_api() {
    let pool = DescriptorPool::decode(proffer_proto::DESCRIPTORS).unwrap();
    let mut rows: BTreeMap<String, i32> = BTreeMap::new();
    for message in pool.all_messages().filter(|message| !message.is_map_entry()) {
        rows.insert(message.full_name().to_owned(), 0);
        rows.extend(
            message
                .fields()
                .map(|field| (row(&message, &field), field.number() as i32)),
        );
    }
    for enumeration in pool.all_enums() {
        rows.extend(enum_rows(&enumeration).into_iter().map(|(number, row)| (row, number)));
    }

    let table: BTreeSet<&str> = TABLE.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(table.len() > 1800, "the table is whole");
    let lost: Vec<&&str> = table.iter().filter(|row| !rows.contains_key(**row)).collect();
    assert!(lost.is_empty(), "published, but not here: {lost:#?}");

    let published: BTreeSet<&str> = table.iter().map(|row| row.split('|').next().unwrap()).collect();
    let added: Vec<&String> = rows
        .iter()
        .filter(|(row, number)| **number < EXTENSION && !table.contains(row.as_str()))
        .map(|(row, _)| row)
        .filter(|row| row.contains('|') && published.contains(row.split('|').next().unwrap()))
        .collect();
    assert!(added.is_empty(), "here, but not published: {added:#?}");
}
