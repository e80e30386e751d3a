//! The answers of the control verbs. Field names are those that `--json` prints.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlError {
    /// What is wrong.
    pub error: String,
    /// What to do about it; empty if there is nothing to add.
    #[serde(default)]
    pub hint: String,
}

impl ControlError {
    /// An error with a hint.
    #[must_use]
    pub fn new(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { error: error.into(), hint: hint.into() }
    }
}

/// How the daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    /// Its host name.
    pub name: String,
    /// Its program version.
    pub version: String,
    /// The revision that it distributes; 0 if nothing was published yet.
    pub revision: u64,
    /// When that was published, milliseconds since 1970.
    pub issued_ms: u64,
    /// Until when clients may accept it, milliseconds since 1970.
    pub expires_ms: u64,
    /// Time since its start, milliseconds.
    pub uptime_ms: u64,
    /// Hosts in the inventory or heard of.
    pub hosts_known: u64,
    /// Of these, hosts that have applied the revision.
    pub hosts_current: u64,
    /// Of these, hosts not heard for `silent_after`, or never.
    pub hosts_silent: u64,
    /// Of these, hosts that hold a later revision than the one distributed, which they refuse.
    pub hosts_ahead: u64,
    /// Reports accepted and not yet in the result store.
    pub inbox_records: u64,
    /// Their bytes.
    pub inbox_bytes: u64,
    /// Log number of the last report in the result store.
    pub sink_cursor: u64,
    /// Open connections.
    pub connections: u64,
    /// 99th percentile of the time that one turn of the reactor takes, microseconds.
    pub loop_lag_p99_us: u64,
    /// What an operator should look at, in words.
    pub warnings: Vec<String>,
    /// Counters by name.
    pub counters: BTreeMap<String, u64>,
}

/// What is known of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostRow {
    /// Its name.
    pub name: String,
    /// When it was first heard, milliseconds since 1970; `None` if never.
    pub first_seen_ms: Option<u64>,
    /// When it was last heard, milliseconds since 1970; `None` if never.
    pub last_seen_ms: Option<u64>,
    /// Whether it has not been heard for `silent_after`, or never.
    pub silent: bool,
    /// The revision that it holds.
    pub held: Option<u64>,
    /// The revision that it last applied to the end.
    pub applied: Option<u64>,
    /// Its program version.
    pub version: Option<String>,
    /// What its last run did, in words.
    pub last_result: Option<String>,
    /// Its last error; empty if its last word was a good one.
    pub last_error: String,
    /// How far its clock is ahead of the master's, milliseconds.
    pub clock_skew_ms: Option<i64>,
    /// The address that its last message came from.
    pub address: Option<String>,
}

/// Some hosts, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostsPage {
    /// The hosts.
    pub hosts: Vec<HostRow>,
    /// There is more behind this name.
    pub next: Option<String>,
}

/// One run of one host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReportRow {
    /// Its number in the result store.
    pub id: i64,
    /// The host.
    pub host: String,
    /// Incarnation of the host's outbox, hexadecimal.
    #[serde(with = "hexadecimal")]
    pub epoch: u64,
    /// The host's own number.
    pub seq: u64,
    /// When it arrived at the master, milliseconds since 1970.
    pub arrived_ms: u64,
    /// When the run began by the host's clock, milliseconds since 1970.
    pub started_ms: u64,
    /// The revision.
    pub revision: u64,
    /// Why the run was made.
    pub trigger: String,
    /// From its beginning to its end, microseconds.
    pub duration_us: u64,
    /// Sum of its resources' durations, microseconds.
    pub busy_us: u64,
    /// Resources looked at.
    pub checked: u32,
    /// Resources changed.
    pub changed: u32,
    /// Resources that failed.
    pub failed: u32,
    /// Resources left alone.
    pub skipped: u32,
    /// Resources interrupted.
    pub interrupted: u32,
    /// What came of it: `done`; `failed`, if a resource did; `cut short`, by a stop or by something
    /// newer; `not applied`, if nothing could be.
    #[serde(default)]
    pub result: String,
    /// Anything else the host said.
    pub note: String,
}

/// Some runs, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReportsPage {
    /// The runs.
    pub reports: Vec<ReportRow>,
}

/// What became of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResultRow {
    /// `KIND NAME`; bytes that are no UTF-8 are replaced.
    pub resource: String,
    /// `changed`, `failed`, …
    pub outcome: String,
    /// The state before.
    pub before: String,
    /// The state after.
    pub after: String,
    /// Why it failed or was skipped.
    pub error: String,
    /// Time spent on it, microseconds.
    pub duration_us: u64,
    /// What a command printed; bytes that are no UTF-8 are replaced.
    pub output: String,
}

