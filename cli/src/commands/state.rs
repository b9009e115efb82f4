//! `proffer state`: looks into the replicated state of frameworks, and mends it.

use std::io::{self, Read, Write};
use std::time::Duration;

use proffer_sdk::state::{Change, Entry, Key, Outcome, State, StateError};
use serde::Serialize;

use super::{ClusterArgs, OutputArgs};
use crate::exit::{Failure, FailureKind};
use crate::output::{self, Format, Row};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum StateCommand {
    /// List the keys of a namespace.
    Ls {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        output: OutputArgs,
        /// Whose keys, for example `framework/<id>`.
        namespace: String,
        /// What the keys begin with.
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Print the value of a key as it is.
    Get {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        output: OutputArgs,
        /// Whose key.
        namespace: String,
        /// Which key.
        key: String,
    },
    /// Write a key.
    Put {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Whose key.
        namespace: String,
        /// Which key.
        key: String,
        /// Its value; `-` reads the standard input.
        value: String,
        #[command(flatten)]
        condition: Condition,
    },
    /// Delete a key.
    Rm {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Whose key.
        namespace: String,
        /// Which key.
        key: String,
        #[command(flatten)]
        condition: Condition,
    },
    /// Print every key and every change, until interrupted; as JSON, one object a line.
    Watch {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        output: OutputArgs,
        /// Whose keys.
        namespace: String,
        /// What the keys begin with.
        #[arg(default_value = "")]
        prefix: String,
    },
}

/// When a key is written.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Condition {
    /// Only if the key has this version now; 0: only if it is not there.
    #[arg(long, value_name = "VERSION")]
    expect: Option<u64>,
}

#[derive(Debug, Serialize)]
struct KeyRow {
    key: String,
    version: u64,
}

impl Row for KeyRow {
    const TITLES: &'static [&'static str] = &["KEY", "VERSION"];

    fn cells(&self) -> Vec<String> {
        vec![self.key.clone(), self.version.to_string()]
    }
}

/// An entry for programs.
#[derive(Debug, Serialize)]
struct EntryObject {
    key: String,
    version: Option<u64>,
    /// Where it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// Where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
}

impl EntryObject {
    fn of(entry: Entry) -> Self {
        let text = std::str::from_utf8(&entry.value).ok().map(str::to_owned);
        let hex = || entry.value.iter().map(|byte| format!("{byte:02x}")).collect();
        EntryObject {
            value_hex: text.is_none().then(hex),
            value: text,
            key: entry.key,
            version: Some(entry.version),
            deleted: false,
        }
    }

    fn deleted(key: String, version: Option<u64>) -> Self {
        EntryObject {
            key,
            version,
            value: None,
            value_hex: None,
            deleted: true,
        }
    }
}

pub(crate) async fn run(command: StateCommand) -> Result<(), Failure> {
    match command {
        StateCommand::Ls {
            cluster,
            output,
            namespace,
            prefix,
        } => {
            let keys = state(&cluster, namespace).keys(prefix).await;
            let row = |key: Key| KeyRow {
                key: key.name,
                version: key.version,
            };
            let rows: Vec<KeyRow> = keys.map_err(failure(&cluster))?.into_iter().map(row).collect();
            Ok(output::print(output.output, &rows)?)
        }
        StateCommand::Get {
            cluster,
            output,
            namespace,
            key,
        } => {
            let entry = state(&cluster, namespace).get(key.as_str()).await;
            let entry = entry.map_err(failure(&cluster))?;
            let entry = entry.ok_or_else(|| Failure::new(FailureKind::NotFound, format!("there is no key `{key}`")))?;
            match output.output {
                Format::Table => io::stdout().write_all(&entry.value)?,
                Format::Json => print_line(&EntryObject::of(entry))?,
            }
            Ok(())
        }
        StateCommand::Put {
            cluster,
            namespace,
            key,
            value,
            condition,
        } => {
            let value = match value.as_str() {
                "-" => read_input()?,
                _ => value.into_bytes(),
            };
            let state = state(&cluster, namespace);
            let version = match condition.expect {
                None => state.put(key, value).await.map_err(failure(&cluster))?,
                Some(version) => done(
                    state
                        .compare_and_set(key, version, value)
                        .await
                        .map_err(failure(&cluster))?,
                )?,
            };
            eprintln!("written as version {version}");
            Ok(())
        }
        StateCommand::Rm {
            cluster,
            namespace,
            key,
            condition,
        } => {
            let state = state(&cluster, namespace);
            match condition.expect {
                None => state.delete(key).await.map_err(failure(&cluster)),
                Some(version) => done(
                    state
                        .compare_and_delete(key, version)
                        .await
                        .map_err(failure(&cluster))?,
                )
                .map(drop),
            }
        }
        StateCommand::Watch {
            cluster,
            output,
            namespace,
            prefix,
        } => watch(&cluster, &output, namespace, prefix).await,
    }
}

