//! How far a command is: one line on standard error, which is written over on a terminal.

use super::Context;
use crate::table::words::printable;
use std::io::{self, IsTerminal, Write};

/// That line. What cannot be shown ends no command.
#[derive(Debug)]
pub struct ProgressLine {
    is_terminal: bool,
    shown: bool,
}

impl ProgressLine {
    /// Nothing is shown yet, and nothing ever to whoever reads JSON.
    #[must_use]
    pub fn new(context: &Context) -> Self {
        Self { is_terminal: !context.json && io::stderr().is_terminal(), shown: false }
    }

    /// Whether there is a terminal to show it on.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Shows it, if there is a terminal.
    pub fn show(&mut self, line: &str) {
        if self.is_terminal {
            let mut err = io::stderr().lock();
            let _ = write!(err, "\r\x1b[K{}", printable(line)).and_then(|()| err.flush());
            self.shown = true;
        }
    }

    /// Makes room for what comes next.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
