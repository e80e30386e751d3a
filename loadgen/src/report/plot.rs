//! Plots as SVG: lines over a linear or a logarithmic axis, without a script.

use super::junit::escape;
use std::fmt::Write;

/// About as wide as it is shown, so that its text is about as large as the page's.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 38.0;
/// Classes of the page's style: so many colours, and as many patterns of dashes.
const STYLES: usize = 6;

/// How the line of a series is drawn. Each of the first has a pattern of its own beside its colour,
/// so that they are told apart in grey too; those behind them have the colours again, each with the
/// pattern of the next one, and so on for 36 series.
fn style(series: usize) -> String {
    format!("s{} d{}", series % STYLES, (series + series / STYLES) % STYLES)
}

/// A line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

/// How the values of the vertical axis are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds, as `1.5 ms`.
    Duration,
    /// Bytes, as `1.5 MiB`.
    Bytes,
    /// A percentage.
    Percent,
    /// A number.
    Count,
}

impl Unit {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "values are shown with two digits and are never negative"
    )]
    fn show(self, value: f64) -> String {
        match self {
            Self::Duration => master::table::words::duration_us(value as u64),
            Self::Bytes => master::table::words::size(value as u64),
            Self::Percent => format!("{value:.0} %"),
            Self::Count if value >= 1e6 => format!("{:.1} M", value / 1e6),
            Self::Count if value >= 1e4 => format!("{:.0} k", value / 1e3),
            Self::Count => format!("{value:.0}"),
        }
    }
}

/// A plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// What is seen.
    pub title: String,
    /// What the horizontal axis is, and the places that are marked on it.
    pub x: (String, Vec<(f64, String)>),
    /// The vertical axis.
    pub unit: Unit,
    /// Whether the vertical axis is logarithmic.
    pub log: bool,
    /// The lines.
    pub series: Vec<Series>,
}

/// Marks at whole seconds, about six of them.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
pub fn seconds(count: u64) -> Vec<(f64, String)> {
    let steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600];
    let step = steps.into_iter().find(|step| count / step <= 8).unwrap_or(7200);
    (0..=count)
        .step_by(usize::try_from(step).unwrap_or(1))
        .map(|s| (s as f64, format!("{s} s")))
        .collect()
}

