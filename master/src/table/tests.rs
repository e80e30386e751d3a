use super::words::*;
use super::*;
use engine::time::WallMs;

fn table() -> Table {
    let mut table = Table::new(&["NAME", ">COUNT", "NOTE"]);
    table.row(["a".into(), 7.into(), Cell::new("fine", Tone::Good)]);
    table.row(["größer".into(), 1234.into(), "".into()]);
    table
}

#[test]
fn columns_are_aligned() {
    let plain = table().render(Paint { colour: false });
    assert_eq!(plain, "NAME    COUNT  NOTE\na           7  fine\ngrößer   1234\n");
}

#[test]
fn colours_do_not_shift_columns() {
    let coloured = table().render(Paint { colour: true });
    assert!(coloured.contains("\x1b[32mfine\x1b[0m"));
    let mut stripped = coloured;
    for code in ["\x1b[1m", "\x1b[32m", "\x1b[0m"] {
        stripped = stripped.replace(code, "");
    }
    assert_eq!(stripped, table().render(Paint { colour: false }));
}

#[test]
fn a_host_cannot_write_to_the_terminal() {
    let mut table = Table::new(&["ERROR"]);
    table.row([Cell::new("\x1b[2Jgone\r\nnew line", Tone::Bad)]);
    let text = table.render(Paint { colour: false });
    assert_eq!(text, "ERROR\n\\u{1b}[2Jgone\\r\\nnew line\n");
}

#[test]
fn words_for_times_and_sizes() {
    assert_eq!([59_999, 60_000, 7_200_000, 200_000_000].map(span), ["59s", "1m", "2h", "2d"]);
    assert_eq!(ago(None, WallMs(5)), "never");
    assert_eq!(ago(Some(10_000), WallMs(5)), "0s ago");
    assert_eq!([999, 12_345, 4_560_000].map(duration_us), ["999us", "12.3ms", "4.56s"]);
    assert_eq!(
        [17, 1536, 3 << 30, u64::MAX].map(size),
        ["17B", "1.5KiB", "3.0GiB", "16777216.0TiB"]
    );
}

#[test]
fn utc_knows_leap_years() {
    // `date -u -d @S +'%F %TZ'`
    for (s, text) in [
        (0, "1970-01-01 00:00:00Z"),
        (951_782_400, "2000-02-29 00:00:00Z"),
        (1_709_251_199, "2024-02-29 23:59:59Z"),
        (4_107_542_400, "2100-03-01 00:00:00Z"),
        (1_795_302_309, "2026-11-21 23:05:09Z"),
    ] {
        assert_eq!(utc(s * 1000), text);
    }
}
