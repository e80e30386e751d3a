//! Figures with their spread.

use std::fmt;

/// The same thing measured several times.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures(Vec<f64>);

impl Figures {
    /// Adds a figure.
    pub fn push(&mut self, figure: f64) {
        let at = self.0.partition_point(|known| *known < figure);
        self.0.insert(at, figure);
    }

    /// The figure below which this share, 0 to 1, of all lies; 0 if there is none.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a short list"
    )]
    pub fn quantile(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1) as f64;
        self.0.get((last * share.clamp(0.0, 1.0)).round() as usize).copied().unwrap_or_default()
    }

    /// The one in the middle.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

impl FromIterator<f64> for Figures {
    fn from_iter<I: IntoIterator<Item = f64>>(figures: I) -> Self {
        let mut all = Self::default();
        figures.into_iter().for_each(|figure| all.push(figure));
        all
    }
}

/// The median, and the range, with the digits asked for.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let (least, most) = (self.quantile(0.0), self.quantile(1.0));
        write!(f, "{:.digits$} ({least:.digits$} to {most:.digits$})", self.median())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_range_are_shown() {
        let figures: Figures = [3.0, 1.0, 2.0, 9.0, 4.0].into_iter().collect();
        assert_eq!(format!("{figures:.1}"), "3.0 (1.0 to 9.0)");
        assert_eq!(Figures::default().median(), 0.0);
    }
}
