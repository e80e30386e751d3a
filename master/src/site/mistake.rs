//! Mistakes in a site: where, what, and what to write instead.

use engine::config::nearest;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A line of a file of the site.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file's path in the site.
    pub file: Arc<str>,
    /// The line, from 1 on.
    pub line: usize,
}

impl Place {
    /// A line of a file.
    pub fn new(file: &Arc<str>, line: usize) -> Self {
        Self { file: file.clone(), line }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// What is wrong, and what to write instead.
    pub message: String,
    /// The line of the inventory for which it showed, if it depends on that.
    pub context: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        self.context.as_ref().map_or(Ok(()), |context| write!(f, " (for {context})"))
    }
}

/// Mistakes by place and message: what shows for many hosts is told once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mistakes {
    found: BTreeMap<(Place, String), Option<String>>,
    context: Option<String>,
}

/// More than this are counted, not printed.
const SHOWN_MAX: usize = 100;

impl Mistakes {
    /// Adds one.
    pub(super) fn add(&mut self, place: &Place, message: impl Into<String>) {
        self.found.entry((place.clone(), message.into())).or_insert_with(|| self.context.clone());
    }

    /// Says for which line of the inventory the following ones show.
    pub(super) fn enter(&mut self, context: Option<String>) {
        self.context = context;
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All of them, by file and line.
    pub fn iter(&self) -> impl Iterator<Item = Mistake> {
        self.found.iter().map(|((place, message), context)| Mistake {
            place: place.clone(),
            message: message.clone(),
            context: context.clone(),
        })
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in self.iter().take(SHOWN_MAX) {
            writeln!(f, "{mistake}")?;
        }
        if self.len() > SHOWN_MAX {
            writeln!(f, "… and {} more", self.len() - SHOWN_MAX)?;
        }
        let s = if self.len() == 1 { "" } else { "s" };
        write!(f, "{} mistake{s} in the site: nothing was published", self.len())
    }
}

/// `; did you mean "…"?`, or nothing if no known word is near.
pub(super) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}
