//! The terminal that the command was started from, as long as another program has it.

use std::io::IsTerminal;

use proffer_proto::v1::TtyInfo;
use proffer_proto::v1::tty_info::WindowSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::exit::Failure;

/// Passes every key on, and nothing is echoed here, until it is dropped. Also a panic gives the terminal back.
#[derive(Debug)]
pub(crate) struct RawTerminal {
    before: Option<Termios>,
}

impl RawTerminal {
    /// Nothing happens where standard input is no terminal.
    pub(crate) fn new() -> Result<Self, Failure> {
        if !std::io::stdin().is_terminal() {
            return Ok(RawTerminal { before: None });
        }
        let before = tcgetattr(std::io::stdin()).map_err(std::io::Error::from)?;
        let mut raw = before.clone();
        raw.make_raw();
        let (kept, hook) = (before.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            restore(&kept);
            hook(panic);
        }));
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(std::io::Error::from)?;
        Ok(RawTerminal { before: Some(before) })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            restore(before);
        }
    }
}

fn restore(before: &Termios) {
    let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
}

/// How big the terminal is; none where there is none.
pub(crate) fn size() -> TtyInfo {
    let found = tcgetwinsize(std::io::stdin()).or_else(|_| tcgetwinsize(std::io::stdout()));
    let size = found.ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
    TtyInfo {
        window_size: size.map(|size| WindowSize {
            rows: size.ws_row.into(),
            columns: size.ws_col.into(),
        }),
    }
}
