//! Resources that something else keeps changing back. Each is put right at once, then after pauses
//! that double for as long as it is changed within them: a burst of changes costs a few runs, and
//! what does not end is told of as a fight.

use engine::time::Instant;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// So many heals in a row that take long enough are a fight; and what needs more of them is left
/// alone for longer each time.
const HEALS_MIN: usize = 10;
/// What takes long to look at is left alone for so many times as long, within this bound: what is
/// busy below a large tree costs a tenth of a processor, and drift there waits so long at most.
const REST_FACTOR: u32 = 9;
const REST_MAX: Duration = Duration::from_secs(2);

/// So many of those that are fought over are named.
const NAMED_MAX: usize = 3;

/// How long a resource is left alone, and when it is fought over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tempo {
    /// The pause after the first heal.
    pub(super) shortest: Duration,
    /// The longest pause.
    pub(super) longest: Duration,
    /// What has to be put right again and again for so long is fought over; a burst of writes is
    /// shorter.
    pub(super) patience: Duration,
    /// What has stayed as it was put for so long after the last pause is not fought over any more:
    /// longer than the rhythm of what changes it each minute.
    pub(super) quiet: Duration,
}

impl Default for Tempo {
    fn default() -> Self {
        Self {
            shortest: Duration::from_millis(10),
            longest: Duration::from_secs(60),
            patience: Duration::from_secs(10),
            quiet: Duration::from_secs(120),
        }
    }
}

/// One resource that was looked at.
#[derive(Debug)]
struct Looked {
    /// How often it was put right, or could not be.
    attempts: usize,
    /// When it was put right the last few times: [`HEALS_MIN`] of them, and the one before.
    heals: VecDeque<Instant>,
    pause: Duration,
    /// It is left alone until then, since it was put right.
    until: Instant,
    /// It is left alone until then, since it took long to look at.
    rests_until: Instant,
    /// What it is for people, once it is known to be fought over.
    fought_over: Option<Box<str>>,
}

impl Looked {
    fn new(now: Instant) -> Self {
        Self {
            attempts: 0,
            heals: VecDeque::new(),
            pause: Duration::ZERO,
            until: now,
            rests_until: now,
            fought_over: None,
        }
    }
}

/// What was put right lately, or took long to look at, by resource, and what of it is fought over.
#[derive(Debug, Default)]
pub(super) struct Fights {
    tempo: Tempo,
    all: BTreeMap<u32, Looked>,
}

impl Fights {
    pub(super) fn new(tempo: Tempo) -> Self {
        Self { tempo, all: BTreeMap::new() }
    }

    /// Forgets all: what is enforced is another revision.
    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    /// After drift a resource was put right, or could not be; `id` is its name for people. Whether
    /// it is fought over from now on.
    pub(super) fn handle_heal(
        &mut self,
        resource: u32,
        id: &[u8],
        is_right: bool,
        now: Instant,
    ) -> bool {
        let Tempo { shortest, longest, patience, .. } = self.tempo;
        let one = self.all.entry(resource).or_insert_with(|| Looked::new(now));
        one.attempts = one.attempts.saturating_add(1);
        if is_right {
            one.heals.push_back(now);
        }
        if one.heals.len() > HEALS_MIN + 1 {
            one.heals.pop_front();
        }
        let is_repeated = one.attempts > HEALS_MIN;
        // At first what leaves it alone for longer than the pause need not wait for longer.
        if is_repeated || now <= one.until + one.pause {
            one.pause = (one.pause * 2).clamp(shortest, longest);
        }
        one.until = now + one.pause;
        let span = one.heals.front().map_or(Duration::ZERO, |first| now.since(*first));
        let is_fight = is_right && one.heals.len() > HEALS_MIN && span >= patience;
        let is_news = is_fight && one.fought_over.is_none();
        if is_news {
            one.fought_over = Some(String::from_utf8_lossy(id).into());
        }
        is_news
    }

    /// Resources were looked at, which took so long each.
    pub(super) fn handle_look(&mut self, resources: &BTreeSet<u32>, each: Duration, now: Instant) {
        let rest = (each * REST_FACTOR).min(REST_MAX);
        if rest < self.tempo.shortest {
            return;
        }
        for resource in resources {
            let one = self.all.entry(*resource).or_insert_with(|| Looked::new(now));
            one.rests_until = now + rest;
        }
    }

