//! The ids of the wire: conversions, text form, order, and the check of ids that frameworks choose.
//!
//! The types themselves are generated from the .proto files and can be keys of ordered and hashed maps.

use std::fmt;

use crate::Rejection;
use crate::v1::{AgentId, ContainerId, ExecutorId, FrameworkId, OfferId, OperationId, TaskId};

/// The longest id that a framework may choose, in bytes: one name of a directory entry.
pub const CHOSEN_ID_BYTES_MAX: usize = 255;

macro_rules! id {
    ($($name:ident),*) => {$(
        impl From<&str> for $name {
            fn from(value: &str) -> Self {
                Self::from(value.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(value: String) -> Self {
                Self { value, ..Self::default() }
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.value
            }
        }

        impl $name {
            /// The text of the id.
            pub fn as_str(&self) -> &str {
                &self.value
            }
        }
    )*};
}

macro_rules! display_value {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.value)
            }
        }
    )*};
}

// A container id holds its parent too, which the text form shows.
#[allow(clippy::needless_update)]
mod conversions {
    use super::*;

    id!(
        AgentId,
        ContainerId,
        ExecutorId,
        FrameworkId,
        OfferId,
        OperationId,
        TaskId
    );
}

display_value!(AgentId, ExecutorId, FrameworkId, OfferId, OperationId, TaskId);

impl fmt::Display for ContainerId {
    /// Outermost first: `parent.child`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A list, not recursion: the depth comes from outside.
        let mut chain = vec![self.value.as_str()];
        let mut container = self;
        while let Some(parent) = &container.parent {
            chain.push(&parent.value);
            container = parent;
        }
        chain.reverse();
        f.pad(&chain.join("."))
    }
}

/// Checks an id that a framework chose: such ids become directory names.
///
/// # Errors
/// Empty, longer than [`CHOSEN_ID_BYTES_MAX`], `.` or `..`, or with a slash, backslash or control character.
pub fn check_chosen(value: &str, field: &str) -> Result<(), Rejection> {
    let problem = if value.is_empty() {
        "is empty".to_owned()
    } else if value.len() > CHOSEN_ID_BYTES_MAX {
        format!("is {} bytes long", value.len())
    } else if value == "." || value == ".." {
        format!("is {value:?}")
    } else if let Some(found) = value.chars().find(|c| matches!(c, '/' | '\\') || c.is_control()) {
        format!("holds {found:?}")
    } else {
        return Ok(());
    };
    Err(Rejection::new(
        field,
        problem,
        format!("1 to {CHOSEN_ID_BYTES_MAX} bytes without `/`, `\\` and control characters, and not `.` or `..`"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_ids_must_be_directory_names() {
        for good in ["a", "web.1", "...", "ünïcode", &"x".repeat(255)] {
            assert_eq!(check_chosen(good, "task_id.value"), Ok(()), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a\\b",
            "a\nb",
            "\u{7f}",
            "\u{85}",
            &"x".repeat(256),
        ] {
            let rejection = check_chosen(bad, "task_id.value").expect_err(bad);
            assert_eq!(rejection.field, "task_id.value");
        }
    }

    #[test]
    fn a_nested_container_shows_its_ancestors() {
        let child = ContainerId {
            value: "child".into(),
            parent: Some(Box::new(ContainerId::from("parent"))),
        };
        assert_eq!(child.to_string(), "parent.child");
        assert_eq!(format!("{:>6}", TaskId::from("web")), "   web");
    }

    #[test]
    fn ids_are_ordered_keys() {
        let keys: std::collections::BTreeSet<_> = ["b", "a", "b"].map(AgentId::from).into();
        assert_eq!(keys.iter().map(AgentId::as_str).collect::<Vec<_>>(), ["a", "b"]);
    }
}
