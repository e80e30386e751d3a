//! Every bound that a peer can run into, in one place, with its unit in its name.

use std::time::Duration;

/// Bytes of the fixed header.
pub const HEADER_SIZE: usize = 44;
/// Longest route block: nine names and their lengths fit.
pub const ROUTE_SIZE_MAX: usize = 2 * 1024;
/// Relays a frame may pass; a frame that has passed more is in a loop.
pub const HOPS_MAX: u8 = 8;
/// Raw bytes of a blob in one chunk.
pub const CHUNK_SIZE_MAX: usize = 256 * 1024;
/// Bytes of a manifest, which lists all files of one host: a client reads no longer one, and
/// `drover publish` makes none.
pub const MANIFEST_SIZE_MAX: u64 = 256 * 1024 * 1024;
/// Bytes of a catalog, which has all resources of one host, and of the list of one tree, likewise.
pub const CATALOG_SIZE_MAX: u64 = 512 * 1024 * 1024;

/// Beyond so many connections tables grow: nobody is to run out of memory for a bound alone.
const ROOM_MAX: usize = 1 << 16;

/// Bounds that a node is configured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; beyond it accepting pauses.
    pub connections_max: usize,
    /// Length of the queue of connections not yet accepted.
    pub listen_backlog: u32,
    /// A connect must be done after this.
    pub connect_timeout: Duration,
    /// A frame that has begun to arrive must be whole after this, and one second more for
    /// each [`Limits::rate_min`] bytes of it; progress does not extend it.
    pub frame_timeout: Duration,
    /// Bytes that wait for a slow reader must be gone after this, likewise.
    pub send_timeout: Duration,
    /// A connection on which nothing is expected lives this long.
    pub idle_timeout: Duration,
    /// Slowest peer that is tolerated, in bytes per second.
    pub rate_min: u64,
    /// Bytes read from one connection in one turn.
    pub read_budget: usize,
    /// Requests answered in one turn, of all connections together, and of each at most one: an
    /// answer costs far more than the bytes that ask for it.
    pub requests_budget: usize,
    /// Connections served in one turn, and as many that bring the operator's commands.
    pub events_max: usize,
    /// Connections accepted in one turn: many, since to accept one takes a fraction of what it
    /// brings, and what the kernel's queue has no room for is lost for a second or more.
    pub accepts_max: usize,
    /// Connections written to in one turn: a commit is acked to thousands at once.
    pub writes_max: usize,
    /// Connections at once from one address (IPv6: one /64); who dials beyond it is told when to
    /// come back. As many as `connections_max`, or more: no share of its own.
    pub connections_per_source: usize,
    /// Mixed into where a source is counted, so that nobody can choose an address that shares
    /// another's count.
    pub source_seed: u64,
    /// Bytes of frames that are not whole yet, of all connections together; beyond it those give
    /// way that began first.
    pub unfinished_bytes_max: usize,
    /// Bytes that may wait to be sent on one connection before its node is told to stop.
    pub send_bytes_high: usize,
}

impl Limits {
    /// Connections that tables have room for from the start: they do not grow under load, which
    /// would move all that is in them.
    #[must_use]
    pub fn room(&self) -> usize {
        self.connections_max.min(ROOM_MAX)
    }

    /// Time that the slowest tolerated peer takes for this many bytes.
    #[must_use]
    pub fn time_for(&self, bytes: usize) -> Duration {
        Duration::from_secs(bytes as u64 / self.rate_min.max(1))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 16_000,
            listen_backlog: 4096,
            connect_timeout: Duration::from_secs(10),
            frame_timeout: Duration::from_secs(30),
            send_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            rate_min: 4 * 1024,
            read_budget: 64 * 1024,
            requests_budget: 16,
            events_max: 64,
            accepts_max: 256,
            writes_max: 256,
            connections_per_source: usize::MAX,
            source_seed: 0,
            unfinished_bytes_max: 256 * 1024 * 1024,
            send_bytes_high: 512 * 1024,
        }
    }
}