    /// Those of some resources that may be looked at now, and when the next of the others may.
    pub(super) fn due(
        &self,
        resources: &BTreeSet<u32>,
        now: Instant,
    ) -> (BTreeSet<u32>, Option<Instant>) {
        let until = |r: &u32| {
            let one = self.all.get(r)?;
            Some(one.until.max(one.rests_until)).filter(|until| *until > now)
        };
        let due = resources.iter().copied().filter(|r| until(r).is_none()).collect();
        (due, resources.iter().filter_map(until).min())
    }

    /// Those of some resources that are left alone since they were put right.
    pub(super) fn held_back(&self, resources: &BTreeSet<u32>, now: Instant) -> BTreeSet<u32> {
        let is_held = |r: &u32| self.all.get(r).is_some_and(|one| one.until > now);
        resources.iter().copied().filter(is_held).collect()
    }

    /// The resources that were fought over and are not any more: to be looked at once more, so
    /// that it is told.
    pub(super) fn poll_over(&mut self, now: Instant) -> BTreeSet<u32> {
        let quiet = self.tempo.quiet;
        let mut over = BTreeSet::new();
        self.all.retain(|resource, one| {
            if one.until + quiet <= now {
                over.extend(one.fought_over.as_ref().map(|_| *resource));
                *one = Looked { rests_until: one.rests_until, ..Looked::new(one.until) };
            }
            one.attempts > 0 || one.rests_until > now
        });
        over
    }

    /// When to ask for those again.
    pub(super) fn next_over(&self) -> Option<Instant> {
        let fought_over = self.all.values().filter(|one| one.fought_over.is_some());
        fought_over.map(|one| one.until + self.tempo.quiet).min()
    }

    /// The resources that are fought over.
    pub(super) fn resources(&self) -> impl Iterator<Item = u32> {
        self.all.iter().filter(|(_, one)| one.fought_over.is_some()).map(|(resource, _)| *resource)
    }