/// One run with its results.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReportDetail {
    /// The run.
    pub report: ReportRow,
    /// What became of each resource that was not as wanted.
    pub results: Vec<ResultRow>,
}

/// Who sent a stored report, as which of its own, and whether it is what was sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StoredId {
    /// The origin's host name.
    pub name: String,
    /// Incarnation of its outbox, hexadecimal.
    #[serde(with = "hexadecimal")]
    pub epoch: u64,
    /// Its number there.
    pub seq: u64,
    /// `Report::digest` of what the result store has of it; a master that is older than this
    /// field tells none.
    #[serde(default)]
    pub digest: Option<NonZeroU32>,
}

/// Some ids, in the order in which they were stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IdsPage {
    /// The ids.
    pub ids: Vec<StoredId>,
    /// There may be more behind this.
    pub next: Option<i64>,
}

/// One name that was claimed from two addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Conflict {
    /// The name.
    pub name: String,
    /// The address that its messages are expected from.
    pub expected: String,
    /// The address that one came from.
    pub found: String,
    /// When that was last seen, milliseconds since 1970.
    pub last_ms: u64,
    /// How often.
    pub count: u64,
}

/// How far a push has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PushProgress {
    /// Hosts to be reached.
    pub targets: u64,
    /// Being dialled or answered now.
    pub in_flight: u64,
    /// Hosts that have their assignment.
    pub done: u64,
    /// Hosts that could not be reached.
    pub failed: u64,
}

/// A host that a push did not reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushFailure {
    /// The host.
    pub host: String,
    /// Why.
    pub reason: String,
}

/// How a push ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PushResult {
    /// The revision that was pushed.
    pub revision: u64,
    /// Hosts to be reached.
    pub targets: u64,
    /// Hosts that have their assignment.
    pub done: u64,
    /// Hosts that could not be reached.
    pub failed: u64,
    /// The first of them, at most 1,000.
    pub failures: Vec<PushFailure>,
}

/// A piece of the answer to a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PushPiece {
    /// It goes on.
    Progress(PushProgress),
    /// It has ended.
    Result(PushResult),
}

/// One step on the way to a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeStep {
    /// `resolve`, `dial`, `version`, `revision`.
    pub name: String,
    /// Whether it succeeded.
    pub ok: bool,
    /// What was found, or why it failed.
    pub detail: String,
}

/// The way to one host, up to the first step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Probed {
    /// The steps in their order.
    pub steps: Vec<ProbeStep>,
}

/// A release was loaded, and its push has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Its revision.
    pub revision: u64,
    /// Hosts that it is being pushed to.
    pub targets: u64,
}

/// How full the inbox is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QueueStat {
    /// Its directory.
    pub path: String,
    /// Its incarnation, hexadecimal.
    #[serde(with = "hexadecimal")]
    pub epoch: u64,
    /// Records in it.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Smallest log number.
    pub first: u64,
    /// The number that the next record will have.
    pub next: u64,
    /// When the oldest arrived, milliseconds since 1970.
    pub oldest_ms: Option<u64>,
    /// Bytes at which senders are told to wait.
    pub bytes_high: u64,
    /// Bytes that it may take at most.
    pub quota_bytes: u64,
    /// Records set aside because they could not be read.
    pub quarantined: u64,
}

/// What a look at all of the inbox has found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QueueVerified {
    /// Its directory.
    pub path: String,
    /// Whether the pages of its file were looked over; not while the master runs.
    pub pages_checked: bool,
    /// Records in it.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, records that are no whole messages.
    pub damaged: u64,
    /// The first of them, at most 100.
    pub damaged_first: Vec<DamagedRecord>,
    /// Records that were set aside before.
    pub quarantined: u64,
}

/// A record that is no whole message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedRecord {
    /// Its log number.
    pub seq: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// One record of the inbox.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QueueRecord {
    /// Its log number.
    pub seq: u64,
    /// When it arrived, milliseconds since 1970.
    pub arrived_ms: u64,
    /// What it is, or why it cannot be read.
    pub kind: String,
    /// Who first sent it.
    pub origin: String,
    /// Incarnation of the origin's outbox, hexadecimal.
    #[serde(with = "hexadecimal")]
    pub origin_epoch: u64,
    /// The origin's number.
    pub origin_seq: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Why it was set aside; `None` if it was not.
    pub reason: Option<String>,
}

/// Some records of the inbox, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QueuePage {
    /// The records.
    pub records: Vec<QueueRecord>,
    /// There may be more from this log number on.
    pub next: Option<u64>,
}

/// 64 random bits as text: many JSON readers keep only 53 bits of a number.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    pub(super) fn serialize<S: Serializer>(bits: &u64, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format!("{bits:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
        let text = String::deserialize(d)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}