impl Plot {
    /// Whether there is anything to see.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.iter().all(|series| series.points.len() < 2)
    }

    fn marks(&self, top: f64) -> Vec<f64> {
        if self.log {
            let decades = top.log10().ceil();
            return std::iter::successors(Some(0.0), |n| Some(n + 1.0))
                .take_while(|n| *n <= decades)
                .map(|n: f64| 10f64.powf(n))
                .collect();
        }
        let rough = top / 4.0;
        // Bytes are round in KiB, MiB, …
        let unit = match self.unit {
            Unit::Bytes => 1024f64.powf(rough.log(1024.0).floor().max(0.0)),
            Unit::Duration | Unit::Percent | Unit::Count => 1.0,
        };
        let magnitude = unit * 10f64.powf((rough / unit).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * magnitude).find(|s| *s >= rough);
        let step = step.unwrap_or(1.0);
        std::iter::successors(Some(0.0), |n| Some(n + step))
            .take_while(|n| *n <= top + step * 0.999)
            .collect()
    }

    /// The plot as an SVG element.
    #[must_use]
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let most = points().map(|(_, y)| *y).fold(1.0, f64::max);
        let marks = self.marks(most);
        let top = marks.last().copied().unwrap_or(1.0).max(most);
        let (from, to) =
            points().fold((f64::MAX, f64::MIN), |(a, b), (x, _)| (a.min(*x), b.max(*x)));
        let across = (to - from).max(f64::EPSILON);
        let x = |value: f64| LEFT + (value - from) / across * (WIDTH - LEFT - RIGHT);
        let part = |value: f64| match self.log {
            true => value.max(1.0).log10() / top.log10().max(f64::EPSILON),
            false => value / top,
        };
        let y =
            |value: f64| HEIGHT - BOTTOM - part(value).clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM);

        let mut out = String::new();
        let _ = write!(
            out,
            "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.title),
            escape(&self.title)
        );
        for mark in &marks {
            let at = y(*mark);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"y\" x=\"{:.0}\" y=\"{:.1}\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                at + 4.0,
                self.unit.show(*mark)
            );
        }
        for (place, label) in self.x.1.iter().filter(|(place, _)| *place >= from && *place <= to) {
            let at = x(*place);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.0}\"/><text class=\"x\" x=\"{at:.1}\" y=\"{:.0}\">{}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 16.0,
                escape(label)
            );
        }
        let _ = write!(
            out,
            "<text class=\"x\" x=\"{:.0}\" y=\"{:.0}\">{}</text>",
            WIDTH / 2.0,
            HEIGHT - 3.0,
            escape(&self.x.0)
        );
        for (i, series) in self.series.iter().enumerate() {
            let line: Vec<_> =
                series.points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
            let _ = write!(out, "<polyline class=\"{}\" points=\"{}\"/>", style(i), line.join(" "));
        }
        out.push_str("</svg><p class=\"legend\">");
        for (i, series) in self.series.iter().enumerate() {
            let last = series.points.last().map_or_else(String::new, |(_, y)| self.unit.show(*y));
            let _ = write!(
                out,
                "<svg class=\"key\" viewBox=\"0 0 40 4\"><polyline class=\"{}\" points=\"0,2 40,2\"/></svg><span class=\"s{}\">{}</span> <small>{last}</small> ",
                style(i),
                i % STYLES,
                escape(&series.name)
            );
        }
        out.push_str("</p></figure>\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(log: bool) -> Plot {
        Plot {
            title: "a < b".into(),
            x: ("time".into(), seconds(10)),
            unit: Unit::Duration,
            log,
            series: vec![Series {
                name: "p99".into(),
                points: vec![(0.0, 10.0), (10.0, 100_000.0)],
            }],
        }
    }

    #[test]
    fn every_point_lies_within_the_plot() {
        for log in [false, true] {
            let svg = plot(log).svg();
            let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
            let found: Vec<f64> = points.split([' ', ',']).map(|n| n.parse().unwrap()).collect();
            assert_eq!(found.len(), 4);
            assert!((found[0] - LEFT).abs() < 0.1 && (found[2] - (WIDTH - RIGHT)).abs() < 0.1);
            assert!(found[1] <= HEIGHT - BOTTOM && found[3] >= TOP, "{found:?}");
            assert!(found[3] < found[1], "more is higher: {found:?}");
            assert!(svg.contains("a &lt; b"));
        }
    }

    #[test]
    fn lines_are_told_apart_and_the_legend_draws_them_alike() {
        let one = plot(false).series.remove(0);
        let svg = Plot { series: vec![one; 13], ..plot(false) }.svg();
        let classes =
            svg.split("<polyline class=\"").skip(1).map(|at| at.split('"').next().unwrap());
        let classes: Vec<&str> = classes.collect();
        let (lines, legend) = classes.split_at(13);
        assert_eq!(lines, legend);
        assert_eq!(lines.iter().collect::<std::collections::BTreeSet<_>>().len(), 13, "{lines:?}");
        // All of them have their line in the page's style.
        let css = include_str!("page.css");
        for class in lines.iter().flat_map(|both| both.split(' ')).filter(|class| *class != "d0") {
            assert!(css.contains(&format!(".{class} {{")), "{class}");
        }
    }

    #[test]
    fn marks_are_round_and_few() {
        for top in [1.0, 7.0, 42.0, 99_999.0, 1e9] {
            let marks = plot(false).marks(top);
            assert!((3..=6).contains(&marks.len()), "{top}: {marks:?}");
            assert!(*marks.last().unwrap() >= top * 0.999);
        }
        let bytes = Plot { unit: Unit::Bytes, ..plot(false) };
        let mib = f64::from(1 << 20);
        assert_eq!(bytes.marks(14.9 * mib), [0.0, 5.0 * mib, 10.0 * mib, 15.0 * mib]);
        assert_eq!(plot(true).marks(5000.0), [1.0, 10.0, 100.0, 1000.0, 10_000.0]);
        assert!(seconds(600).len() <= 9 && seconds(3).len() == 4);
    }
}
