//! What the launcher says: the report over the pipe to the agent that started it, and the two files that it leaves for any agent.
//!
//! `state` appears, by a rename that never replaces, before the program is executed. `exit` appears when every process of the
//! container has ended. Both are a few lines of text that end with `end`, so that a torn file is known as one.

/// The file that says who runs.
pub const STATE_FILE: &str = "state";
/// The file that says how it ended.
pub const EXIT_FILE: &str = "exit";

/// A process, so named that no other process is ever mistaken for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// The pid in the agent's namespace.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`.
    pub start_time: u64,
}

/// Where launching had arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The plan was read and checked.
    Plan,
    /// The directory of the records was opened.
    StateDirectory,
    /// The supervisor was created, in its pid namespace.
    Supervisor,
    /// The supervisor looked itself up and prepared to watch.
    Watch,
    /// The files of the task's output were made.
    Logs,
    /// The task's process was created, in its namespaces.
    Clone,
    /// The `state` file was written.
    Record,
    /// A step of the plan, by its index.
    Step(u32),
    /// The program was executed.
    Exec,
}

impl Stage {
    /// The stage as a number.
    pub fn to_u32(self) -> u32 {
        match self {
            Stage::Step(index) => index,
            Stage::Plan => u32::MAX,
            Stage::StateDirectory => u32::MAX - 1,
            Stage::Supervisor => u32::MAX - 2,
            Stage::Watch => u32::MAX - 3,
            Stage::Clone => u32::MAX - 4,
            Stage::Record => u32::MAX - 5,
            Stage::Exec => u32::MAX - 6,
            Stage::Logs => u32::MAX - 7,
        }
    }

    /// The stage of a number.
    pub fn from_u32(number: u32) -> Self {
        [
            Stage::Plan,
            Stage::StateDirectory,
            Stage::Supervisor,
            Stage::Watch,
            Stage::Clone,
            Stage::Record,
            Stage::Exec,
            Stage::Logs,
        ]
        .into_iter()
        .find(|stage| stage.to_u32() == number)
        .unwrap_or(Stage::Step(number))
    }
}

/// The one message over the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Zero when the program was executed.
    pub errno: i32,
    /// Where launching ended.
    pub stage: Stage,
    /// The supervisor.
    pub shim: Process,
    /// The main process.
    pub task: Process,
}

impl Report {
    /// How long the message is.
    pub const BYTES: usize = 32;

    /// The message.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..4].copy_from_slice(&self.errno.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.stage.to_u32().to_le_bytes());
        bytes[8..12].copy_from_slice(&self.shim.pid.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.task.pid.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.shim.start_time.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.task.start_time.to_le_bytes());
        bytes
    }

    /// Reads the message.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let short = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(short(at)) | u64::from(short(at + 4)) << 32;
        Report {
            errno: short(0) as i32,
            stage: Stage::from_u32(short(4)),
            shim: Process {
                pid: short(8),
                start_time: long(16),
            },
            task: Process {
                pid: short(12),
                start_time: long(24),
            },
        }
    }
}

/// The `state` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The boot that the pids belong to.
    pub boot_id: String,
    /// The supervisor.
    pub shim: Process,
    /// The main process.
    pub task: Process,
}

impl State {
    /// Reads the file; none when it is torn or of another version.
    pub fn parse(text: &str) -> Option<Self> {
        let lines = Lines::new(text, "proffer-state 1")?;
        Some(State {
            boot_id: lines.get("boot")?.to_owned(),
            shim: lines.process("shim")?,
            task: lines.process("task")?,
        })
    }
}

/// The `exit` file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// The exit code.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The error number of a launch that failed; neither `code` nor `signal` then.
    pub failed: Option<i32>,
    /// Whether the kernel killed for want of memory.
    pub oom: bool,
    /// The memory limit at the end, bytes.
    pub limit: Option<u64>,
    /// The peak of memory use, bytes.
    pub peak: Option<u64>,
    /// CPU time, microseconds.
    pub cpu: Option<u64>,
}

impl Exit {
    /// Reads the file; none when it is torn or of another version.
    pub fn parse(text: &str) -> Option<Self> {
        let lines = Lines::new(text, "proffer-exit 1")?;
        let exit = Exit {
            code: lines.number("code"),
            signal: lines.number("signal"),
            failed: lines.number("failed"),
            oom: lines.get("oom").is_some(),
            limit: lines.number("limit"),
            peak: lines.number("peak"),
            cpu: lines.number("cpu"),
        };
        (exit.code.is_some() || exit.signal.is_some() || exit.failed.is_some()).then_some(exit)
    }
}

