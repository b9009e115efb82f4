//! Takes stock after a restart: finds what runs, what has ended, and destroys what nobody knows.

use std::io;

use super::container::Container;
use super::spec::{ContainerId, Exit, Recovered};
use super::{Error, Inner, system};

/// How long an orphan may take to end after it was killed.
const ORPHAN_SECONDS: i64 = 10;

/// What became of each known container; everything else of ours is destroyed.
pub(super) fn recover(inner: &Inner, known: &[ContainerId]) -> Result<Vec<(ContainerId, Recovered)>, Error> {
    let mut found = inner.records.containers().map_err(system("list the containers"))?;
    found.extend(inner.cgroups.containers().map_err(super::cgroup_error)?);
    found.extend(inner.isolators.iter().flat_map(|isolator| isolator.containers()));
    found.sort();
    found.dedup();
    let holds_known = |pod: &ContainerId| known.iter().any(|id| id.pod().as_ref() == Some(pod));
    // Those in pods before the pods.
    for orphan in found.iter().rev().filter(|id| !known.contains(id) && !holds_known(id)) {
        tracing::warn!(container_id = %orphan, "a container that nobody knows is destroyed");
        destroy(inner, orphan)?;
    }
    known
        .iter()
        .map(|id| Ok((id.clone(), recover_one(inner, id)?)))
        .collect()
}

fn recover_one(inner: &Inner, id: &ContainerId) -> Result<Recovered, Error> {
    let failed = |error| system("read the records of a container")(error);
    let recovered = match find(inner, id).map_err(failed)? {
        Found::Running(container) => {
            let pid = container.task_pid();
            inner.insert(container);
            return Ok(Recovered::Running { pid });
        }
        Found::Exited(exit) => Recovered::Exited(exit),
        Found::Unknown => Recovered::Unknown,
    };
    // Of a container that is unknown nothing must be left; of one that has ended the supervisor has killed everything, unless it
    // was killed itself and had no pid namespace.
    inner.kill_left_over(id)?;
    match &recovered {
        Recovered::Exited(exit) => inner.insert(Container::ended(id, exit.clone())),
        _ => inner.remove(id)?,
    }
    Ok(recovered)
}

enum Found {
    Running(Container),
    Exited(Exit),
    Unknown,
}

fn find(inner: &Inner, id: &ContainerId) -> io::Result<Found> {
    if !inner.records.directory(id).is_dir() {
        return Ok(Found::Unknown);
    }
    if inner.records.exit(id)?.is_none() {
        let given_up = inner.records.give_up(id)?;
        let state = inner
            .records
            .state(id)?
            .filter(|state| !given_up && state.boot_id == inner.boot_id);
        let Some(state) = state else { return Ok(Found::Unknown) };
        if let Some(container) = Container::adopt_state(id, &state)? {
            return Ok(Found::Running(container));
        }
    }
    // Looked at again: it may have ended between the two looks.
    Ok(match inner.records.exit(id)? {
        Some(exit) if exit.failed.is_some() => Found::Unknown,
        Some(exit) => Found::Exited(exit.into()),
        None => Found::Exited(Exit {
            lost: true,
            ..Exit::default()
        }),
    })
}

fn destroy(inner: &Inner, id: &ContainerId) -> Result<(), Error> {
    let failed = |error| system("destroy a container that nobody knows")(error);
    if let Found::Running(container) = find(inner, id).map_err(failed)? {
        container.terminate().map_err(failed)?;
        inner.kill_left_over(id)?;
        if !container.supervisor_ended_within(ORPHAN_SECONDS).map_err(failed)? {
            return Err(failed(io::ErrorKind::TimedOut.into()));
        }
    }
    inner.kill_left_over(id)?;
    inner.remove(id)
}
