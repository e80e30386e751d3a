//! A process that dies by SIGKILL while it stores reports.

use super::*;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

const CHILD: &str = "DROVER_TEST_KILLED_SINK";
const TOTAL: u64 = 2000;

/// The child's part, when the test binary is started again with [`CHILD`] set: offers the
/// inbox from the cursor on, as the master does, but never trims it.
#[test]
fn child_appends_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let mut sink = open(Path::new(&path));
    let mut from = sink.cursor().map_or(0, |c| c + 1);
    while from < TOTAL {
        let to = (from + 10).min(TOTAL);
        let appended = sink.append(&records(from, to)).unwrap();
        println!("\nstored {}", appended.upto);
        std::io::stdout().flush().unwrap();
        from = to;
    }
    println!("\nend");
}

#[test]
fn s1_26_a_kill_between_commit_and_trim_loses_and_doubles_nothing() {
    let seed = 26;
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.sqlite");
    let mut told = None;
    for _ in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "sink::tests::killed::child_appends_until_it_is_killed",
                "--nocapture",
            ])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Killed after some commits, at a moment that nobody chose: it goes on meanwhile.
        let mut commits = rng.u32(1..30);
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            if let Some(upto) = line.unwrap().strip_prefix("stored ") {
                told = Some(upto.parse::<u64>().unwrap());
                commits -= 1;
                if commits == 0 {
                    break;
                }
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let mut sink = open(&path);
        assert!(sink.cursor() >= told, "{:?} was told, {:?} is stored", told, sink.cursor());
        // The inbox was not trimmed: all of it comes again.
        let upto = sink.cursor().unwrap() + 1;
        assert_eq!(all_ids(&mut sink).len() as u64, upto);
        let again = sink.append(&records(0, upto)).unwrap();
        assert_eq!((again.stored, again.duplicates), (0, upto));
    }
    let mut sink = open(&path);
    let all = records(0, TOTAL);
    sink.append(&all).unwrap();
    assert_eq!(all_ids(&mut sink), all.iter().map(stored_id).collect::<Vec<_>>());
}
