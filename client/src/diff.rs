//! Differences between texts, as `diff -u` shows them.

use crate::provider::rooted::shown;
use similar::TextDiff;
use std::time::Duration;

/// Longer texts are not compared line by line, in bytes.
pub const TEXT_SIZE_MAX: u64 = 1024 * 1024;
/// Comparing gives up on the smallest difference after this.
const COMPARE_TIMEOUT: Duration = Duration::from_millis(500);

/// The difference between two texts; `None` on a side is a file that does not exist. `None`
/// if one of them is no text, or the two are equal.
#[must_use]
pub fn unified(path: &[u8], before: Option<&[u8]>, after: Option<&[u8]>) -> Option<String> {
    let is_text = |bytes: &[u8]| !bytes.contains(&0);
    let text = |side: Option<&[u8]>| match side {
        None => Some(String::new()),
        Some(bytes) => String::from_utf8(bytes.to_vec()).ok().filter(|t| is_text(t.as_bytes())),
    };
    let (old, new) = (text(before)?, text(after)?);
    let name = |prefix: &str, side: Option<&[u8]>| match side {
        None => "/dev/null".to_owned(),
        Some(_) => format!("{prefix}{}", shown(path)),
    };
    let compared = TextDiff::configure().timeout(COMPARE_TIMEOUT).diff_lines(&old, &new);
    let unified = compared
        .unified_diff()
        .header(&name("a", before), &name("b", after))
        .context_radius(3)
        .to_string();
    (!unified.is_empty()).then_some(unified)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_compared_line_by_line() {
        let diff = unified(b"/etc/motd", Some(b"one\ntwo\n"), Some(b"one\n2\n")).unwrap();
        assert_eq!(diff, "--- a/etc/motd\n+++ b/etc/motd\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n");
    }

    #[test]
    fn a_new_file_is_all_added() {
        let diff = unified(b"/f", None, Some(b"one\n")).unwrap();
        assert!(diff.starts_with("--- /dev/null\n+++ b/f\n") && diff.contains("+one"), "{diff}");
    }

    #[test]
    fn what_is_no_text_has_no_lines() {
        assert_eq!(unified(b"/f", Some(b"a\0b"), Some(b"a")), None);
        assert_eq!(unified(b"/f", Some(b"\xff"), Some(b"a")), None);
        assert_eq!(unified(b"/f", Some(b"a"), Some(b"a")), None);
    }
}
