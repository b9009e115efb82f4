//! Feeds a program in a container: what an operator types, the size of the terminal, the end of the input.

use std::io;
use std::sync::Arc;

use proffer_proto::v1::agent::process_io::{control, data};
use proffer_proto::v1::agent::{ProcessIo, process_io};
use tokio::sync::OwnedMutexGuard;
use tonic::Status;

use super::Session;
use super::channel::Channel;
use super::task::TaskInput;
use crate::containerizer::WindowSize;
use crate::spec::window;

/// What a terminal takes for the end of the input, at the beginning of a line.
const END_OF_TRANSMISSION: &[u8] = &[4];

/// The right to feed a session or a task; there is one at a time for each.
#[derive(Debug)]
pub(crate) struct Input {
    reader: Reader,
    channel: OwnedMutexGuard<Option<Channel>>,
}

/// Who reads.
#[derive(Debug)]
pub(super) enum Reader {
    Session(Arc<Session>),
    Task(TaskInput),
}

impl Reader {
    fn is_terminal(&self) -> bool {
        match self {
            Reader::Session(session) => session.terminal,
            Reader::Task(task) => task.terminal,
        }
    }

    async fn ended(&self) {
        match self {
            Reader::Session(session) => {
                let _ = session.wait().await;
            }
            Reader::Task(task) => task.ended().await,
        }
    }

    fn resize(&self, size: WindowSize) -> io::Result<()> {
        match self {
            Reader::Session(session) => session.program.resize(size),
            Reader::Task(task) => task.resize(size),
        }
    }

    /// Nothing more comes.
    fn end(&self) {
        if let Reader::Task(task) = self {
            task.end();
        }
    }
}

impl Session {
    /// Begins to feed the session.
    pub(crate) fn feed(self: Arc<Self>) -> Result<Input, Status> {
        let channel = Arc::clone(&self.input);
        Input::new(Reader::Session(self), channel)
    }
}

impl Input {
    pub(super) fn new(reader: Reader, channel: Arc<tokio::sync::Mutex<Option<Channel>>>) -> Result<Self, Status> {
        let channel = channel.try_lock_owned();
        let channel = channel.map_err(|_| Status::aborted("container_id: somebody else is attached to its input"))?;
        Ok(Input { reader, channel })
    }

    /// Passes one message on. What a program does not read is waited for; a program that reads no more is no error.
    pub(crate) async fn take(&mut self, message: ProcessIo) -> Result<(), Status> {
        match message.r#type() {
            process_io::Type::Data => self.data(message.data.unwrap_or_default()).await,
            process_io::Type::Control => self.control(message.control.unwrap_or_default()),
            process_io::Type::Unknown => Err(Status::invalid_argument("process_io.type: must be DATA or CONTROL")),
        }
    }

    async fn data(&mut self, data: process_io::Data) -> Result<(), Status> {
        if data.r#type() != data::Type::Stdin {
            return Err(Status::invalid_argument("process_io.data.type: must be STDIN"));
        }
        let bytes = data.data.unwrap_or_default();
        let Some(channel) = self.channel.as_ref() else {
            return Ok(());
        };
        let (bytes, last) = match (bytes.is_empty(), self.reader.is_terminal()) {
            (false, _) => (&bytes[..], false),
            (true, true) => (END_OF_TRANSMISSION, false),
            (true, false) => (&bytes[..], true),
        };
        let written = tokio::select! {
            written = channel.write_all(bytes) => written,
            () = self.reader.ended() => Ok(()),
        };
        if last || written.is_err() {
            *self.channel = None;
            self.reader.end();
        }
        Ok(())
    }

    fn control(&self, control: process_io::Control) -> Result<(), Status> {
        match control.r#type() {
            control::Type::Heartbeat => Ok(()),
            control::Type::TtyInfo => {
                let size = control.tty_info.and_then(|info| info.window_size);
                let size = size
                    .ok_or_else(|| Status::invalid_argument("process_io.control.tty_info.window_size: must be set"))?;
                let resized = self.reader.resize(window(&size));
                resized.map_err(|error| Status::internal(format!("resize the terminal: {error}")))
            }
            control::Type::Unknown => Err(Status::invalid_argument(
                "process_io.control.type: must be TTY_INFO or HEARTBEAT",
            )),
        }
    }
}
