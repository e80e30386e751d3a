//! `drover-client status`: what the running daemon says, and what lies on the disk.

use super::{CliResult, EXIT_NOT_RUNNING, Options};
use crate::config::{Config, ConfigError};
use crate::daemon::{self, StatusFile};
use crate::enforcer::LastRun;
use engine::blocking::{BlockingError, Connection};
use engine::config::format_duration;
use engine::logging::printable_lines;
use engine::node::io::CloseReason;
use engine::queue::lmdb;
use engine::queue::store::StoreError;
use engine::release::TrustedKeys;
use engine::wire::message::{ArchivedStatusResp, StatusReq, StatusResp};
use engine::wire::{FrameBuf, access};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// The daemon answers within moments, also while it applies something.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Of what the daemon has in hand, so much is named.
const IN_HAND_SHOWN_MAX: usize = 5;

fn whole_seconds(ms: u64) -> String {
    format_duration(Duration::from_secs(ms / 1000))
}

/// What the running daemon says of itself.
#[derive(Debug, Serialize)]
struct DaemonView {
    version: String,
    /// Its parent.
    bound: Option<String>,
    uptime_ms: u64,
    held_revision: u64,
    /// What it has in hand, and for how many milliseconds.
    in_hand_ms: BTreeMap<String, u64>,
    counters: BTreeMap<String, u64>,
    /// What is wrong now; empty if nothing is known.
    last_error: String,
}

impl DaemonView {
    fn of(status: &ArchivedStatusResp) -> Self {
        let counters = status.counters.iter();
        let counters = counters.map(|c| (c.0.to_string(), c.1.to_native()));
        let in_hand = |name: &str| name.strip_prefix(daemon::IN_HAND).map(str::to_owned);
        let (in_hand_ms, counters): (Vec<_>, Vec<_>) =
            counters.partition(|(name, _)| in_hand(name).is_some());
        let named = |(name, ms): (String, u64)| (in_hand(&name).unwrap_or_default(), ms);
        Self {
            version: status.version.to_string(),
            bound: (!status.bound.is_empty()).then(|| status.bound.to_string()),
            uptime_ms: status.uptime_ms.to_native(),
            held_revision: status.revision.to_native(),
            in_hand_ms: in_hand_ms.into_iter().map(named).collect(),
            counters: counters.into_iter().collect(),
            last_error: status.last_error.to_string(),
        }
    }

    /// What it has in hand, in words; empty if nothing.
    fn in_hand(&self) -> String {
        let shown = self.in_hand_ms.iter().take(IN_HAND_SHOWN_MAX);
        let mut words: Vec<String> =
            shown.map(|(what, ms)| format!("{what} ({} so far)", whole_seconds(*ms))).collect();
        match self.in_hand_ms.len().saturating_sub(IN_HAND_SHOWN_MAX) {
            0 => {}
            more => words.push(format!("{more} more")),
        }
        words.join(", ")
    }

    /// What is not as wanted now, whatever the last run found.
    fn warnings(&self) -> Vec<String> {
        let unsettled = match self.count("unsettled") {
            0 => None,
            1 => Some("1 resource is not as wanted".to_owned()),
            n => Some(format!("{n} resources are not as wanted")),
        };
        let error = (!self.last_error.is_empty()).then(|| self.last_error.clone());
        unsettled.into_iter().chain(error).collect()
    }

    fn stopping(&self) -> String {
        match self.in_hand() {
            none if none.is_empty() => "stopping".to_owned(),
            what => format!(
                "stopping: waits for {what}, at most {} more",
                whole_seconds(self.count("stop_left_ms"))
            ),
        }
    }

    fn count(&self, counter: &str) -> u64 {
        self.counters.get(counter).copied().unwrap_or_default()
    }
}

