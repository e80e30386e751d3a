//! Times, sizes and foreign texts as people read them.

pub use engine::logging::{printable, utc};
use engine::time::WallMs;

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
