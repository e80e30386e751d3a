//! What the client says of itself to who asks.

use super::{ClientRole, Cx, VERSION};
use crate::enforcer::{Action, Activity, EnforcerStatus};
use engine::wire::message::StatusResp;
use std::time::Duration;

/// With a resource behind it, this is a counter of the milliseconds that the client has had that
/// in hand; it is there as long as it has.
pub const IN_HAND: &str = "in_hand ";

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl ClientRole {
    /// Anybody may ask for it over the network: only who is `local` learns what is managed here.
    pub(super) fn status(&self, enforcer: &EnforcerStatus, local: bool, cx: &Cx<'_>) -> StatusResp {
        let last = enforcer.last_run.clone().unwrap_or_default();
        let (running, done, total) = match enforcer.activity {
            Activity::Running { done, total, .. } => (true, done, total),
            _ => (false, 0, 0),
        };
        let stop_left_ms = match enforcer.activity {
            Activity::Stopping { left_ms } => left_ms,
            _ => 0,
        };
        let own = [
            ("revision_assigned", enforcer.assigned_revision),
            ("revision_applied", self.applied.0),
            ("runs", self.runs),
            ("stopping", u64::from(self.stopping)),
            ("stop_left_ms", stop_left_ms),
            ("running", u64::from(running)),
            ("running_done", done as u64),
            ("running_total", total as u64),
            ("heals", enforcer.heals),
            ("unsettled", enforcer.unsettled as u64),
            ("last_run_ms", last.started_ms),
            ("last_checked", u64::from(last.checked)),
            ("last_changed", last.changed as u64),
            ("last_failed", last.failed as u64),
            ("last_skipped", last.skipped as u64),
            ("behind", u64::from(self.behind)),
            ("unheard_ms", self.dial_back.unheard_for(cx.now.at).map_or(0, millis)),
            ("not_in_inventory", u64::from(self.is_unknown)),
            ("reports_folded", self.unsent.reports()),
            ("signatures_unchecked", u64::from(self.is_unchecked())),
        ];
        let mut counters: Vec<_> = own.map(|(name, n)| (name.to_owned(), n)).into();
        let so_far = |action: &Action| cx.now.wall.0.saturating_sub(action.since_ms);
        let actions = enforcer.actions.values().filter(|_| local);
        counters.extend(actions.map(|a| (format!("{IN_HAND}{}", a.id), so_far(a))));
        if let Some(uplink) = &cx.node.uplink {
            let (records, bytes) = uplink.outbox.depth();
            counters.extend([
                ("outbox_records".to_owned(), records),
                ("outbox_bytes".to_owned(), bytes),
            ]);
        }
        counters.extend(self.metrics.snapshot());
        counters.extend(cx.node.counters.named().map(|(name, n)| (name.to_owned(), n)));
        let uptime = self.started.map_or(Duration::ZERO, |started| cx.now.at.since(started));
        StatusResp {
            name: self.name.to_string(),
            role: "client".to_owned(),
            version: VERSION.to_owned(),
            revision: self.held_revision().0,
            bound: self.bound.map(|addr| addr.to_string()).unwrap_or_default(),
            uptime_ms: millis(uptime),
            counters,
            last_error: if local { self.errors() } else { String::new() },
        }
    }
}
