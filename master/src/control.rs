//! What commands and the daemon say to each other over the control socket: a verb and a JSON
//! object there (`ControlReq`), one or more pieces of JSON back (`ControlResp`).

pub mod answer;
mod call;

pub use answer::{
    Conflict, ControlError, DamagedRecord, HostRow, HostsPage, IdsPage, ProbeStep, Probed,
    Published, PushFailure, PushPiece, PushProgress, PushResult, QueuePage, QueueRecord, QueueStat,
    QueueVerified, ReportDetail, ReportRow, ReportsPage, ResultRow, Status, StoredId,
};
pub use call::{CallError, PIECE_TIMEOUT, ask, call};

use serde::{Deserialize, Serialize};

/// The verbs that a master's daemon knows.
pub mod verb {
    /// How the daemon is: `{}` → [`super::Status`].
    pub const STATUS: &str = "status";
    /// Its hosts: [`super::HostsArgs`] → [`super::HostsPage`].
    pub const HOSTS: &str = "hosts";
    /// Runs of its hosts: [`super::ReportsArgs`] → [`super::ReportsPage`].
    pub const REPORTS: &str = "reports";
    /// One run with its results: [`super::ReportArgs`] → [`super::ReportDetail`].
    pub const REPORT: &str = "report";
    /// Ids and digests of all stored reports: [`super::IdsArgs`] → [`super::IdsPage`].
    pub const IDS: &str = "ids";
    /// Dial hosts with their assignment: [`super::PushArgs`] → any number of
    /// [`super::PushPiece::Progress`], then [`super::PushPiece::Result`]. Closing the
    /// connection cancels it.
    pub const PUSH: &str = "push";
    /// Try the way to one host: [`super::ProbeArgs`] → [`super::Probed`].
    pub const PROBE: &str = "probe";
    /// A new release lies in the state directory: load it and push it;
    /// [`super::PublishedArgs`] → [`super::Published`], at once.
    pub const PUBLISHED: &str = "published";
}

/// Arguments of a verb that has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoArgs {}

/// Arguments of [`verb::HOSTS`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostsArgs {
    /// Only hosts that have not been heard for `silent_after`, or never.
    pub silent: bool,
    /// Go on behind this name: [`HostsPage::next`].
    pub after: Option<String>,
}

/// Arguments of [`verb::REPORTS`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportsArgs {
    /// Only this host's, in the order of its own numbers.
    pub host: Option<String>,
    /// Only runs in which a resource failed or was interrupted.
    pub failed: bool,
    /// Most rows; the daemon gives at most 1,000 at once.
    pub limit: u32,
    /// Only those that arrived at or after this, milliseconds since 1970.
    pub since_ms: Option<u64>,
}

impl Default for ReportsArgs {
    fn default() -> Self {
        Self { host: None, failed: false, limit: 50, since_ms: None }
    }
}

/// Arguments of [`verb::REPORT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportArgs {
    /// [`ReportRow::id`].
    pub id: i64,
}

/// Arguments of [`verb::IDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdsArgs {
    /// Go on behind this: [`IdsPage::next`].
    pub after: Option<i64>,
}

/// Arguments of [`verb::PUSH`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PushArgs {
    /// A host's name or a glob; empty means every host.
    pub selector: String,
}

/// Arguments of [`verb::PROBE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeArgs {
    /// The host's name.
    pub host: String,
}

/// Arguments of [`verb::PUBLISHED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedArgs {
    /// The new release's revision.
    pub revision: u64,
}
