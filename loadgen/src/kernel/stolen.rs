//! What the host of a virtual machine took of its processors.

use super::{line, text};
use serde::{Deserialize, Serialize};

/// Less than this share is the rule on a shared host, and moves no figure.
const WORTH_TELLING: f64 = 0.03;

/// CPU time of all processors since the machine's start, in clock ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stolen {
    /// The host gave it to others, although something here was ready to run.
    pub taken: u64,
    /// Something was ready to run, whether it did or not.
    pub wanted: u64,
}

impl Stolen {
    /// As it stands.
    #[must_use]
    pub fn read() -> Self {
        Self::of(&text("/proc/stat"))
    }

    fn of(stat: &str) -> Self {
        let ticks = line(stat, "cpu ").unwrap_or_default().split_whitespace();
        let ticks: Vec<u64> = ticks.map(|word| word.parse().unwrap_or(0)).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user and nice.
        let [user, nice, system, _, _, irq, softirq, taken, ..] = ticks[..] else {
            return Self::default();
        };
        Self { taken, wanted: user + nice + system + irq + softirq + taken }
    }

    /// Which part of what was wanted since an earlier look the host took, if it is worth telling.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share of two digits")]
    pub fn share_since(&self, earlier: &Self) -> Option<f64> {
        let since = |of: fn(&Self) -> u64| of(self).saturating_sub(of(earlier)) as f64;
        let share = since(|s| s.taken) / since(|s| s.wanted).max(1.0);
        (share >= WORTH_TELLING).then_some(share)
    }

    /// That, in words.
    #[must_use]
    pub fn told(share: f64) -> String {
        format!(
            "the host of this virtual machine took {:.0} % of the processor time that was wanted here",
            share * 100.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_took_is_a_share_of_what_was_wanted() {
        let before = Stolen::of("cpu  100 0 50 9000 5 0 10 40 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n");
        assert_eq!(before, Stolen { taken: 40, wanted: 200 });
        let after = Stolen::of("cpu  160 10 70 9900 5 0 10 50 0 0\n");
        assert_eq!(after.share_since(&before), Some(0.1));
        assert_eq!(before.share_since(&before), None);
        let quiet = Stolen { wanted: before.wanted + 1000, ..before };
        assert_eq!(quiet.share_since(&before), None);
        assert_eq!((Stolen::of(""), Stolen::of("cpu  1 2\n")), Default::default());
        assert!(Stolen::read().wanted > 0);
        assert!(Stolen::told(0.1).contains("took 10 %"));
    }
}
