//! What does it cost a client to check who signed its assignment?
//!
//! `cargo bench -p benches --bench signature`

use engine::clock::{Clock, SystemClock};
use engine::ids::{HostName, Revision};
use engine::release::{Assignment, CATALOG_SCHEMA, TrustedKeys};
use engine::sign::SigningKey;
use engine::time::WallMs;
use engine::wire::encode;

/// Assignments of one round.
const ASSIGNMENTS: u64 = 2_000;
/// Rounds of each way, in turn.
const ROUNDS: usize = 5;

/// Nanoseconds for each of these assignments, all of which are accepted.
fn round(keys: &TrustedKeys, signed: &[Vec<u8>], host: &HostName, clock: &SystemClock) -> u128 {
    let begun = clock.now().at;
    let accepted =
        signed.iter().filter(|bytes| keys.accept(bytes, host, Revision(0), WallMs(1)).is_ok());
    assert_eq!(accepted.count(), signed.len(), "the work was not done");
    clock.now().at.since(begun).as_nanos() / signed.len() as u128
}

fn tell(what: &str, mut rounds: Vec<u128>) -> u128 {
    rounds.sort_unstable();
    let median = rounds[rounds.len() / 2];
    let us = |ns: u128| ns as f64 / 1000.0;
    let (first, last) = (rounds[0], rounds[rounds.len() - 1]);
    println!("{what}: {:.2} us an assignment ({:.2} to {:.2})", us(median), us(first), us(last));
    median
}

fn main() {
    let clock = SystemClock::start();
    let key = SigningKey::generate().expect("the system has randomness");
    let host: HostName = "web-1.example".parse().expect("a host name");
    let assignment = |revision| Assignment {
        schema: CATALOG_SCHEMA,
        pattern: "web-*".to_owned(),
        excludes: vec!["web-0*".to_owned()],
        revision,
        manifest: [7; 32],
        manifest_size: 1000,
        issued_ms: 0,
        expires_ms: u64::MAX,
    };
    let signed: Vec<_> = (1..=ASSIGNMENTS).map(|n| encode(&assignment(n).sign(&key))).collect();
    let ways = [TrustedKeys::Only(vec![key.public()]), TrustedKeys::Unchecked];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (keys, times) in ways.iter().zip(&mut times) {
            times.push(round(keys, &signed, &host, &clock));
        }
    }
    let [checked, unchecked] = times;
    let (checked, unchecked) = (tell("checked", checked), tell("unchecked", unchecked));
    println!("the check: {:.2} us", checked.saturating_sub(unchecked) as f64 / 1000.0);
}
