//! Why a connection ended: from what the operating system said to a word for logs and metrics.

use crate::node::io::CloseReason;
use std::fmt;
use std::io;

impl CloseReason {
    /// Every label, in the order of [`CloseReason::index`].
    pub const LABELS: [&'static str; 17] = [
        "done",
        "peer_closed",
        "truncated",
        "reset",
        "refused",
        "unreachable",
        "connect_timeout",
        "frame_timeout",
        "send_timeout",
        "answer_timeout",
        "idle_timeout",
        "protocol",
        "exhausted",
        "handler",
        "stopping",
        "os",
        "crowded",
    ];

    /// Its place in [`CloseReason::LABELS`].
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            CloseReason::Done => 0,
            CloseReason::PeerClosed => 1,
            CloseReason::Truncated => 2,
            CloseReason::Reset => 3,
            CloseReason::Refused => 4,
            CloseReason::Unreachable => 5,
            CloseReason::ConnectTimeout => 6,
            CloseReason::FrameTimeout => 7,
            CloseReason::SendTimeout => 8,
            CloseReason::AnswerTimeout => 9,
            CloseReason::IdleTimeout => 10,
            CloseReason::Protocol(_) => 11,
            CloseReason::Exhausted => 12,
            CloseReason::Handler => 13,
            CloseReason::Stopping => 14,
            CloseReason::Os(_) => 15,
            CloseReason::Crowded => 16,
        }
    }

    /// The word for logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        Self::LABELS[self.index()]
    }

    /// What an error on an open connection means for it.
    #[must_use]
    pub fn of_open(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED | libc::ENOTCONN) => {
                CloseReason::Reset
            }
            // Keepalive, or the kernel's own retransmissions, gave the peer up.
            Some(libc::ETIMEDOUT) => CloseReason::Unreachable,
            _ => Self::of_either(error),
        }
    }

    /// What an error means for a connection that was being made.
    #[must_use]
    pub fn of_dial(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ETIMEDOUT) => CloseReason::ConnectTimeout,
            Some(libc::EADDRNOTAVAIL | libc::EAGAIN) => CloseReason::Exhausted,
            Some(libc::ECONNRESET) => CloseReason::Reset,
            _ => Self::of_either(error),
        }
    }

    fn of_either(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => CloseReason::Refused,
            Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ENETDOWN | libc::EHOSTDOWN) => {
                CloseReason::Unreachable
            }
            _ if exhausted(error) => CloseReason::Exhausted,
            code => CloseReason::Os(code.unwrap_or(libc::EIO)),
        }
    }
}

/// Whether this process or machine has run out of something that a closed connection gives back.
pub(super) fn exhausted(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    matches!(code, Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Protocol(error) => write!(f, "protocol: {error}"),
            CloseReason::Os(code) => write!(f, "{}", io::Error::from_raw_os_error(*code)),
            _ => f.write_str(self.label()),
        }
    }
}
