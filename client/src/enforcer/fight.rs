//! Resources that something else keeps changing back. Each is put right at once, then after pauses
//! that double for as long as it is changed within them: a burst of changes costs a few runs, and
//! what does not end is told of as a fight.

use engine::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A fight has taken so many heals at least: what is changed rarely is drift.
const HEALS_MIN: u32 = 10;

/// How long a resource is left alone, and when it is fought over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tempo {
    /// The pause after the first heal.
    pub(super) shortest: Duration,
    /// The longest pause, and the quiet after which all is over.
    pub(super) longest: Duration,
    /// What has to be put right for so long is fought over; a burst of writes is shorter.
    pub(super) patience: Duration,
}

impl Default for Tempo {
    fn default() -> Self {
        Self {
            shortest: Duration::from_millis(10),
            longest: Duration::from_secs(60),
            patience: Duration::from_secs(10),
        }
    }
}

#[derive(Debug)]
struct Fight {
    since: Instant,
    heals: u32,
    pause: Duration,
    /// It is left alone until then.
    until: Instant,
    /// What is told of it, once it is a fight.
    told: Option<String>,
}

/// By resource.
#[derive(Debug, Default)]
pub(super) struct Fights {
    tempo: Tempo,
    all: BTreeMap<u32, Fight>,
}

impl Fights {
    pub(super) fn new(tempo: Tempo) -> Self {
        Self { tempo, all: BTreeMap::new() }
    }

    /// Forgets all: what is enforced is another revision.
    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    /// After drift a resource was put right, or could not be; `id` is its name for people. What is
    /// to be told, if it is a fight from now on.
    pub(super) fn handle_heal(&mut self, resource: u32, id: &[u8], now: Instant) -> Option<&str> {
        let Tempo { shortest, longest, patience } = self.tempo;
        let fresh =
            || Fight { since: now, heals: 0, pause: Duration::ZERO, until: now, told: None };
        let fight = self.all.entry(resource).or_insert_with(fresh);
        if fight.until + longest <= now {
            *fight = fresh();
        }
        fight.heals = fight.heals.saturating_add(1);
        // What leaves it alone for longer than the pause need not wait for longer.
        if now <= fight.until + fight.pause {
            fight.pause = (fight.pause * 2).clamp(shortest, longest);
        }
        fight.until = now + fight.pause;
        let is_fight = fight.heals > HEALS_MIN && now.since(fight.since) >= patience;
        if !is_fight || fight.told.is_some() {
            return None;
        }
        fight.told = Some(format!(
            "something fights over {}: it is put right after pauses that grow up to {} s, until it is left alone for as long; find out what else changes it",
            String::from_utf8_lossy(id),
            longest.as_secs()
        ));
        fight.told.as_deref()
    }

    /// Those of some resources that may be looked at now, and when the next of the others may.
    pub(super) fn due(
        &self,
        resources: &BTreeSet<u32>,
        now: Instant,
    ) -> (BTreeSet<u32>, Option<Instant>) {
        let until = |r: &u32| self.all.get(r).map(|f| f.until).filter(|until| *until > now);
        let due = resources.iter().copied().filter(|r| until(r).is_none()).collect();
        (due, resources.iter().filter_map(until).min())
    }

    /// The resources that were fought over and are not any more: to be looked at once more, so
    /// that it is told.
    pub(super) fn poll_over(&mut self, now: Instant) -> BTreeSet<u32> {
        let longest = self.tempo.longest;
        let over = self.all.extract_if(.., |_, fight| fight.until + longest <= now);
        over.filter(|(_, fight)| fight.told.is_some()).map(|(resource, _)| resource).collect()
    }

    /// When to ask for those again.
    pub(super) fn next_over(&self) -> Option<Instant> {
        let told = self.all.values().filter(|fight| fight.told.is_some());
        told.map(|fight| fight.until + self.tempo.longest).min()
    }

    /// The resources that are fought over.
    pub(super) fn resources(&self) -> impl Iterator<Item = u32> {
        self.all.iter().filter(|(_, fight)| fight.told.is_some()).map(|(resource, _)| *resource)
    }

    /// What was told of the first of them.
    pub(super) fn first_told(&self) -> Option<&str> {
        self.all.values().find_map(|fight| fight.told.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(60);

    fn secs(secs: u64) -> Instant {
        Instant(0) + Duration::from_secs(secs)
    }

    /// Something changes resource 1 back within no time: when it is healed, until a time, and when
    /// it is told.
    fn fight(fights: &mut Fights, until: Instant) -> (Vec<Instant>, Vec<Instant>) {
        let (mut heals, mut told, mut now) = (Vec::new(), Vec::new(), Instant(0));
        while now < until {
            heals.push(now);
            told.extend(fights.handle_heal(1, b"file /f", now).map(|_| now));
            let (due, later) = fights.due(&[1, 2].into(), now);
            assert_eq!(due, [2].into(), "the other one is not slowed down");
            now = later.unwrap();
            assert_eq!(fights.due(&[1, 2].into(), now), ([1, 2].into(), None));
        }
        (heals, told)
    }

    #[test]
    fn a_fight_is_slowed_down_for_itself_alone_and_forgotten_when_it_is_over() {
        let mut fights = Fights::default();
        let (heals, told) = fight(&mut fights, secs(3600));
        let ms: Vec<u64> = heals.iter().map(|at| at.since(Instant(0)).as_millis() as u64).collect();
        assert_eq!(ms[..5], [0, 10, 30, 70, 150]);
        assert!((60..80).contains(&heals.len()), "{heals:?}");
        assert_eq!(told.len(), 1);
        assert!((secs(10)..secs(11)).contains(&told[0]), "{told:?}");
        assert_eq!(fights.resources().collect::<Vec<_>>(), [1]);
        let why = fights.first_told().unwrap();
        assert!(why.starts_with("something fights over file /f: "), "{why}");
        // The pause after the last heal, and a quiet minute.
        let over = *heals.last().unwrap() + LONGEST + LONGEST;
        assert_eq!(fights.next_over(), Some(over));
        assert!(fights.poll_over(*heals.last().unwrap() + LONGEST).is_empty());
        assert_eq!(fights.poll_over(over), [1].into());
        assert_eq!((fights.next_over(), fights.first_told()), (None, None));
        assert_eq!(fights.handle_heal(1, b"file /f", over), None);
        assert_eq!(fights.due(&[1].into(), over + Duration::from_millis(10)), ([1].into(), None));
    }

    #[test]
    fn a_burst_of_writes_is_a_few_heals_and_no_fight() {
        let mut fights = Fights::default();
        let (heals, told) = fight(&mut fights, secs(4));
        assert!(heals.len() <= 10 && told.is_empty(), "{heals:?} {told:?}");
        assert_eq!((fights.next_over(), fights.first_told()), (None, None));
        assert!(fights.poll_over(secs(200)).is_empty(), "nobody was told");
        assert!(fights.all.is_empty());
    }

    #[test]
    fn what_changes_now_and_then_is_told_and_waits_no_longer_for_it() {
        let mut fights = Fights::default();
        let mut told = Vec::new();
        for n in 0..100 {
            let now = secs(20 * n);
            told.extend(fights.handle_heal(1, b"file /f", now).map(|_| n));
            let (_, later) = fights.due(&[1].into(), now);
            assert!(later.unwrap().since(now) <= Duration::from_millis(20));
        }
        assert_eq!(told, [10]);
    }
}
