//! The terminal on which a block of lines is drawn: how large it is, and what it can show.

use super::view::View;
use master::table::{Paint, Tone};
use std::io::{self, IsTerminal};

/// Columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
}

/// A terminal that can move its cursor up.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// Whether it has colours.
    pub paint: Paint,
    /// How large it is now: windows are resized while a run goes on.
    pub size: fn() -> Size,
}

impl Screen {
    /// Standard error, if it is one: a terminal that calls itself `dumb` is none. `NO_COLOR`
    /// (<https://no-color.org>) takes the colours alone.
    #[must_use]
    pub fn of_stderr() -> Option<Self> {
        let set = |key: &str| std::env::var_os(key).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let paint = Paint { colour: !set("NO_COLOR") };
        (io::stderr().is_terminal() && !dumb).then_some(Self { paint, size: size_of_stderr })
    }

    /// The lines of a view, none wider than this terminal and not more than it has, each with its
    /// end; and how many.
    pub(super) fn block(&self, view: &View<'_>) -> (String, usize) {
        let Size { columns, rows } = (self.size)();
        let lines = view.lines();
        // The cursor stands in a line of its own, and behind a last column it may already be in
        // the next line.
        let shown = lines.len().min(rows.saturating_sub(1));
        let shown = lines.into_iter().take(shown);
        let text: Vec<String> = shown
            .map(|(tone, line)| {
                let line: String = line.chars().take(columns.saturating_sub(1)).collect();
                self.paint.paint(tone, &line) + "\n"
            })
            .collect();
        (text.concat(), text.len())
    }
}

/// A line and how it is shown.
pub(super) type Line = (Tone, String);

/// What the user says (`COLUMNS`), else what the kernel knows, else what terminals had once.
fn size_of_stderr() -> Size {
    let known = window_of_stderr().unwrap_or(Size { columns: 80, rows: 24 });
    let said = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    Size { columns: said.filter(|columns| *columns > 0).unwrap_or(known.columns), ..known }
}

#[allow(unsafe_code)]
fn window_of_stderr() -> Option<Size> {
    let mut window = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel fills the struct that it is given, which outlives the call.
    let done = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &mut window) };
    let size = Size { columns: window.ws_col.into(), rows: window.ws_row.into() };
    (done == 0 && size.columns > 0 && size.rows > 0).then_some(size)
}
