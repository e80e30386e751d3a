//! Which resource gave out first, or would: the one that was used to the largest share of what
//! there is of it.

use super::observer::{Said, Sample};
use crate::kernel::{Process, Tcp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// What can give out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// The one thread of the master's loop.
    ReactorCpu,
    /// The sync of the inbox's commits.
    CommitWait,
    /// The kernel's queue of connections that are not accepted yet.
    AcceptQueue,
    /// The result store.
    Sink,
    /// The master's file descriptors.
    Descriptors,
    /// The memory of the machine's sockets.
    NetworkMemory,
    /// All processors of the machine together.
    Processors,
    /// The generator itself.
    Generator,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReactorCpu => "reactor CPU",
            Self::CommitWait => "commit wait",
            Self::AcceptQueue => "accept queue",
            Self::Sink => "sink",
            Self::Descriptors => "descriptors",
            Self::NetworkMemory => "network memory",
            Self::Processors => "processors",
            Self::Generator => "the generator",
        })
    }
}

/// A resource, and how far it was used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Constraint {
    /// Which.
    pub resource: Resource,
    /// The part that was used: 1 is all of it.
    pub used: f64,
    /// What that was read from.
    pub why: String,
}

impl Constraint {
    /// Whether it really bound, and was not merely the most used.
    #[must_use]
    pub fn binds(&self) -> bool {
        self.used >= BINDS
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = (self.used * 100.0).min(999.0);
        if self.binds() {
            write!(f, "{} ({})", self.resource, self.why)
        } else {
            write!(
                f,
                "nothing yet; the most used is {}, to {share:.0} % ({})",
                self.resource, self.why
            )
        }
    }
}

/// A resource that was used to this part gives out: the rest is noise and scheduling.
const BINDS: f64 = 0.85;

/// What the generator says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Own {
    /// CPU time of its busiest worker as a part of the time that passed.
    pub busiest: f64,
    /// CPU time of all its threads as a part of the time that passed, in processors.
    pub processors: f64,
    /// Whether it was punctual.
    pub punctual: bool,
}

/// By how much a counter of the master's grew over all these looks: one that was started anew counts
/// from nothing.
fn grown(looks: &[Sample], of: impl Fn(&Said) -> u64) -> u64 {
    let said: Vec<(Option<u32>, &Said)> = looks
        .iter()
        .filter_map(|look| Some((look.process.as_ref().map(|p| p.pid), look.said.as_ref()?)))
        .collect();
    let between = |pair: &[(Option<u32>, &Said)]| {
        let [(pid, before), (later_pid, after)] = pair else { return 0 };
        let is_same = pid == later_pid && after.uptime_ms >= before.uptime_ms;
        of(after).saturating_sub(if is_same { of(before) } else { 0 })
    };
    said.windows(2).map(between).sum()
}