    /// What is to be said of them, if there are any.
    pub(super) fn words(&self) -> Option<String> {
        let mut ids = self.all.values().filter_map(|one| one.fought_over.as_deref());
        let named: Vec<&str> = ids.by_ref().take(NAMED_MAX).collect();
        let more = match ids.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let each = self.tempo.longest.as_secs();
        (!named.is_empty()).then(|| {
            format!(
                "something fights over {}{more}: put right after pauses that grow up to {each} s, until it stays as it is; find out what else changes it",
                named.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(60);
    const QUIET: Duration = Duration::from_secs(120);

    fn secs(secs: u64) -> Instant {
        Instant(0) + Duration::from_secs(secs)
    }

    /// Something changes resource 1 back within no time: when it is healed, until a time, and when
    /// it is told.
    fn fight(fights: &mut Fights, until: Instant) -> (Vec<Instant>, Vec<Instant>) {
        let (mut heals, mut told, mut now) = (Vec::new(), Vec::new(), Instant(0));
        while now < until {
            heals.push(now);
            told.extend(fights.handle_heal(1, b"file /f", true, now).then_some(now));
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
        let why = fights.words().unwrap();
        assert!(why.starts_with("something fights over file /f: "), "{why}");
        // The pause after the last heal, and two quiet minutes.
        let over = *heals.last().unwrap() + LONGEST + QUIET;
        assert_eq!(fights.next_over(), Some(over));
        assert!(fights.poll_over(*heals.last().unwrap() + QUIET).is_empty());
        assert_eq!(fights.poll_over(over), [1].into());
        assert_eq!((fights.next_over(), fights.words()), (None, None));
        assert!(!fights.handle_heal(1, b"file /f", true, over));
        assert_eq!(fights.due(&[1].into(), over + Duration::from_millis(10)), ([1].into(), None));
    }

    #[test]
    fn a_burst_of_writes_is_a_few_heals_and_no_fight() {
        let mut fights = Fights::default();
        let (heals, told) = fight(&mut fights, secs(4));
        assert!(heals.len() <= 10 && told.is_empty(), "{heals:?} {told:?}");
        assert_eq!((fights.next_over(), fights.words()), (None, None));
        assert!(fights.poll_over(secs(200)).is_empty(), "nobody was told");
        assert!(fights.all.is_empty());
    }

    /// What changes so often is healed so often in the first ten seconds, and in ten minutes; and
    /// when it is told.
    fn healed(every: Duration) -> (usize, usize, Vec<Instant>) {
        let (mut fights, mut heals, mut told) = (Fights::default(), Vec::new(), Vec::new());
        let (mut now, mut until) = (Instant(0), Instant(0));
        while now < secs(1200) {
            if now >= until {
                heals.push(now);
                told.extend(fights.handle_heal(1, b"file /f", true, now).then_some(now));
                until = fights.due(&[1].into(), now).1.unwrap_or(now);
            }
            assert!(fights.poll_over(now).is_empty());
            now = now + every;
        }
        let within = |at| heals.iter().filter(|heal| **heal < at).count();
        (within(secs(10)), within(secs(600)), told)
    }

    #[test]
    fn whatever_its_rhythm_a_fight_is_told_and_slowed_down() {
        for (ms, ten_seconds, ten_minutes) in
            [(2, 10, 25), (30, 20, 35), (100, 20, 35), (2000, 5, 35), (60_000, 1, 10)]
        {
            let (first, all, told) = healed(Duration::from_millis(ms));
            assert!(first <= ten_seconds && all <= ten_minutes, "{ms} ms: {first}, {all}");
            assert_eq!(told.len(), 1, "{ms} ms");
            assert!(told[0] >= secs(10), "{ms} ms: {told:?}");
        }
    }

    #[test]
    fn a_burst_after_a_single_heal_is_no_fight() {
        let mut fights = Fights::default();
        assert!(!fights.handle_heal(1, b"directory /d", true, Instant(0)));
        let mut now = secs(60);
        while now < secs(64) {
            assert!(!fights.handle_heal(1, b"directory /d", true, now));
            now = fights.due(&[1].into(), now).1.unwrap();
        }
    }

    #[test]
    fn what_takes_long_to_look_at_is_left_alone_for_longer() {
        let mut fights = Fights::default();
        let ms = Duration::from_millis;
        fights.handle_look(&[1].into(), ms(1), Instant(0));
        assert!(fights.all.is_empty(), "what is quick leaves no trace");
        fights.handle_look(&[1, 2].into(), ms(40), Instant(0));
        assert_eq!(
            fights.due(&[1, 3].into(), Instant(0)),
            ([3].into(), Some(Instant(0) + ms(360)))
        );
        fights.handle_look(&[1].into(), ms(60_000), Instant(0));
        assert_eq!(fights.due(&[1].into(), Instant(0)).1, Some(Instant(0) + REST_MAX));
        assert_eq!((fights.next_over(), fights.words()), (None, None));
        fights.poll_over(secs(3));
        assert!(fights.all.is_empty());
    }

    #[test]
    fn looks_that_find_nothing_neither_make_a_fight_nor_keep_one() {
        let mut fights = Fights::default();
        let look = |fights: &mut Fights, now| {
            fights.handle_look(&[1].into(), Duration::from_millis(20), now);
            fights.poll_over(now)
        };
        // Once an hour it is put right, and looked at each second.
        for second in 0..20 * 3600 {
            if second % 3600 == 0 {
                assert!(!fights.handle_heal(1, b"directory /d", true, secs(second)));
            }
            assert!(look(&mut fights, secs(second)).is_empty());
        }
        let mut fights = Fights::default();
        let (heals, told) = fight(&mut fights, secs(30));
        assert_eq!(told.len(), 1);
        let last = heals.last().unwrap().since(Instant(0)).as_secs();
        let over = (last..).find(|second| !look(&mut fights, secs(*second)).is_empty());
        assert!(over.unwrap() <= last + 60 + 121, "{over:?}");
    }

    #[test]
    fn what_fails_each_time_is_slowed_down_and_no_fight() {
        let mut fights = Fights::default();
        let mut now = Instant(0);
        for _ in 0..100 {
            assert!(!fights.handle_heal(1, b"file /f", false, now));
            now = fights.due(&[1].into(), now).1.unwrap();
        }
        assert!(now > secs(3600));
        assert!(!fights.handle_heal(1, b"file /f", true, now), "in the end it could be put right");
    }

    #[test]
    fn of_many_that_are_fought_over_some_are_named() {
        let mut fights = Fights::default();
        for n in 0..=10 {
            (0..1000).for_each(|r| {
                let id = format!("file /{r}");
                fights.handle_heal(r, id.as_bytes(), true, secs(n));
            });
        }
        let words = fights.words().unwrap();
        let named = "something fights over file /0, file /1, file /2 and 997 more: ";
        assert!(words.starts_with(named), "{words}");
    }
}
