//! Descriptors of somebody else's that the loop watches: signals, file events.

use crate::node::io::Mail;
use std::os::fd::RawFd;

/// Something with a descriptor whose readiness becomes mail for the host.
pub trait Source<M> {
    /// The descriptor; it stays open as long as the source lives.
    fn fd(&self) -> RawFd;

    /// Reads until there is nothing more, without blocking.
    fn drain(&mut self, mail: &mut Vec<Mail<M>>);
}