struct Lines<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Lines<'a> {
    fn new(text: &'a str, head: &str) -> Option<Self> {
        let body = text.strip_prefix(head)?.strip_prefix('\n')?.strip_suffix("end\n")?;
        Some(Lines(
            body.lines()
                .map(|line| line.split_once(' ').unwrap_or((line, "")))
                .collect(),
        ))
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    fn number<N: std::str::FromStr>(&self, key: &str) -> Option<N> {
        self.get(key)?.parse().ok()
    }

    fn process(&self, key: &str) -> Option<Process> {
        let (pid, start_time) = self.get(key)?.split_once(' ')?;
        Some(Process {
            pid: pid.parse().ok()?,
            start_time: start_time.parse().ok()?,
        })
    }
}

/// Field 22 of the text of `/proc/PID/stat`; the name in field 2 may hold anything.
pub fn start_time(stat: &[u8]) -> Option<u64> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let field = stat
        .get(after_name..)?
        .split(|byte| *byte == b' ')
        .filter(|field| !field.is_empty())
        .nth(19)?;
    number(field)
}

/// A decimal number at the start of a text, after blanks; none without a digit or beyond 64 bits.
pub fn number(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii_start();
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let add = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    (digits > 0).then(|| text[..digits].iter().try_fold(0, add)).flatten()
}

/// The number after `key` in a text of lines `key number`, such as `memory.events`.
pub fn keyed(text: &[u8], key: &[u8]) -> Option<u64> {
    text.split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(key).filter(|rest| rest.starts_with(b" ")))
        .and_then(number)
}

/// A text of a fixed capacity, for records written without allocating. What does not fit is dropped with all that follows, and the
/// record is then known as torn.
#[derive(Debug)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
    full: bool,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Text {
            bytes: [0; N],
            length: 0,
            full: false,
        }
    }
}

impl<const N: usize> Text<N> {
    /// What was written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) -> &mut Self {
        match self.bytes.get_mut(self.length..self.length + bytes.len()) {
            Some(room) if !self.full => {
                room.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            _ => self.full = true,
        }
        self
    }

    /// Appends a number, in decimal.
    pub fn number(&mut self, mut value: u64) -> &mut Self {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.push(&digits[at..])
    }

    /// Appends a line of a key and a number, if there is one.
    pub fn line(&mut self, key: &[u8], value: Option<u64>) -> &mut Self {
        match value {
            Some(value) => self.push(key).push(b" ").number(value).push(b"\n"),
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let stages = [
            Stage::Plan,
            Stage::Supervisor,
            Stage::Step(3),
            Stage::Exec,
            Stage::Record,
        ];
        for stage in stages {
            let report = Report {
                errno: -3,
                stage,
                shim: Process {
                    pid: 7,
                    start_time: u64::MAX - 1,
                },
                task: Process { pid: 8, start_time: 9 },
            };
            assert_eq!(Report::from_bytes(report.to_bytes()), report);
        }
    }

    #[test]
    fn a_torn_record_is_not_believed() {
        let text = "proffer-exit 1\ncode 3\noom\nlimit 10\nend\n";
        let exit = Exit {
            code: Some(3),
            oom: true,
            limit: Some(10),
            ..Exit::default()
        };
        assert_eq!(Exit::parse(text), Some(exit));
        for length in 0..text.len() {
            assert_eq!(Exit::parse(&text[..length]), None, "{length}");
        }
        let text = "proffer-state 1\nboot b-1\nshim 1 22\ntask 3 44\nend\n";
        let state = State::parse(text).unwrap();
        assert_eq!(
            (state.boot_id.as_str(), state.shim.start_time, state.task.pid),
            ("b-1", 22, 3)
        );
        for length in 0..text.len() {
            assert_eq!(State::parse(&text[..length]), None, "{length}");
        }
        assert_eq!(Exit::parse("proffer-exit 1\nend\n"), None);
        assert_eq!(Exit::parse("proffer-exit 2\ncode 3\nend\n"), None);
    }

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        for name in ["sh", "a b", "a) S 1 (b", ""] {
            assert_eq!(
                start_time(format!("12 ({name}) {tail}").as_bytes()),
                Some(4242),
                "{name}"
            );
        }
        assert_eq!(start_time(b"12 (sh) S 1"), None);
    }

    #[test]
    fn numbers_are_read_with_care() {
        assert_eq!(number(b" 12\n"), Some(12));
        assert_eq!(number(b"max\n"), None);
        assert_eq!(number(b""), None);
        assert_eq!(number(b"99999999999999999999999"), None);
        assert_eq!(keyed(b"oom 1\noom_kill 5\noom_kill_x 7\n", b"oom_kill"), Some(5));
        assert_eq!(keyed(b"oom_kill_x 7\n", b"oom_kill"), None);
    }

    #[test]
    fn a_text_that_is_full_stays_in_its_bounds() {
        let mut text = Text::<8>::default();
        text.line(b"a", Some(12))
            .line(b"b", None)
            .line(b"c", Some(u64::MAX))
            .push(b"end\n");
        assert_eq!(text.as_bytes(), b"a 12\nc ");
        let mut text = Text::<32>::default();
        text.number(0).push(b" ").number(u64::MAX);
        assert_eq!(text.as_bytes(), b"0 18446744073709551615");
    }
}
