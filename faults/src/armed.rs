//! What happens at the places, as a test says: `place=action@hit`, several separated by `;`.
//!
//! The actions are `end`, as `kill -9` does; `error(28)`, with a number of the system; and `wait(50)`, milliseconds. They
//! happen at the hit of that number, counted from 1; without one at every hit.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::Place;

static ARMED: OnceLock<Armed> = OnceLock::new();

#[derive(Debug, Default)]
struct Armed {
    from_start: Vec<Fault>,
    file: Option<PathBuf>,
    /// What the file said last.
    from_file: Mutex<(String, Vec<Fault>)>,
}

/// One thing that is to happen.
#[derive(Debug)]
struct Fault {
    place: String,
    action: Action,
    /// None for every hit.
    at_hit: Option<u64>,
    hits: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    End,
    Error(i32),
    Wait(Duration),
}

/// Says, once, what is to happen in this process: what `text` says from now on, and what the file says as soon as there is one.
///
/// # Errors
/// The text is wrong, or this was called before.
pub fn arm(text: &str, file: Option<PathBuf>) -> Result<(), String> {
    let armed = Armed {
        from_start: parse_all(text)?,
        file,
        ..Armed::default()
    };
    ARMED.set(armed).map_err(|_| "faults are armed once".to_owned())
}

pub(crate) fn reach(place: Place) -> io::Result<()> {
    let Some(armed) = ARMED.get() else { return Ok(()) };
    let action = due(&armed.from_start, place).or_else(|| armed.due_by_file(place));
    match action {
        None => Ok(()),
        Some(Action::End) => {
            say(&format!("the process ends at {}", place.0));
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            // This thread gets the signal before the call returns.
            loop {
                std::thread::park();
            }
        }
        Some(Action::Error(number)) => {
            say(&format!("error {number} at {}", place.0));
            Err(io::Error::from_raw_os_error(number))
        }
        Some(Action::Wait(time)) => {
            std::thread::sleep(time);
            Ok(())
        }
    }
}

/// For the log that a test reads.
fn say(what: &str) {
    use std::io::Write as _;
    let _ = writeln!(io::stderr(), "fault: {what}");
}

fn due(faults: &[Fault], place: Place) -> Option<Action> {
    let mut here = faults.iter().filter(|fault| fault.place == place.0);
    here.find(|fault| fault.is_hit()).map(|fault| fault.action)
}

impl Armed {
    fn due_by_file(&self, place: Place) -> Option<Action> {
        let text = std::fs::read_to_string(self.file.as_ref()?).ok()?;
        let mut said = self.from_file.lock().unwrap_or_else(PoisonError::into_inner);
        if said.0 != text {
            let faults = parse_all(text.trim()).unwrap_or_else(|problem| {
                say(&problem);
                Vec::new()
            });
            *said = (text, faults);
        }
        due(&said.1, place)
    }
}

impl Fault {
    /// Counts a hit; whether it is the one.
    fn is_hit(&self) -> bool {
        let hit = self.hits.fetch_add(1, Ordering::Relaxed) + 1;
        self.at_hit.is_none_or(|at| at == hit)
    }
}

fn parse_all(text: &str) -> Result<Vec<Fault>, String> {
    text.split(';').filter(|part| !part.is_empty()).map(parse).collect()
}

fn parse(text: &str) -> Result<Fault, String> {
    let wrong = || {
        format!(
            "`{text}` is no fault: `place=action@hit` is accepted, with `end`, `error(28)` or `wait(50)`, and `@hit` may be left out"
        )
    };
    let (place, rest) = text.split_once('=').ok_or_else(wrong)?;
    let (action, hit) = match rest.split_once('@') {
        Some((action, hit)) => (action, Some(hit.parse().ok().filter(|hit| *hit > 0).ok_or_else(wrong)?)),
        None => (rest, None),
    };
    let number = |name: &str| -> Option<u32> {
        let inner = action.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?;
        inner.parse().ok()
    };
    let action = if action == "end" {
        Action::End
    } else if let Some(error) = number("error").and_then(|error| i32::try_from(error).ok()) {
        Action::Error(error)
    } else if let Some(millis) = number("wait") {
        Action::Wait(Duration::from_millis(millis.into()))
    } else {
        return Err(wrong());
    };
    Ok(Fault {
        place: place.to_owned(),
        action,
        at_hit: hit,
        hits: AtomicU64::new(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_wrong_ones_refused() {
        for (text, action, at_hit) in [
            ("a=end", Action::End, None),
            ("a=end@3", Action::End, Some(3)),
            ("a=error(28)@1", Action::Error(28), Some(1)),
            ("a=wait(50)", Action::Wait(Duration::from_millis(50)), None),
        ] {
            let fault = parse(text).unwrap();
            assert_eq!(
                (fault.place.as_str(), fault.action, fault.at_hit),
                ("a", action, at_hit)
            );
        }
        for text in [
            "a",
            "a=",
            "a=stop",
            "a=end@0",
            "a=end@x",
            "a=error()",
            "a=wait(-1)",
            "a=error(4294967295)",
        ] {
            assert!(parse(text).unwrap_err().contains("is accepted"), "{text}");
        }
    }

    #[test]
    fn faults_come_at_their_hit_from_the_start_and_from_the_file() {
        const HERE: Place = Place("here");
        const THERE: Place = Place("there");
        let error = |place: Place| place.reach().err().and_then(|error| error.raw_os_error());
        let file = std::env::temp_dir().join(format!("proffer-faults-{}", std::process::id()));
        let _ = std::fs::remove_file(&file);
        arm("here=error(28)@2", Some(file.clone())).unwrap();
        assert!(arm("", None).is_err());
        assert_eq!([error(HERE), error(THERE)], [None, None]);
        assert_eq!([error(HERE), error(HERE)], [Some(28), None]);
        std::fs::write(&file, "there=error(5)@2").unwrap();
        assert_eq!([error(THERE), error(THERE), error(THERE)], [None, Some(5), None]);
        std::fs::write(&file, "there=error(6)").unwrap();
        assert_eq!([error(THERE), error(THERE)], [Some(6), Some(6)]);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(error(THERE), None);
    }
}
