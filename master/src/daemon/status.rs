//! How the master is: for its operator, and for anybody who asks over the wire.

use super::claims::Claim;
use super::hosts::{CLOCK_SKEW_MAX_MS, HostCounts};
use super::role::{Effect, MasterRole, VERSION};
use crate::control::Status;
use crate::table::words::{plural, span};
use engine::ids::Revision;
use engine::node::Context;
use engine::time::WallMs;
use engine::wire::message::StatusResp;
use std::collections::BTreeMap;

/// Warn when less than this share of an assignment's life is left: one fifth.
const LIFE_LEFT_SHARE: u64 = 5;

fn counters(role: &MasterRole, cx: &Context<'_, Effect>) -> BTreeMap<String, u64> {
    let node = &cx.node;
    let mut all: BTreeMap<String, u64> = role.metrics().snapshot().into_iter().collect();
    all.extend(role.store_metrics().named().map(|(name, n)| (name.to_owned(), n)));
    all.extend(node.counters.named().map(|(name, n)| (name.to_owned(), n)));
    if let Some(server) = &node.server {
        all.extend(server.counters().named().map(|(name, n)| (name.to_owned(), n)));
    }
    if let Some(down) = &node.downstream {
        all.insert("dials_in_flight".into(), down.in_flight() as u64);
        all.insert("dials_queued".into(), down.queued() as u64);
    }
    all.extend(node.connections_by_use().map(|(name, n)| (name.to_owned(), n)));
    if let Some(inbox) = &node.inbox {
        all.insert("quarantined".into(), inbox.quarantined());
        all.insert("inbox_uncommitted".into(), inbox.uncommitted() as u64);
        all.insert("inbox_parked".into(), inbox.parked() as u64);
        all.insert("inbox_waiting".into(), inbox.depth().waiting);
    }
    all.insert("identity_conflict".into(), role.hosts().claims().count);
    all.insert("load_tests".into(), role.allows_load_tests().into());
    all
}

/// Whether less than a fifth of a life is left. Times are what a file says: any number.
fn is_near_its_end(issued: WallMs, expires: WallMs, now: WallMs) -> bool {
    let left = expires.0.saturating_sub(now.0);
    left.saturating_mul(LIFE_LEFT_SHARE) < expires.0.saturating_sub(issued.0)
}

fn warnings(role: &MasterRole, cx: &Context<'_, Effect>, hosts: &HostCounts) -> Vec<String> {
    let HostCounts { silent, skewed, failing, ahead, held_max, .. } = *hosts;
    let published = role.hosts().published();
    let now = cx.now.wall.0;
    let mut warnings = Vec::new();
    if role.is_stopping() {
        warnings
            .push("the master is stopping: it ends once what is under way has ended".to_owned());
    }
    warnings.extend(role.places().warnings(role.metrics(), cx.now.at));
    if published.revision == Revision(0) {
        warnings.push("nothing has been published yet: run `drover publish`".to_owned());
    } else if published.expires.0 <= now {
        warnings.push(
            "the assignments have expired: clients that do not hold them yet refuse them; run `drover publish --force`"
                .to_owned(),
        );
    } else if is_near_its_end(published.issued, published.expires, cx.now.wall) {
        let left = span(published.expires.0 - now);
        warnings.push(format!(
            "the assignments expire in {left}: run `drover publish --force` to renew them before that"
        ));
    }
    warnings.extend(role.unloaded());
    let unreadable: Vec<_> = cx.node.server.iter().flat_map(|s| s.unreadable()).collect();
    if let Some(first) = unreadable.first() {
        let blobs = plural(unreadable.len() as u64, "blob is", "blobs are");
        warnings.push(format!(
            "{blobs} missing or damaged in the state directory (first: {first}), and hosts cannot fetch what they need: `drover publish` writes it again"
        ));
    }
    if ahead > 0 {
        let above = held_max.0.saturating_add(1);
        warnings.push(format!(
            "{} a later revision than {}, which is published, and refuse it: was a backup restored? Run `drover publish --revision-min {above}`",
            plural(ahead, "host holds", "hosts hold"), published.revision
        ));
    }
    if skewed > 0 {
        let limit = CLOCK_SKEW_MAX_MS / 1000;
        warnings.push(format!(
            "{} off by more than {limit} s: `drover hosts` shows which; expiry is judged by them",
            if skewed == 1 {
                "the clock of 1 host is".to_owned()
            } else {
                format!("the clocks of {skewed} hosts are")
            }
        ));
    }
    if silent > 0 {
        let silent = plural(silent, "host is", "hosts are");
        warnings.push(format!("{silent} silent: `drover hosts --silent` lists them"));
    }
    if failing > 0 {
        let tell = plural(failing, "host tells", "hosts tell");
        warnings.push(format!("{tell} of an error: `drover hosts --failed` shows which"));
    }
    warnings.extend(role.strangers.warning(cx.now.at));
    if let Some(Claim { name, key }) = role.hosts().claims().last() {
        let times = plural(role.hosts().claims().count, "time", "times");
        warnings.push(format!(
            "names were claimed from two addresses {times}, last {name}, which is {}, from {}: look for cloned or misnamed hosts, or give the name all its addresses",
            key.expected, key.found
        ));
    }
    if let Some(inbox) = &cx.node.inbox {
        let quarantined = inbox.quarantined();
        if quarantined > 0 {
            warnings.push(format!(
                "{} set aside: `drover queue dump --quarantined` shows them",
                plural(
                    quarantined,
                    "damaged record of the inbox was",
                    "damaged records of the inbox were"
                )
            ));
        }
        if let Some(error) = inbox.store_error() {
            warnings.push(format!("no reports are accepted: {error}"));
        } else if inbox.is_busy() {
            warnings.push(
                "the inbox is full up to inbox_bytes_high: clients keep their reports until the result store has caught up"
                    .to_owned(),
            );
        }
    }
    if !role.sink_error.is_empty() {
        let waiting = cx.node.inbox.as_ref().map_or(0, |inbox| inbox.depth().waiting);
        let what = match waiting {
            0 => "the result store cannot be written",
            _ => "reports wait in the inbox",
        };
        warnings.push(format!("{what}: {}", role.sink_error));
    }
    warnings
}