/// Judges what happened between the first and the last of these looks; `None` without two.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "shares are shown with two digits")]
pub fn judge(looks: &[Sample], own: Own, processors: usize) -> Option<Constraint> {
    let (first, last) = (looks.first()?, looks.last()?);
    let passed = last.at().since(first.at()).max(Duration::from_millis(1));
    let passed_us = passed.as_micros() as f64;
    let mut found = Vec::new();
    let mut add = |resource, used: f64, why: String| {
        found.push(Constraint { resource, used, why });
    };
    let share = |us: u64| us as f64 / passed_us;
    let mut all = own.processors;
    if let (Some(before), Some(after)) = (&first.process, &last.process) {
        let cpu = |name: &str| {
            let of = |process: &Process| process.cpu_us.get(name).copied().unwrap_or(0);
            share(after.took_since(before, of))
        };
        let reactor = cpu("reactor");
        add(Resource::ReactorCpu, reactor, format!("{:.0} % of one processor", reactor * 100.0));
        let sink = cpu("sink");
        add(
            Resource::Sink,
            sink,
            format!("its thread took {:.0} % of one processor", sink * 100.0),
        );
        let files = after.descriptors as f64 / after.descriptors_max.max(1) as f64;
        let why = format!("{} of {}", after.descriptors, after.descriptors_max);
        add(Resource::Descriptors, files, why);
        all += share(after.took_since(before, Process::cpu_all_us));
    }
    if let (Some(before), Some(after)) = (&first.said, &last.said) {
        let busy = share(grown(looks, |said| said.commit_busy_us));
        let commits = grown(looks, |said| said.commits);
        let why = format!("{commits} commits took {:.0} % of the time", busy * 100.0);
        add(Resource::CommitWait, busy, why);
        let grew = after.inbox_records.saturating_sub(before.inbox_records);
        let slope = grew as f64 / passed.as_secs_f64();
        if slope > INBOX_SLOPE && passed >= INBOX_PATIENCE {
            let why = format!("the inbox grew by {slope:.0} records a second");
            add(Resource::Sink, 1.0, why);
        }
        let pauses = grown(looks, |said| said.accept_pauses);
        if pauses > 0 {
            add(Resource::Descriptors, 1.0, format!("accepting paused {pauses} times"));
        }
    }
    let tcp: Tcp = last.tcp.since(&first.tcp);
    if tcp.listen_overflows > 0 {
        let full = tcp.listen_overflows;
        let mut used = OVERFLOWED;
        let mut why = format!("{full} connections to programs of this machine found it full");
        if first.said.is_some() && last.said.is_some() {
            let accepted = grown(looks, |said| said.accepted);
            used = used.min(full as f64 / (OVERFLOWS_BEARABLE * accepted.max(1) as f64));
            why += &format!(", the master accepted {accepted}");
        }
        add(Resource::AcceptQueue, used, why);
    }
    if tcp.memory_pressures > 0 {
        let why = format!("{} times short", tcp.memory_pressures);
        add(Resource::NetworkMemory, 1.0, why);
    }
    let of_all = all / processors.max(1) as f64;
    let why =
        format!("{all:.1} of {processors} in use, the generator's {:.1} included", own.processors);
    add(Resource::Processors, of_all, why);
    let late = if own.punctual { own.busiest } else { own.busiest.max(1.0) };
    let why = format!("its busiest thread took {:.0} % of one processor", own.busiest * 100.0);
    add(Resource::Generator, late, why);
    found.into_iter().max_by(|a, b| a.used.total_cmp(&b.used))
}

