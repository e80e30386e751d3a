//! Tables for people: aligned columns, colours on terminals only.

pub mod words;

use std::fmt::Write;
use std::io::IsTerminal;

/// Whether colours are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    /// Whether to write escape sequences.
    pub colour: bool,
}

impl Paint {
    /// As standard output wants it: colours on a terminal, unless `NO_COLOR` is set
    /// (<https://no-color.org>) or the terminal is `dumb`.
    #[must_use]
    pub fn for_stdout() -> Self {
        let set = |key: &str| std::env::var_os(key).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        Self { colour: std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb }
    }

    /// A text in the colour of its tone.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => "",
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Head => "1",
        };
        if self.colour && !code.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// What a text means to its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Wrong.
    Bad,
    /// Of less interest.
    Dim,
    /// A heading.
    Head,
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell of this tone. Control characters are escaped: a text from a host must not move
    /// the cursor of who reads it.
    #[must_use]
    pub fn new(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { text: words::printable(text.as_ref()), tone }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text.to_string(), Tone::Plain)
    }
}

/// A table: a heading and rows of as many cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows. A heading that begins with `>` aligns its column to the right.
    #[must_use]
    pub fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as text, each line ended.
    #[must_use]
    pub fn render(&self, paint: Paint) -> String {
        let head: Vec<Cell> =
            self.head.iter().map(|h| Cell::new(h.trim_start_matches('>'), Tone::Head)).collect();
        let lines = || std::iter::once(&head).chain(&self.rows);
        let width_of = |column: usize| {
            lines().filter_map(|l| l.get(column)).map(|c| c.text.chars().count()).max()
        };
        let widths: Vec<usize> =
            (0..self.head.len()).map(|column| width_of(column).unwrap_or(0)).collect();
        let mut out = String::new();
        for line in lines() {
            let mut text = String::new();
            for ((cell, width), head) in line.iter().zip(&widths).zip(&self.head) {
                let gap = width - cell.text.chars().count();
                let painted = paint.paint(cell.tone, &cell.text);
                let _ = if head.starts_with('>') {
                    write!(text, "{:gap$}{painted}  ", "")
                } else {
                    write!(text, "{painted}{:gap$}  ", "")
                };
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests;
