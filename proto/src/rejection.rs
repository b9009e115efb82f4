//! Why a value was turned away: which field, what is wrong with it, and what would be accepted.

use std::fmt;

/// An invalid value in a request, by the path of its field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rejection {
    /// Path from the outermost message, such as `accept.operations[0].launch`; empty where the whole message is meant.
    pub field: String,
    /// What is wrong, as the rest of a sentence that begins with the field: `is NaN`.
    pub problem: String,
    /// What would be accepted instead.
    pub accepted: String,
}

impl Rejection {
    /// A rejection of `field`; `problem` continues the sentence that the field begins.
    pub fn new(field: impl Into<String>, problem: impl Into<String>, accepted: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
            accepted: accepted.into(),
        }
    }

    /// A rejection of a field that has to be set and is not.
    pub fn missing(field: impl Into<String>) -> Self {
        Self::new(field, "is missing", "a value; the field is required")
    }

    /// The same rejection seen from the enclosing message: `outer` is put before the path.
    #[must_use]
    pub fn within(mut self, outer: impl fmt::Display) -> Self {
        self.field = match self.field.chars().next() {
            None => outer.to_string(),
            Some('[') => format!("{outer}{}", self.field),
            Some(_) => format!("{outer}.{}", self.field),
        };
        self
    }

    /// The same rejection seen from a list, of which this was the element at `index`.
    #[must_use]
    pub fn at(self, index: usize) -> Self {
        self.within(format_args!("[{index}]"))
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => write!(f, "the message {}; accepted: {}", self.problem, self.accepted),
            field => write!(f, "`{field}` {}; accepted: {}", self.problem, self.accepted),
        }
    }
}

impl std::error::Error for Rejection {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_grows_from_the_inside_out() {
        let rejection = Rejection::new("value", "is NaN", "a number")
            .within("scalar")
            .at(1)
            .within("resources")
            .at(0)
            .within("task_infos");
        assert_eq!(
            rejection.to_string(),
            "`task_infos[0].resources[1].scalar.value` is NaN; accepted: a number"
        );
        assert_eq!(
            Rejection::new("", "is no JSON", "JSON").within("body").to_string(),
            "`body` is no JSON; accepted: JSON"
        );
    }
}
