//! What an instance runs.

use proffer_proto::Rejection;
use serde::Serialize;

use super::fields::Fields;
use super::values::{TEXT_BYTES_MAX, text};

/// What an instance runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Run {
    /// A line for `/bin/sh -c`.
    Command(String),
    /// A program and its arguments, the program being the first.
    Argv(Vec<String>),
}

impl Run {
    pub(super) fn read(fields: &mut Fields) -> Result<Self, Rejection> {
        let command = fields.optional("command", "a line for the shell")?;
        let argv = fields.optional("argv", "a list of a program and its arguments")?;
        match (command, argv) {
            (Some(command), None) => Ok(Run::Command(command)),
            (None, Some(argv)) => Ok(Run::Argv(argv)),
            (None, None) => Err(Rejection::new("command", "is missing", "either `command` or `argv`")),
            (Some(_), Some(_)) => Err(Rejection::new(
                "argv",
                "is set beside `command`",
                "either `command` or `argv`",
            )),
        }
    }

    pub(super) fn validate(&self) -> Result<(), Rejection> {
        match self {
            Run::Command(command) => text("command", command, 1, TEXT_BYTES_MAX),
            Run::Argv(argv) => {
                if argv.first().is_none_or(String::is_empty) {
                    return Err(Rejection::new(
                        "argv",
                        "names no program",
                        "a list that begins with a program",
                    ));
                }
                for (index, argument) in argv.iter().enumerate() {
                    text(&format!("argv[{index}]"), argument, 0, TEXT_BYTES_MAX)?;
                }
                Ok(())
            }
        }
    }
}
