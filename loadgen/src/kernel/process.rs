//! What a process takes of the machine.

use super::{line, number, text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;

/// Clock ticks a second in `/proc`: 100 on every Linux that Drover is for.
const TICK_US: u64 = 10_000;

/// What a process takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id; 0 in what earlier versions wrote.
    #[serde(default)]
    pub pid: u32,
    /// CPU time by the names of its threads, microseconds since its start. The first thread, which
    /// bears the program's name, is `reactor`: it is the one with the master's loop.
    pub cpu_us: BTreeMap<String, u64>,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// Of that, what is no file's: what the program itself has taken.
    pub anonymous_bytes: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Most descriptors that it may have.
    pub descriptors_max: u64,
    /// Bytes that its threads had read from disks since their start. What the system counts for the
    /// whole process has that of children that have ended too, such as a master of its own.
    #[serde(default)]
    pub read_bytes: u64,
    /// Bytes that they had written to disks, or will have once the system does so.
    #[serde(default)]
    pub written_bytes: u64,
}

impl Process {
    /// As it stands; `None` if there is no such process, or it is somebody else's.
    #[must_use]
    pub fn read(pid: u32) -> Option<Self> {
        let mut cpu_us = BTreeMap::new();
        let (mut read_bytes, mut written_bytes) = (0, 0);
        for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            let Some((name, ticks)) = thread(&text(task.path().join("stat"))) else { continue };
            // The scheduler's own count has nanoseconds, where the kernel keeps it.
            let took = ran(&text(task.path().join("schedstat"))).unwrap_or(ticks);
            let is_first = task.file_name().to_str() == Some(pid.to_string().as_str());
            *cpu_us.entry(if is_first { "reactor".to_owned() } else { name }).or_default() += took;
            let (read, written) = disk_bytes(&text(task.path().join("io")));
            read_bytes += read;
            written_bytes += written;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let limits = text(format!("/proc/{pid}/limits"));
        Some(Self {
            pid,
            cpu_us,
            resident_bytes: 1024 * number(&status, "VmRSS:").unwrap_or(0),
            anonymous_bytes: 1024 * number(&status, "RssAnon:").unwrap_or(0),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count) as u64,
            descriptors_max: descriptors_of(&limits).map_or(u64::MAX, |(now, _)| now),
            read_bytes,
            written_bytes,
        })
    }

    /// This process.
    #[must_use]
    pub fn own() -> Self {
        Self::read(std::process::id()).unwrap_or_default()
    }

    /// How much of something it took since an earlier look. If that was at another process, which
    /// this one has replaced, all that this one took counts.
    #[must_use]
    pub fn took_since(&self, before: &Self, of: impl Fn(&Self) -> u64) -> u64 {
        let earlier = if before.pid == self.pid { of(before) } else { 0 };
        of(self).saturating_sub(earlier)
    }

    /// CPU time of all threads.
    #[must_use]
    pub fn cpu_all_us(&self) -> u64 {
        self.cpu_us.values().sum()
    }
}

/// A thread's name and its CPU time, microseconds. The name stands in parentheses, and may
/// contain anything.
fn thread(stat: &str) -> Option<(String, u64)> {
    let (head, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    let (_, name) = head.split_once('(')?;
    Some((name.to_owned(), ticks * TICK_US))
}

/// Bytes that a thread had read from disks, and written to them.
fn disk_bytes(io: &str) -> (u64, u64) {
    let bytes = |key| number(io, key).unwrap_or(0);
    (bytes("read_bytes:"), bytes("write_bytes:"))
}

/// CPU time of a thread as the scheduler has it, microseconds.
fn ran(schedstat: &str) -> Option<u64> {
    let ns: u64 = schedstat.split_whitespace().next()?.parse().ok()?;
    Some(ns / 1000)
}

/// CPU time of this process, microseconds; that of threads which have ended is in it.
#[must_use]
pub fn own_cpu_us() -> u64 {
    thread(&text("/proc/self/stat")).map_or(0, |(_, took)| took)
}

/// Most descriptors of this process: as it is, and as it could be raised without being root.
#[must_use]
pub fn descriptors_max() -> (u64, u64) {
    descriptors_of(&text("/proc/self/limits")).unwrap_or_default()
}

fn descriptors_of(limits: &str) -> Option<(u64, u64)> {
    let mut words = line(limits, "Max open files")?.split_whitespace();
    let mut next = || match words.next()? {
        "unlimited" => Some(u64::MAX),
        word => word.parse().ok(),
    };
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn this_process_is_understood() {
        let found = Process::own();
        assert!(found.cpu_us.contains_key("reactor"), "{found:?}");
        assert!((1 << 20..1 << 34).contains(&found.resident_bytes), "{found:?}");
        assert!(found.descriptors >= 3 && found.descriptors_max > found.descriptors, "{found:?}");
        assert_eq!(Process::read(u32::MAX - 1), None);
        let (now, most) = descriptors_max();
        assert!(now == found.descriptors_max && now <= most, "{now} {most}");
    }

    #[test]
    fn work_and_writes_are_counted() {
        let written_here = || disk_bytes(&text("/proc/thread-self/io")).1;
        let (before, begun, written_before) = (Process::own(), own_cpu_us(), written_here());
        let mut rng = fastrand::Rng::with_seed(1);
        // Work until both counts have moved, of which one has ticks.
        while Process::own().cpu_all_us() <= before.cpu_all_us() || own_cpu_us() <= begun {
            std::hint::black_box((0..100_000).map(|_| rng.u64(..) & 1).sum::<u64>());
        }
        assert!((begun + 1..begun + 60_000_000).contains(&own_cpu_us()));
        // Where the build lies is a disk; a temporary directory may be memory.
        let dir = std::env::current_exe().unwrap().parent().unwrap().to_owned();
        let mut file = tempfile::tempfile_in(dir).unwrap();
        file.write_all(&vec![7; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        let written = written_here() - written_before;
        assert!((1 << 20..1 << 24).contains(&written), "{written} bytes");
        assert!(Process::own().written_bytes >= written, "this thread's are among them");
    }

    #[test]
    fn what_a_process_took_is_counted_from_its_own_start() {
        let of = |pid, written_bytes| Process { pid, written_bytes, ..Process::default() };
        let took = |before: &Process, now: &Process| now.took_since(before, |p| p.written_bytes);
        assert_eq!(took(&of(1, 5), &of(1, 7)), 2);
        assert_eq!(took(&of(1, 5), &of(2, 7)), 7);
        assert_eq!(took(&of(1, 5), &of(1, 4)), 0);
    }

    #[test]
    fn threads_have_any_name_and_limits_may_have_no_end() {
        let stat = "12 (a) b (c) S 1 1 1 0 -1 0 0 0 0 0 30 12 0 0 20 0 1 0";
        assert_eq!(thread(stat), Some(("a) b (c".to_owned(), 420_000)));
        assert_eq!(thread(""), None);
        assert_eq!((ran("1234567 890 3\n"), ran("")), (Some(1234), None));
        let limits =
            "Max processes 1 2 processes\nMax open files            1024   unlimited   files\n";
        assert_eq!(descriptors_of(limits), Some((1024, u64::MAX)));
        assert_eq!(descriptors_of(""), None);
    }
}
