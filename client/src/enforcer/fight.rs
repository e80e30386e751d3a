//! Resources that something else keeps changing back: put right at once at first, then after
//! pauses that grow for as long as it goes on.

use engine::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// So many times in a row a resource is put right at once.
pub(super) const HEALS_AT_ONCE: u32 = 10;
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// The longest pause, and the quiet after which a fight is over.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Fight {
    heals: u32,
    /// It is left alone until then.
    until: Instant,
}

/// By resource.
#[derive(Debug, Default)]
pub(super) struct Fights(BTreeMap<u32, Fight>);

impl Fights {
    /// After drift a resource was put right, or could not be. Whether it is a fight from now on.
    pub(super) fn handle_heal(&mut self, resource: u32, now: Instant) -> bool {
        let fight = self.0.entry(resource).or_insert(Fight { heals: 0, until: now });
        if fight.until + PAUSE_MAX < now {
            fight.heals = 0;
        }
        fight.heals = fight.heals.saturating_add(1);
        let paced = fight.heals.saturating_sub(HEALS_AT_ONCE);
        let pause = match paced {
            0 => Duration::ZERO,
            n => PAUSE_MIN.saturating_mul(1 << (n - 1).min(20)).min(PAUSE_MAX),
        };
        fight.until = now + pause;
        paced == 1
    }

    /// Those of some resources that may be looked at now, and when the next of the others may.
    pub(super) fn due(
        &self,
        resources: &BTreeSet<u32>,
        now: Instant,
    ) -> (BTreeSet<u32>, Option<Instant>) {
        let until = |r: &u32| self.0.get(r).map(|f| f.until).filter(|until| *until > now);
        let due = resources.iter().copied().filter(|r| until(r).is_none()).collect();
        (due, resources.iter().filter_map(until).min())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fight_is_slowed_down_for_itself_alone_and_forgotten_when_it_is_over() {
        let (mut fights, one, both) =
            (Fights::default(), BTreeSet::from([1]), BTreeSet::from([1, 2]));
        let mut now = Instant(0);
        for _ in 0..HEALS_AT_ONCE {
            assert!(!fights.handle_heal(1, now));
            assert_eq!(fights.due(&one, now), (one.clone(), None), "at once");
        }
        // Something that changes it back within no time has it put right some 20 times in the
        // first two minutes, and then once a minute.
        let mut told = 0;
        let mut heals = 0;
        while now < Instant(0) + Duration::from_secs(3600) {
            told += u32::from(fights.handle_heal(1, now));
            heals += 1;
            let (due, later) = fights.due(&both, now);
            assert_eq!(due, BTreeSet::from([2]), "the other one is not slowed down");
            now = later.unwrap();
            assert_eq!(fights.due(&both, now), (both.clone(), None));
        }
        assert_eq!(told, 1);
        assert!((60..75).contains(&heals), "{heals}");
        now = now + PAUSE_MAX + Duration::from_secs(1);
        assert!(!fights.handle_heal(1, now));
        assert_eq!(fights.due(&one, now), (one, None));
    }
}