async fn watch(cluster: &ClusterArgs, output: &OutputArgs, namespace: String, prefix: String) -> Result<(), Failure> {
    let mut watch = state(cluster, namespace).watch(prefix);
    loop {
        let object = match watch.next().await.map_err(failure(cluster))? {
            Change::Put(entry) => EntryObject::of(entry),
            Change::Deleted { key, version } => EntryObject::deleted(key, version),
            Change::Current => continue,
        };
        match output.output {
            Format::Json => print_line(&object)?,
            Format::Table => {
                let version = object.version.map_or("-".to_owned(), |version| version.to_string());
                let value = match &object {
                    EntryObject { deleted: true, .. } => "(deleted)",
                    EntryObject { value: Some(text), .. } => text,
                    _ => "(bytes)",
                };
                writeln!(io::stdout(), "{version}  {}  {value}", object.key)?;
            }
        }
    }
}

fn state(cluster: &ClusterArgs, namespace: String) -> State {
    State::of(cluster.master.clone(), namespace).timeout(Duration::from_secs(cluster.timeout))
}

/// The version of a write that was done.
fn done(outcome: Outcome) -> Result<u64, Failure> {
    let there = |present: Option<Entry>| match present {
        Some(entry) => format!("the key has version {}", entry.version),
        None => "the key is not there".to_owned(),
    };
    match outcome {
        Outcome::Done { version } => Ok(version),
        Outcome::Conflict { present } => Err(Failure::new(FailureKind::Rejected, there(present))),
        Outcome::Unknown { present } => {
            let text = format!("the answer was lost, perhaps it was done; {} now", there(present));
            Err(Failure::new(FailureKind::Failed, text))
        }
    }
}

fn failure(cluster: &ClusterArgs) -> impl Fn(StateError) -> Failure {
    |error| match error {
        StateError::Unavailable(text) => cluster.unreachable(text),
        unknown @ StateError::Unknown(_) => Failure::new(FailureKind::Failed, unknown),
        refused => Failure::new(FailureKind::Rejected, refused),
    }
}

fn read_input() -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    io::stdin().lock().read_to_end(&mut value)?;
    Ok(value)
}

fn print_line(object: &EntryObject) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, object)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_text_where_it_is_and_hexadecimal_where_not() {
        let entry = |value: &'static [u8]| Entry {
            key: "k".into(),
            value: value.into(),
            version: 3,
        };
        let json = |object| serde_json::to_string(&object).expect("plain data");
        assert_eq!(
            json(EntryObject::of(entry(b"v"))),
            r#"{"key":"k","version":3,"value":"v"}"#
        );
        assert_eq!(
            json(EntryObject::of(entry(b"\xff\x00"))),
            r#"{"key":"k","version":3,"value_hex":"ff00"}"#
        );
        let deleted = EntryObject::deleted("k".into(), None);
        assert_eq!(json(deleted), r#"{"key":"k","version":null,"deleted":true}"#);
    }
}