/// `None` if no daemon runs.
fn ask(socket: &Path) -> Result<Option<DaemonView>, BlockingError> {
    let mut daemon = match Connection::connect_unix(socket, ANSWER_TIMEOUT) {
        Err(BlockingError::Connect {
            reason: CloseReason::Refused | CloseReason::Os(libc::ENOENT),
            ..
        }) => return Ok(None),
        connected => connected?,
    };
    let request = FrameBuf::message(None, &StatusReq { detail: 0 }, |_| {});
    let answer = daemon.request::<StatusResp>(&request)?;
    match access::<StatusResp>(&answer.frame()) {
        Ok(status) => Ok(Some(DaemonView::of(status))),
        Err(error) => Err(BlockingError::Wire { peer: socket.display().to_string(), error }),
    }
}

/// The reports that wait for the master.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct OutboxView {
    records: u64,
    bytes: u64,
}

impl OutboxView {
    /// As the daemon says, or as the disk has it where none runs; `None` if there is none yet.
    fn read(config: &Config, daemon: Option<&DaemonView>) -> Result<Option<Self>, StoreError> {
        if let Some(daemon) = daemon {
            let (records, bytes) = (daemon.count("outbox_records"), daemon.count("outbox_bytes"));
            return Ok(Some(Self { records, bytes }));
        }
        let stat = lmdb::stat_unowned(&config.outbox_dir())?;
        Ok(stat.map(|stat| Self { records: stat.records, bytes: stat.bytes }))
    }
}

/// All that is shown.
#[derive(Debug, Serialize)]
struct StatusView {
    name: String,
    master: Vec<String>,
    running: bool,
    /// Why it cannot be told how the daemon is.
    daemon_error: Option<String>,
    daemon: Option<DaemonView>,
    /// Whether all was as wanted after the last run, and nothing is known to be wrong since.
    converged: bool,
    held_revision: Option<u64>,
    /// Why there is no assignment to enforce.
    assignment_error: Option<String>,
    last_run: Option<LastRun>,
    last_run_error: Option<String>,
    /// The daemon's, or what the last one left on the disk.
    outbox: Option<OutboxView>,
    /// Why it cannot be told what waits.
    outbox_error: Option<String>,
}

/// The last run as it was written, unless the daemon knows of a later one that it could not write.
fn newest_run(
    written: Option<LastRun>,
    daemon: Option<&DaemonView>,
) -> (Option<LastRun>, Option<String>) {
    let known = daemon.map_or(0, |daemon| daemon.count("last_run_ms"));
    let Some(daemon) = daemon.filter(|_| known > written.as_ref().map_or(0, |run| run.started_ms))
    else {
        return (written, None);
    };
    let [checked, changed, failed] =
        ["last_checked", "last_changed", "last_failed"].map(|name| daemon.count(name));
    let text = format!(
        "{checked} checked, {changed} changed, {failed} failed; it cannot be written to status.json: the daemon's log says why"
    );
    (None, Some(text))
}

