//! Which parent a client delivers to: ask a master picked at random, keep the parent that the
//! answer came through until it cannot be reached, then ask anew.

use super::backoff::Backoff;
use crate::time::Instant;
use std::net::SocketAddr;
use std::time::Duration;

/// First and longest wait for a `BindResp` before asking again: the request may have been lost
/// with a master that died. The first is long enough for a crowd to be answered. The parent that
/// took the `BindReq` serves meanwhile: a master that cannot dial us still takes our reports.
pub const ASK_AGAIN: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(600));

/// Where the binding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// No parent; an address is being sought.
    Unbound,
    /// A `BindReq` goes, or has gone, to this address.
    Asked {
        /// The address.
        parent: SocketAddr,
        /// The nonce in it.
        nonce: u64,
        /// When to ask again.
        until: Instant,
    },
    /// The answer has come.
    Bound {
        /// The parent.
        parent: SocketAddr,
    },
}

impl Binding {
    /// Where messages go now.
    #[must_use]
    pub fn parent(&self) -> Option<SocketAddr> {
        match *self {
            Self::Unbound => None,
            Self::Asked { parent, .. } | Self::Bound { parent } => Some(parent),
        }
    }

    /// Picks one of these addresses evenly, another than `failed` if there is one.
    #[must_use]
    pub fn pick(
        addresses: &[SocketAddr],
        failed: Option<SocketAddr>,
        rng: &mut fastrand::Rng,
    ) -> Option<SocketAddr> {
        let fresh: Vec<_> = addresses.iter().filter(|a| Some(**a) != failed).collect();
        if fresh.is_empty() { rng.choice(addresses).copied() } else { rng.choice(fresh).copied() }
    }

    /// An answer with this nonce has come; whether it is the one waited for.
    pub fn answered(&mut self, nonce: u64) -> bool {
        match *self {
            Self::Asked { parent, nonce: asked, .. } if asked == nonce => {
                *self = Self::Bound { parent };
                true
            }
            _ => false,
        }
    }
}
