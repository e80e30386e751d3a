//! Which parent a client delivers to: ask a master picked at random, keep the parent that the
//! answer came through until it cannot be reached, then ask anew.

use crate::time::Instant;
use std::net::SocketAddr;
use std::time::Duration;

/// How long to wait for a `BindResp` before asking again. The parent that took the `BindReq`
/// serves meanwhile: a master that cannot dial us still takes our reports.
pub const ANSWER_WAIT: Duration = Duration::from_secs(60);

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

    /// Asks this address.
    #[must_use]
    pub fn asked(parent: SocketAddr, rng: &mut fastrand::Rng, now: Instant) -> (Self, u64) {
        let nonce = rng.u64(1..);
        (Self::Asked { parent, nonce, until: now + ANSWER_WAIT }, nonce)
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
