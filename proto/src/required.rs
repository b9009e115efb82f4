//! Checks that an encoded message holds every required field, which prost does not.

use std::fmt;

/// What the descriptors say of one message.
pub(crate) struct MessageRule {
    pub(crate) name: &'static str,
    pub(crate) fields: &'static [FieldRule],
}

/// A field that is required or holds a message.
pub(crate) struct FieldRule {
    pub(crate) number: u32,
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    #[allow(dead_code)]
    pub(crate) repeated: bool,
    /// Index of the message rule of its type.
    pub(crate) message: Option<usize>,
}

include!(concat!(env!("OUT_DIR"), "/required_table.rs"));

/// A required field that is missing, by its path from the outermost message, for example `accept.operations[0].launch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingField(pub String);

impl fmt::Display for MissingField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "missing required field `{}`", self.0)
    }
}

impl std::error::Error for MissingField {}
