//! How the master is: for its operator, and for anybody who asks over the wire.

use super::hosts::CLOCK_SKEW_MAX_MS;
use super::role::{Effect, MasterRole, VERSION};
use crate::control::Status;
use engine::ids::Revision;
use engine::node::Context;
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
    if let Some(inbox) = &node.inbox {
        all.insert("quarantined".into(), inbox.quarantined());
    }
    all.insert("identity_conflict".into(), role.hosts().conflicts);
    all
}

fn warnings(role: &MasterRole, cx: &Context<'_, Effect>, silent: u64, skewed: u64) -> Vec<String> {
    let published = role.hosts().published();
    let now = cx.now.wall.0;
    let mut warnings = Vec::new();
    if published.revision == Revision(0) {
        warnings.push("nothing has been published yet: run `drover publish`".to_owned());
    } else if published.expires.0 <= now {
        warnings.push(
            "the assignments have expired: clients that do not hold them yet refuse them; run `drover publish --force`"
                .to_owned(),
        );
    } else if (published.expires.0 - now) * LIFE_LEFT_SHARE
        < published.expires.0.saturating_sub(published.issued.0)
    {
        let days = (published.expires.0 - now) / 86_400_000;
        warnings.push(format!(
            "the assignments expire in {days} days: run `drover publish --force` to renew them before that"
        ));
    }
    if skewed > 0 {
        let limit = CLOCK_SKEW_MAX_MS / 1000;
        warnings.push(format!(
            "the clocks of {skewed} hosts are off by more than {limit} s: `drover hosts` shows which; expiry is judged by them"
        ));
    }
    if silent > 0 {
        warnings.push(format!("{silent} hosts are silent: `drover hosts --silent` lists them"));
    }
    let conflicts = role.hosts().conflicts;
    if conflicts > 0 {
        warnings.push(format!("names were claimed from two addresses {conflicts} times: look for cloned or misnamed hosts"));
    }
    if let Some(inbox) = &cx.node.inbox {
        let quarantined = inbox.quarantined();
        if quarantined > 0 {
            warnings.push(format!(
                "{quarantined} damaged records of the inbox were set aside: `drover queue dump --quarantined` shows them"
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
        warnings.push(format!("reports wait in the inbox: {}", role.sink_error));
    }
    warnings
}

/// The answer to `drover status`.
pub(super) fn answer(role: &MasterRole, cx: &Context<'_, Effect>) -> Status {
    let hosts = role.hosts();
    let published = hosts.published();
    let (hosts_current, hosts_silent, skewed) = hosts.counts(role.silent_since(cx.now.wall));
    let depth = cx.node.inbox.as_ref().map(|inbox| inbox.depth()).unwrap_or_default();
    Status {
        name: cx.node.name.to_string(),
        version: VERSION.to_owned(),
        revision: published.revision.0,
        issued_ms: published.issued.0,
        expires_ms: published.expires.0,
        uptime_ms: u64::try_from(role.uptime(cx.now.at).as_millis()).unwrap_or(u64::MAX),
        hosts_known: hosts.count() as u64,
        hosts_current,
        hosts_silent,
        inbox_records: depth.waiting,
        inbox_bytes: depth.bytes,
        sink_cursor: role.sink_cursor,
        connections: role.metrics().connections.value(),
        loop_lag_p99_us: u64::try_from(role.metrics().lag.quantile(0.99).as_micros())
            .unwrap_or(u64::MAX),
        warnings: warnings(role, cx, hosts_silent, skewed),
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
    }
}