/// The answer to `drover status`.
pub(super) fn answer(role: &MasterRole, cx: &Context<'_, Effect>) -> Status {
    let hosts = role.hosts();
    let published = hosts.published();
    let counts = hosts.counts(role.silent_since(cx.now.wall));
    let depth = cx.node.inbox.as_ref().map(|inbox| inbox.depth()).unwrap_or_default();
    Status {
        name: cx.node.name.to_string(),
        version: VERSION.to_owned(),
        revision: published.revision.0,
        issued_ms: published.issued.0,
        expires_ms: published.expires.0,
        uptime_ms: u64::try_from(role.uptime(cx.now.at).as_millis()).unwrap_or(u64::MAX),
        hosts_known: hosts.count() as u64,
        hosts_current: counts.current,
        hosts_silent: counts.silent,
        hosts_ahead: counts.ahead,
        inbox_records: depth.waiting,
        inbox_bytes: depth.bytes,
        sink_cursor: role.sink_cursor,
        connections: role.metrics().connections.value(),
        loop_lag_p99_us: u64::try_from(role.metrics().lag.quantile(0.99).as_micros())
            .unwrap_or(u64::MAX),
        warnings: warnings(role, cx, &counts),
        counters: counters(role, cx),
    }
}

/// The answer to `StatusReq`, which anybody may ask: no host's name is in it but our own.
pub(super) fn public(role: &MasterRole, cx: &Context<'_, Effect>) -> StatusResp {
    StatusResp {
        name: cx.node.name.to_string(),
        role: "master".to_owned(),
        version: VERSION.to_owned(),
        revision: role.hosts().published().revision.0,
        bound: String::new(),
        uptime_ms: u64::try_from(role.uptime(cx.now.at).as_millis()).unwrap_or(u64::MAX),
        counters: counters(role, cx).into_iter().collect(),
        last_error: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_part_of_a_life_is_warned_of() {
        let near = |now| is_near_its_end(WallMs(0), WallMs(1_000), WallMs(now));
        let all = 1_000 / LIFE_LEFT_SHARE;
        assert!(!near(0) && !near(1_000 - all) && near(1_001 - all) && near(2_000));
        // What lasts for ever is never near its end.
        assert!(!is_near_its_end(WallMs(0), WallMs(u64::MAX), WallMs(1_800_000_000_000)));
    }
}
