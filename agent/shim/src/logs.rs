//! The container's output: two pipes that the supervisor empties into files of bounded size.
//!
//! The task writes into a pipe and waits when it writes faster than the disk does; nothing is lost because of its speed. A file
//! that is full becomes `stdout.1`, the one before it `stdout.2`, and so on; the last is removed. That happens at the end of a line,
//! so that no line is cut that is not longer than [`MARGIN_BYTES`]. The files belong to the task's user, who may do with them what
//! he likes: none is opened that was not made here, and names are never followed.

use std::ffi::CStr;

use proffer_shim::plan::{LOG_START_ATTRIBUTE, Plan};
use proffer_shim::record::Text;

use crate::system::{self, Descriptor, Errno};

/// How far before the end of a file the end of a line is looked for.
const MARGIN_BYTES: u64 = 64 << 10;
/// What is read at once: a full pipe.
const BUFFER_BYTES: usize = 64 << 10;
/// How often a pipe is read before the supervisor looks at other things.
const READS_MAX: usize = 16;
const NAMES: [&CStr; 2] = [c"stdout", c"stderr"];

/// Both streams of a container.
pub(crate) struct Logs {
    streams: [Log; 2],
    /// The task's ends, until it has them.
    task: [Descriptor; 2],
    buffer: &'static mut [u8],
}

/// One stream.
struct Log {
    /// None when nobody can write to it any more.
    pipe: Option<Descriptor>,
    directory: Descriptor,
    name: &'static CStr,
    /// None when none could be made.
    file: Option<Descriptor>,
    size: u64,
    /// Where in all the output the file begins.
    start: u64,
    limits: Limits,
    /// What could not be written for want of room.
    lost: u64,
}

#[derive(Clone, Copy)]
struct Limits {
    bytes: u64,
    files: u32,
    uid: u32,
    gid: u32,
}

impl Logs {
    /// Makes pipes and files; none where the plan wants none.
    pub(crate) fn open(plan: &Plan<'_>) -> Result<Option<Self>, Errno> {
        if plan.logs().is_empty() {
            return Ok(None);
        }
        let directory = system::open(plan.logs(), libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)?;
        let limits = Limits {
            bytes: plan.log_bytes.max(1),
            files: plan.log_files.max(1),
            uid: plan.log_owner.0,
            gid: plan.log_owner.1,
        };
        let [output, errors] = [system::pipe()?, system::pipe()?];
        for (ours, tasks) in [output, errors] {
            system::set_nonblocking(ours)?;
            // So that it may open `/dev/stdout` again.
            system::change_owner(tasks, limits.uid, limits.gid)?;
        }
        let log = |pipe, name| -> Result<Log, Errno> {
            let mut log = Log {
                pipe: Some(pipe),
                directory,
                name,
                file: None,
                size: 0,
                start: 0,
                limits,
                lost: 0,
            };
            // What was fetched may have brought one along.
            log.rotate()?;
            Ok(log)
        };
        Ok(Some(Logs {
            streams: [log(output.0, NAMES[0])?, log(errors.0, NAMES[1])?],
            task: [output.1, errors.1],
            buffer: system::buffer(BUFFER_BYTES)?,
        }))
    }

    /// The ends that the task writes to: standard output and standard error.
    pub(crate) fn task(&self) -> [Descriptor; 2] {
        self.task
    }

    /// The task has its ends.
    pub(crate) fn started(&self) {
        self.task.iter().for_each(|end| system::close(*end));
    }

    /// What to wait on.
    pub(crate) fn pipes(&self) -> [Option<Descriptor>; 2] {
        [self.streams[0].pipe, self.streams[1].pipe]
    }

    /// Takes what is there, up to a bound.
    pub(crate) fn take(&mut self) {
        for stream in &mut self.streams {
            let _ = stream.take(self.buffer);
        }
    }

    /// Takes all that is there. Nobody of the container lives any more.
    pub(crate) fn finish(&mut self) {
        for stream in &mut self.streams {
            while stream.take(self.buffer) {}
        }
    }
}