/// An accept queue that was full goes before anything that was only used up.
const OVERFLOWED: f64 = 2.0;
/// The share of connections that find the accept queue full which a 99th percentile sees: each of
/// them waits for a second or longer. Fewer may be another listener's, since the kernel counts those
/// of a whole network namespace together.
const OVERFLOWS_BEARABLE: f64 = 0.01;
/// An inbox that grows by more records a second than this grows,
const INBOX_SLOPE: f64 = 100.0;
/// and not only because much came at once.
const INBOX_PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn between(first: &Sample, last: &Sample, own: Own, processors: usize) -> Constraint {
        judge(&[first.clone(), last.clone()], own, processors).unwrap()
    }

    fn sample(seconds: u64) -> Sample {
        let process = Process { descriptors_max: 20_000, ..Process::default() };
        Sample {
            at_ns: seconds * 1_000_000_000,
            process: Some(process),
            said: Some(Said::default()),
            ..Sample::default()
        }
    }

    fn own() -> Own {
        Own { busiest: 0.2, processors: 0.3, punctual: true }
    }

    fn with(change: impl FnOnce(&mut Sample)) -> Constraint {
        let mut last = sample(10);
        change(&mut last);
        between(&sample(0), &last, own(), 4)
    }

    /// What a master that was killed has done counts too.
    #[test]
    fn counters_of_a_master_that_is_started_anew_are_added_up() {
        let look = |second: u64, pid: u32, commit_busy_us: u64| {
            let mut look = sample(second);
            look.process.as_mut().unwrap().pid = pid;
            // The second one has been there for longer than the first at its last look.
            let uptime_ms = if pid == 1 { second * 1_000 } else { second * 2_000 };
            let commits = commit_busy_us / 30_000;
            look.said = Some(Said { uptime_ms, commits, commit_busy_us, ..Said::default() });
            look
        };
        let looks =
            [look(0, 1, 0), look(4, 1, 3_900_000), look(6, 2, 1_500_000), look(10, 2, 4_800_000)];
        let found = judge(&looks, own(), 4).unwrap();
        assert_eq!(found.resource, Resource::CommitWait, "{found}");
        assert!(found.why.starts_with("290 commits took 87 %"), "{found}");
    }

    #[test]
    fn each_resource_is_found() {
        let cpu = |name: &str, us: u64| {
            let name = name.to_owned();
            move |s: &mut Sample| {
                s.process.as_mut().unwrap().cpu_us.insert(name, us);
            }
        };
        let said = |change: fn(&mut Said)| move |s: &mut Sample| change(s.said.as_mut().unwrap());
        for (found, wanted) in [
            (with(cpu("reactor", 9_500_000)), Resource::ReactorCpu),
            (with(cpu("sink", 9_500_000)), Resource::Sink),
            (with(said(|s| s.commit_busy_us = 9_700_000)), Resource::CommitWait),
            (with(said(|s| s.inbox_records = 5_000)), Resource::Sink),
            (with(said(|s| s.accept_pauses = 1)), Resource::Descriptors),
            (with(|s| s.process.as_mut().unwrap().descriptors = 19_000), Resource::Descriptors),
            (with(|s| s.tcp.listen_overflows = 3), Resource::AcceptQueue),
            (with(|s| s.tcp.memory_pressures = 1), Resource::NetworkMemory),
        ] {
            assert_eq!(found.resource, wanted, "{found}");
            assert!(found.binds(), "{found}");
        }
    }

    #[test]
    fn a_connection_in_hundreds_that_found_the_accept_queue_full_is_not_what_binds() {
        let of = |accepted| {
            with(move |s| {
                s.said.as_mut().unwrap().accepted = accepted;
                s.tcp.listen_overflows = 3;
            })
        };
        let found = of(300);
        assert!(found.binds() && found.resource == Resource::AcceptQueue, "{found}");
        assert!(found.why.contains("3 connections") && found.why.contains("accepted 300"));
        assert!(!of(3_000).binds());
        // One that was started anew has accepted less than the one before it.
        let said = |uptime_ms, accepted| Some(Said { uptime_ms, accepted, ..Said::default() });
        let (mut first, mut last) = (sample(0), sample(10));
        (first.said, last.said) = (said(60_000, 9_000), said(3_000, 3_000));
        last.tcp.listen_overflows = 3;
        assert!(!between(&first, &last, own(), 4).binds());
        // Where the master says nothing, any is too many.
        last.said = None;
        let found = between(&first, &last, own(), 4);
        assert!(found.binds() && found.why.ends_with("found it full"), "{found}");
    }

    #[test]
    fn a_generator_at_its_end_says_so() {
        let own = Own { busiest: 0.97, processors: 1.0, punctual: true };
        let found = between(&sample(0), &sample(10), own, 4);
        assert_eq!(found.resource, Resource::Generator);
        let late = Own { busiest: 0.3, processors: 0.3, punctual: false };
        assert!(between(&sample(0), &sample(10), late, 4).binds());
        let own = Own { busiest: 0.8, processors: 1.9, punctual: true };
        assert_eq!(between(&sample(0), &sample(10), own, 2).resource, Resource::Processors);
    }

    #[test]
    fn where_nothing_binds_the_most_used_is_told() {
        let found = with(|s| {
            s.process.as_mut().unwrap().cpu_us.insert("reactor".into(), 4_000_000);
        });
        assert!(!found.binds());
        assert!(found.to_string().contains("reactor CPU, to 40 %"), "{found}");
    }
}
