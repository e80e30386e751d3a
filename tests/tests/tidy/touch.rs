//! Who may touch the clock, sockets, LMDB, threads: one place each.

use crate::assert_none;
use crate::source::{SourceFile, lines_with};

/// Words that only these files (or files below these folders) may use, and the reason.
struct Rule {
    words: &'static [&'static str],
    allowed: &'static [&'static str],
    advice: &'static str,
}

fn check(rule: &Rule) {
    let mut found = Vec::new();
    let mut used = vec![false; rule.allowed.len()];
    for file in SourceFile::product_rust() {
        let places = lines_with(&file, rule.words);
        match rule.allowed.iter().position(|path| file.path.starts_with(path)) {
            Some(i) => used[i] |= !places.is_empty(),
            None => found.extend(places),
        }
    }
    for (path, _) in rule.allowed.iter().zip(used).filter(|(_, used)| !used) {
        found.push(format!("{path} is allowed, but has no use for it: take it from the list"));
    }
    assert_none(&found, rule.advice);
}

#[test]
fn the_clock_is_read_in_one_place() {
    check(&Rule {
        words: &["Instant::now", "SystemTime::now", "clock_gettime"],
        allowed: &["engine/src/clock.rs"],
        advice: "take `now` as an argument, or read it with engine::clock",
    });
}

#[test]
fn mio_and_sockets_are_touched_in_few_places() {
    check(&Rule {
        words: &[
            "mio",
            "socket2",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "UnixStream",
            "UnixListener",
        ],
        allowed: &[
            "engine/src/reactor/",
            "engine/src/blocking.rs",
            "engine/src/resolver/",
            // What these do, the reactor would not let them.
            "loadgen/src/peers/",
            // A name server for the master to ask.
            "loadgen/src/names/",
            // Orders and events of workers in other processes: beside their loops, no frames.
            "loadgen/src/fleet/remote/",
        ],
        advice: "only the reactor, the blocking codec and the resolver have sockets; loadgen for what is no client",
    });
}

#[test]
fn lmdb_is_touched_in_one_place() {
    check(&Rule {
        words: &["heed"],
        allowed: &["engine/src/queue/lmdb"],
        advice: "go through the store's commands (engine::queue::store)",
    });
}

#[test]
fn sqlite_is_touched_in_one_place() {
    check(&Rule {
        words: &["rusqlite"],
        allowed: &["master/src/sink/"],
        advice: "go through the sink (master::sink)",
    });
}

/// What stands in quotes is no code, so the words of a path are looked for in the text.
#[test]
fn the_load_generator_reads_proc_in_one_place() {
    let is_of_loadgen = |file: &&SourceFile| {
        file.path.starts_with("loadgen/src/") && !file.path.starts_with("loadgen/src/kernel/")
    };
    let files = SourceFile::product_rust();
    let reads = files.iter().filter(is_of_loadgen).filter(|file| file.text.contains("\"/proc"));
    let found: Vec<String> = reads.map(|file| file.path.clone()).collect();
    assert_none(&found, "ask loadgen/src/kernel/ for it");
}

#[test]
fn threads_are_started_in_few_places() {
    check(&Rule {
        words: &["thread::spawn", "thread::Builder", "thread::scope", "Builder::new().name"],
        allowed: &[
            "engine/src/queue/thread.rs",
            "engine/src/blob/thread.rs",
            "engine/src/resolver/thread.rs",
            // The name service's look-ups: a small async runtime of their own.
            "master/src/resolver.rs",
            "master/src/sink/thread.rs",
            "client/src/executor/",
            "client/src/enforcer/",
            // The load generator's workers, who hears those of other processes, and the one that
            // looks at the master.
            "loadgen/src/fleet/",
            "loadgen/src/subject/observer.rs",
            // Bad peers, beside the clients whose loop must not wait for them.
            "loadgen/src/peers/mod.rs",
            // The name service, which answers late without holding up anything else.
            "loadgen/src/names/mod.rs",
        ],
        advice: "docs/ARCHITECTURE.md lists the threads; a new one needs a reason there",
    });
}