impl StatusView {
    fn read(config: &Config) -> Self {
        let (daemon, daemon_error) = match ask(&daemon::control_socket(config)) {
            Ok(daemon) => (daemon, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let (held, assignment_error) = match config.stored_assignment() {
            Ok(assignment) => (Some(assignment.revision), None),
            // Where a daemon runs, the next poll brings one.
            Err(ConfigError::NoAssignment { .. }) if daemon.is_some() => (None, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let (last_run, last_run_error) = match StatusFile::of(config).read() {
            Ok(left) => newest_run(left.map(|left| left.last_run), daemon.as_ref()),
            Err(error) => (None, Some(error)),
        };
        let (outbox, outbox_error) = match OutboxView::read(config, daemon.as_ref()) {
            Ok(outbox) => (outbox, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let is_well = daemon.as_ref().is_none_or(|daemon| daemon.warnings().is_empty());
        Self {
            converged: is_well && last_run.as_ref().is_some_and(|last| last.converged),
            name: config.name.to_string(),
            master: config.master.clone(),
            running: daemon.is_some(),
            daemon_error,
            daemon,
            held_revision: held,
            assignment_error,
            last_run,
            last_run_error,
            outbox,
            outbox_error,
        }
    }

    fn is_unknown(&self) -> bool {
        self.daemon.as_ref().is_some_and(|daemon| daemon.count("not_in_inventory") > 0)
    }

    fn daemon_line(&self) -> String {
        match (&self.daemon, &self.daemon_error) {
            (Some(daemon), _) => {
                let up = whole_seconds(daemon.uptime_ms);
                let parent = match &daemon.bound {
                    Some(parent) => format!("bound to {parent}"),
                    None if self.is_unknown() => "bound to no master".to_owned(),
                    None if daemon.count("unheard_ms") > 0 => {
                        "bound to no master: none has dialled back".to_owned()
                    }
                    None => "no master can be reached".to_owned(),
                };
                let state = match daemon.count("stopping") {
                    0 => format!("running for {up}"),
                    _ => daemon.stopping(),
                };
                format!("{state}, version {}, {parent}", daemon.version)
            }
            (None, Some(error)) => format!("unknown: {error}"),
            (None, None) => "not running; start it with `drover-client run`".to_owned(),
        }
    }

    fn to_text(&self) -> String {
        let held = match (self.held_revision, &self.assignment_error) {
            (Some(revision), _) => format!("revision {revision}"),
            (None, Some(error)) => error.clone(),
            (None, None) if self.is_unknown() => "none".to_owned(),
            (None, None) => "none yet; the daemon asks for one at its next poll".to_owned(),
        };
        let last = match (&self.last_run, &self.last_run_error) {
            (Some(l), _) => {
                let state = match l.converged {
                    true if self.converged => "converged",
                    true => "converged then",
                    false => "not converged",
                };
                let interrupted = match l.interrupted {
                    0 => String::new(),
                    n => format!(", {n} interrupted"),
                };
                format!(
                    "revision {}, {state}: {} checked, {} changed, {} failed{interrupted}",
                    l.revision, l.checked, l.changed, l.failed
                )
            }
            (None, Some(error)) => error.clone(),
            (None, None) => "none yet".to_owned(),
        };
        let mut text = format!(
            "name:       {}\ndaemon:     {}\nassignment: {held}\nlast run:   {last}\n",
            self.name,
            self.daemon_line()
        );
        if let Some(daemon) = &self.daemon
            && daemon.count("running") > 0
        {
            let in_hand = match daemon.in_hand() {
                none if none.is_empty() => none,
                what => format!("; in hand: {what}"),
            };
            let done = match (daemon.count("running_done"), daemon.count("running_total")) {
                (_, 0) => "begins".to_owned(),
                (done, total) => format!("{done} of {total} resources are done"),
            };
            let revision = daemon.count("revision_assigned");
            let _ = writeln!(text, "now:        applies revision {revision}: {done}{in_hand}");
        }
        let outbox = match (&self.outbox, &self.outbox_error) {
            (Some(OutboxView { records, bytes }), _) => {
                format!("{records} reports of {bytes} bytes wait")
            }
            (None, Some(error)) => error.clone(),
            (None, None) => "none yet".to_owned(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "outbox:     {outbox}");
        if let Some(daemon) = &self.daemon {
            for warning in daemon.warnings() {
                let _ = writeln!(text, "warning: {warning}");
            }
            if self.is_unknown() {
                let _ = writeln!(
                    text,
                    "warning: the master {} does not have `{}` in its inventory: add it to hosts.yaml and publish, or set `name`",
                    self.master.join(", "),
                    self.name
                );
            }
            let unheard = Duration::from_millis(daemon.count("unheard_ms"));
            if unheard >= daemon::DIAL_BACK_MAX {
                let _ =
                    writeln!(text, "warning: {}", daemon::not_dialled_back(&self.name, unheard));
            }
            if daemon.count("behind") > 0 {
                text += "warning: the master has a newer assignment, but cannot dial this host; check its name service and the firewall\n";
            }
        }
        printable_lines(&text)
    }
}

/// Shows how this client is.
pub(super) fn run(options: &Options) -> CliResult<ExitCode> {
    let config = options.read_config()?;
    let view = StatusView::read(&config);
    let text = match options.json {
        true => serde_json::to_string_pretty(&view)? + "\n",
        false => view.to_text(),
    };
    if config.trusted_keys == TrustedKeys::Unchecked {
        writeln!(io::stderr(), "drover-client: {}", daemon::UNCHECKED)?;
    }
    io::stdout().write_all(text.as_bytes())?;
    Ok(match view.running {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(EXIT_NOT_RUNNING),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::queue::lmdb::{LmdbConfig, LmdbStore};
    use engine::queue::store::{Batch, StoreCommand};

    fn shown(in_hand: &[(&str, u64)], counters: &[(&str, u64)]) -> String {
        let map = |of: &[(&str, u64)]| of.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect();
        let daemon = DaemonView {
            version: "1.0.0".to_owned(),
            bound: None,
            uptime_ms: 600_000,
            held_revision: 0,
            in_hand_ms: map(in_hand),
            counters: map(counters),
            last_error: String::new(),
        };
        let view = StatusView {
            name: "web-1".to_owned(),
            master: vec!["m".to_owned()],
            running: true,
            daemon_error: None,
            daemon: Some(daemon),
            converged: false,
            held_revision: None,
            assignment_error: None,
            last_run: None,
            last_run_error: None,
            outbox: None,
            outbox_error: None,
        };
        view.to_text()
    }

    #[test]
    fn without_a_daemon_the_disk_tells_how_many_reports_wait() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("name = 'web-1'\nstate_dir = {:?}\n", dir.path());
        let config = Config::parse(&text, Path::new("client.toml")).unwrap();
        let seen = || {
            let view = StatusView::read(&config);
            (view.to_text(), serde_json::to_value(&view).unwrap()["outbox"].clone())
        };
        let (text, json) = seen();
        assert!(text.contains("\noutbox:     none yet\n"), "{text}");
        assert!(json.is_null(), "{json}");
        let (mut store, _) = LmdbStore::open(LmdbConfig::new(config.outbox_dir())).unwrap();
        let mut batch = Batch { first: 1, ..Batch::default() };
        [&b"one"[..], b"three"].iter().for_each(|record| batch.push(record));
        store.apply(&StoreCommand::Write(batch));
        drop(store);
        let (text, json) = seen();
        assert!(text.contains("\noutbox:     2 reports of 8 bytes wait\n"), "{text}");
        assert_eq!(json, serde_json::json!({ "records": 2, "bytes": 8 }));
        std::fs::write(config.outbox_dir().join("data.mdb"), "damaged").unwrap();
        let (text, json) = seen();
        assert!(text.contains("\noutbox:     the queue in "), "{text}");
        assert!(json.is_null(), "{json}");
    }

    #[test]
    fn who_is_not_dialled_back_learns_what_to_look_at() {
        let early = shown(&[], &[("unheard_ms", 20_000)]);
        assert!(early.contains("bound to no master: none has dialled back"), "{early}");
        assert!(!early.contains("warning"), "{early}");
        let late = shown(&[], &[("unheard_ms", 120_500)]);
        let warning =
            "warning: the master takes what this client sends, and has not dialled back for 2m: ";
        assert!(late.contains(warning), "{late}");
        assert!(late.contains("run `drover probe web-1` at the master"), "{late}");
    }

    #[test]
    fn a_stop_names_what_it_waits_for() {
        let stopping = [("stopping", 1), ("stop_left_ms", 240_000)];
        let text = shown(&[("exec slow", 60_900)], &stopping);
        assert!(
            text.contains("stopping: waits for exec slow (1m so far), at most 4m more, version")
        );
        assert!(shown(&[], &stopping).contains("daemon:     stopping, version"));
        let many: Vec<String> = (0..7).map(|n| format!("exec {n}")).collect();
        let many: Vec<(&str, u64)> = many.iter().map(|id| (id.as_str(), 1000)).collect();
        let text = shown(&many, &[("running", 1), ("running_total", 9)]);
        assert!(text.contains("0 of 9 resources are done; in hand: exec 0 (1s so far)"), "{text}");
        assert!(text.contains("exec 4 (1s so far), 2 more\n"), "{text}");
    }
}
