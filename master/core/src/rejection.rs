//! Why a call is refused, for its caller.

use std::fmt;

/// Names the field that is wrong and says what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The path of the field from the outermost message, for example `accept.operations[0].launch`.
    pub field: String,
    /// What is wrong with it and what would be accepted.
    pub message: String,
}

impl Rejection {
    /// A rejection of one field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Rejection {
            field: field.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl std::error::Error for Rejection {}
