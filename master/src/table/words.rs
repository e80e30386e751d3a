//! Times, sizes and foreign texts as people read them.

use engine::time::WallMs;

/// A text without control characters: they are escaped, so that nothing that a host sent can
/// move the cursor or change a colour.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// A whole number of the largest unit that is not zero: `45s`, `3m`, `7h`, `12d`.
#[must_use]
pub fn span(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m", s / 60),
        3600..86_400 => format!("{}h", s / 3600),
        _ => format!("{}d", s / 86_400),
    }
}

/// How long ago something was, or `never`.
#[must_use]
pub fn ago(then_ms: Option<u64>, now: WallMs) -> String {
    then_ms.map_or_else(|| "never".to_owned(), |then| span(now.0.saturating_sub(then)) + " ago")
}

/// So many things of a kind.
#[must_use]
pub fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A duration in microseconds: `850us`, `12.3ms`, `4.56s`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn duration_us(us: u64) -> String {
    match us {
        0..1000 => format!("{us}us"),
        1000..1_000_000 => format!("{:.1}ms", us as f64 / 1e3),
        _ => format!("{:.2}s", us as f64 / 1e6),
    }
}

/// A number of bytes: `17B`, `1.5KiB`, `3.0GiB`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut scaled = bytes as f64 / 1024.0;
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < units.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1}{}", units[unit])
}

/// A point in time in UTC: `2026-11-21 23:05:09Z`.
#[must_use]
pub fn utc(ms: u64) -> String {
    let s = ms / 1000;
    // Civil date from days since 1970, with years that begin in March so that the leap day is
    // the last (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let z = s / 86_400 + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (h, m, s) = (s / 3600 % 24, s / 60 % 60, s % 60);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}Z")
}