impl Log {
    /// Whether there may be more.
    fn take(&mut self, buffer: &mut [u8]) -> bool {
        for _ in 0..READS_MAX {
            let Some(pipe) = self.pipe else { return false };
            match system::read(pipe, buffer) {
                Ok(0) => {
                    system::close(pipe);
                    self.pipe = None;
                }
                Ok(length) => self.append(&buffer[..length]),
                Err(libc::EINTR) => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, full) = self.part(bytes);
            self.write(&bytes[..now]);
            bytes = &bytes[now..];
            if full {
                let _ = self.rotate();
            }
        }
    }

    /// How much goes into this file, and whether it is full then.
    fn part(&self, bytes: &[u8]) -> (usize, bool) {
        let (limit, length) = (self.limits.bytes, bytes.len() as u64);
        let soft = limit - MARGIN_BYTES.min(limit / 2);
        if self.size + length <= soft {
            return (bytes.len(), false);
        }
        let room = limit.saturating_sub(self.size).min(length) as usize;
        let from = (soft.saturating_sub(self.size) as usize).min(room).saturating_sub(1);
        match bytes[from..room].iter().position(|byte| *byte == b'\n') {
            Some(at) => (from + at + 1, true),
            // The line goes on; a line without end is cut.
            None => (room, room < bytes.len() || self.size + room as u64 >= limit),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.lost > 0 {
            let mut text = Text::<128>::default();
            text.push(b"\n[")
                .number(self.lost)
                .push(b" bytes of output were lost: no space was left]\n");
            if self.write_all(text.as_bytes()) == text.as_bytes().len() {
                self.lost = 0;
            }
        }
        let written = self.write_all(bytes);
        self.lost += (bytes.len() - written) as u64;
    }

    /// How much was written. Where there is no room the oldest output makes some.
    fn write_all(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            if self.file.is_none() && self.create().is_err() {
                return done;
            }
            let Some(file) = self.file else { return done };
            match system::write_some(file, &bytes[done..]) {
                Ok(count) => {
                    done += count;
                    self.size += count as u64;
                }
                Err(libc::EINTR) => {}
                Err(libc::ENOSPC | libc::EDQUOT) if self.remove_oldest() => {}
                Err(_) => return done,
            }
        }
        done
    }

    /// Gives the file its first number, and those before it their next; the last is replaced.
    fn rotate(&mut self) -> Result<(), Errno> {
        if let Some(file) = self.file.take() {
            system::close(file);
        }
        self.start += self.size;
        self.size = 0;
        for number in (0..self.limits.files.saturating_sub(1)).rev() {
            let renamed = system::rename(
                self.directory,
                self.numbered(number).name(),
                self.numbered(number + 1).name(),
            );
            if number == 0 && !matches!(renamed, Ok(()) | Err(libc::ENOENT)) {
                // Somebody put something else in its way. It must not grow for ever.
                let _ = system::unlink(self.directory, self.name);
            }
        }
        if self.limits.files == 1 {
            let _ = system::unlink(self.directory, self.name);
        }
        self.create()
    }

    fn create(&mut self) -> Result<(), Errno> {
        let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        let open = || system::open_at(self.directory, self.name, flags, 0o640);
        let file = match open() {
            Err(libc::EEXIST) => {
                system::unlink(self.directory, self.name)?;
                open()
            }
            result => result,
        }?;
        system::change_owner(file, self.limits.uid, self.limits.gid)?;
        if self.start > 0 {
            let mut text = Text::<20>::default();
            text.number(self.start);
            // Where there are no attributes, readers make do with what they see.
            let _ = system::set_attribute(file, LOG_START_ATTRIBUTE, text.as_bytes());
        }
        self.file = Some(file);
        Ok(())
    }

    fn remove_oldest(&self) -> bool {
        (1..self.limits.files)
            .rev()
            .any(|number| system::unlink(self.directory, self.numbered(number).name()).is_ok())
    }

    fn numbered(&self, number: u32) -> Numbered {
        let mut text = Text::default();
        text.push(self.name.to_bytes());
        if number > 0 {
            text.push(b".").number(number.into());
        }
        text.push(b"\0");
        Numbered(text)
    }
}

/// A name such as `stdout.3`.
struct Numbered(Text<32>);

impl Numbered {
    fn name(&self) -> &CStr {
        CStr::from_bytes_with_nul(self.0.as_bytes()).unwrap_or(c"")
    }
}
