//! Forwards what raft-rs logs through slog to tracing. Its informational messages are of interest only to developers.

use std::fmt::Write as _;

use slog::{Drain, KV as _};

/// A logger whose records become tracing events of the target `raft`.
pub(crate) fn logger() -> slog::Logger {
    slog::Logger::root(Forward, slog::o!())
}

struct Forward;

impl Drain for Forward {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, _context: &slog::OwnedKVList) -> Result<(), slog::Never> {
        let fields = || {
            let mut fields = Fields(String::new());
            // Writing to a string cannot fail.
            let _ = record.kv().serialize(record, &mut fields);
            fields.0
        };
        let message = record.msg();
        match record.level() {
            slog::Level::Critical => tracing::error!(target: "raft", fields = fields(), "{message}"),
            slog::Level::Error | slog::Level::Warning => {
                tracing::warn!(target: "raft", fields = fields(), "{message}");
            }
            slog::Level::Info | slog::Level::Debug => {
                tracing::debug!(target: "raft", fields = fields(), "{message}");
            }
            slog::Level::Trace => tracing::trace!(target: "raft", fields = fields(), "{message}"),
        }
        Ok(())
    }
}

struct Fields(String);

impl slog::Serializer for Fields {
    fn emit_arguments(&mut self, key: slog::Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, "{key}={value} ")?;
        Ok(())
    }
}
