//! `proffer service logs`: what the instances of a service write, one or all of them.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use proffer_proto::v1::Task;
use tokio::task::JoinSet;

use super::ServicesArgs;
use super::instances::{Named, tasks};
use crate::commands::logs::{PartArgs, copy};
use crate::exit::Failure;

/// How often it is looked for new instances.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A line that is longer is cut, so that one that never ends costs no memory.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Copies what the instances wrote; with `--follow` also what those write that take their places, until it is told to end.
pub(super) async fn run(services: &ServicesArgs, named: &Named, part: &PartArgs) -> Result<(), Failure> {
    let mut known = BTreeSet::new();
    let mut copies: JoinSet<Result<(), Failure>> = JoinSet::new();
    let mut part = part.clone();
    let mut found = tasks(services, named).await?;
    loop {
        for (index, task) in found {
            if known.insert(task.task_id.value.clone()) {
                // One instance writes as it is, several each before its name.
                let name = named.index.is_none().then(|| format!("{}.{index}", named.service));
                copies.spawn(copy_one(services.clone(), task, part.clone(), name));
            }
        }
        if !part.follow {
            return all(&mut copies).await;
        }
        // Of what begins from now on everything is new.
        part.tail = None;
        tokio::time::sleep(LOOK_EVERY).await;
        while let Some(copied) = copies.try_join_next() {
            if let Ok(Err(failure)) = copied {
                eprintln!("proffer: {failure}");
            }
        }
        found = match tasks(services, named).await {
            Ok(found) => found,
            Err(failure) => {
                eprintln!("proffer: {failure}");
                Default::default()
            }
        };
    }
}

/// Waits for all copies; one that failed does not end the others.
async fn all(copies: &mut JoinSet<Result<(), Failure>>) -> Result<(), Failure> {
    let mut result = Ok(());
    while let Some(copied) = copies.join_next().await {
        let copied = copied.unwrap_or_else(|error| Err(anyhow::Error::from(error).into()));
        result = result.and(copied);
    }
    result
}

async fn copy_one(services: ServicesArgs, task: Task, part: PartArgs, name: Option<String>) -> Result<(), Failure> {
    let Some(name) = name else {
        return copy(&services.cluster, &task, &part, write).await;
    };
    let mut lines = Lines::new(name);
    let copied = copy(&services.cluster, &task, &part, |bytes| write(&lines.take(bytes))).await;
    write(&lines.end());
    copied
}

/// A closed pipe ends the copy.
fn write(bytes: &[u8]) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).is_ok()
}

/// Makes lines of bytes, each with a name before it.
struct Lines {
    before: Vec<u8>,
    rest: Vec<u8>,
}

impl Lines {
    fn new(name: String) -> Self {
        Self {
            before: format!("{name} | ").into_bytes(),
            rest: Vec::new(),
        }
    }

    /// The lines that are whole now.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut whole = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.rest.len() >= LINE_BYTES_MAX {
                whole.append(&mut self.end());
            }
        }
        whole
    }

    /// What is left, as a line.
    fn end(&mut self) -> Vec<u8> {
        if self.rest.is_empty() {
            return Vec::new();
        }
        let mut line = [&self.before[..], &self.rest].concat();
        self.rest.clear();
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_name_however_it_came() {
        let mut lines = Lines::new("web.0".to_owned());
        let mut said = Vec::new();
        for piece in ["one\ntw", "", "o\n\nthr", "ee"] {
            said.extend(lines.take(piece.as_bytes()));
        }
        said.extend(lines.end());
        said.extend(lines.end());
        let said = String::from_utf8(said).unwrap();
        assert_eq!(said, "web.0 | one\nweb.0 | two\nweb.0 | \nweb.0 | three\n");
        let long = lines.take(&vec![b'x'; 3 * LINE_BYTES_MAX]);
        assert!(long.len() >= 3 * LINE_BYTES_MAX && lines.rest.is_empty());
    }
}
