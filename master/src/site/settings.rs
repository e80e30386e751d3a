//! `site.toml`.

use super::mistake::{Mistakes, Place, did_you_mean};
use super::policy::quoted;
use engine::config::parse_duration;
use std::sync::Arc;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

const KEYS: &[&str] = &["site", "assignment_lifetime"];
const LIFETIME_DEFAULT: Duration = Duration::from_secs(30 * 86_400);
/// A lifetime under this would run out before clients have polled.
const LIFETIME_MIN: Duration = Duration::from_secs(60);
/// Longer ones protect from nothing.
const LIFETIME_MAX: Duration = Duration::from_secs(3660 * 86_400);

/// What holds for the whole site.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its id: one counter of revisions belongs to it.
    pub site: String,
    /// How long an assignment may be accepted after it was published.
    pub assignment_lifetime: Duration,
}

impl Settings {
    /// Reads the file's text.
    pub fn read(file: &Arc<str>, text: &str, mistakes: &mut Mistakes) -> Self {
        let line_of = |at: usize| {
            text.as_bytes()[..at.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1
        };
        let place = |at: usize| Place::new(file, line_of(at));
        let mut settings = Self { site: String::new(), assignment_lifetime: LIFETIME_DEFAULT };
        let table = match DeTable::parse(text) {
            Ok(table) => table.into_inner(),
            Err(e) => {
                let at = e.span().map_or(0, |s| s.start);
                mistakes.add(&place(at), format!("this is no TOML: {}", e.message()));
                return settings;
            }
        };
        for (key, value) in &table {
            let at = place(value.span().start);
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("site", DeValue::String(id)) if is_site_id(id) => settings.site = id.to_string(),
                ("site", _) => {
                    mistakes
                        .add(&at, "`site` is 1 to 64 letters, digits, `-`, `_` or `.` in quotes");
                }
                ("assignment_lifetime", value) => {
                    let lifetime = value.as_str().and_then(|text| parse_duration(text).ok());
                    match lifetime.filter(|l| (LIFETIME_MIN..=LIFETIME_MAX).contains(l)) {
                        Some(lifetime) => settings.assignment_lifetime = lifetime,
                        None => mistakes.add(&at, "`assignment_lifetime` is a duration in quotes between \"1m\" and \"3660d\", like \"30d\""),
                    }
                }
                (other, _) => {
                    let near = did_you_mean(other, KEYS.iter().copied());
                    let has = quoted(KEYS);
                    let at = place(key.span().start);
                    mistakes.add(
                        &at,
                        format!("`{other}` is no key of site.toml, which has {has}{near}"),
                    );
                }
            }
        }
        if !table.keys().any(|k| k.get_ref() == "site") {
            mistakes.add(
                &Place::new(file, 1),
                "`site` is missing: write site = \"a-name-of-your-own\"",
            );
        }
        settings
    }
}

/// Whether a text can be the id of a site.
pub fn is_site_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}
