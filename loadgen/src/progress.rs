//! How far a run has come, while it goes on: a block of lines that is drawn in its place again and
//! again on a terminal, a line every two seconds elsewhere.

mod terminal;
mod view;

pub use terminal::{Screen, Size};
pub use view::{Stage, View};

use engine::time::Instant;
use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

const ON_TERMINAL: Duration = Duration::from_millis(200);
const ELSEWHERE: Duration = Duration::from_secs(2);

/// Where progress goes.
pub struct Progress {
    out: Box<dyn Write>,
    screen: Option<Screen>,
    next: Instant,
    /// Lines of the block right above the cursor.
    drawn: usize,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("screen", &self.screen).finish_non_exhaustive()
    }
}

impl Progress {
    /// On standard error.
    #[must_use]
    pub fn to_stderr() -> Self {
        Self::new(Box::new(io::stderr()), Screen::of_stderr())
    }

    /// Into `out`, which is a terminal if it has a `screen`.
    #[must_use]
    pub fn new(out: Box<dyn Write>, screen: Option<Screen>) -> Self {
        Self { out, screen, next: Instant(0), drawn: 0 }
    }

    /// Shows where the run stands, if it is time to.
    pub fn update(&mut self, now: Instant, view: &View<'_>) {
        if now < self.next {
            return;
        }
        self.next = now + if self.screen.is_some() { ON_TERMINAL } else { ELSEWHERE };
        let (text, drawn) = match &self.screen {
            Some(screen) => screen.block(view),
            None => (format!("{}\n", view.line()), 0),
        };
        let above = self.above();
        self.write(&format!("{above}{text}"));
        self.drawn = drawn;
    }

    /// Says something that stays to be read, above what is drawn again.
    pub fn say(&mut self, text: &str) {
        let above = self.above();
        self.write(&format!("{above}{text}\n"));
        self.drawn = 0;
        // What was drawn is gone until the next time.
        self.next = Instant(0);
    }

    /// Leaves the block as it is: the cursor stands below it at any time, so that whatever ends
    /// the program leaves the terminal in order.
    pub fn close(&mut self) {
        self.drawn = 0;
    }

    /// Takes away what was drawn.
    fn above(&self) -> String {
        match self.drawn {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r\x1b[J"),
        }
    }

    // Nobody can be told that the terminal is gone; the run goes on without.
    fn write(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes());
        let _ = self.out.flush();
    }
}

#[cfg(test)]
mod tests;
