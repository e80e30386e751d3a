//! Whether a master dials back. One that takes what this client says, and is never heard, looks
//! for the client's name elsewhere: nothing that it sends will arrive here.

use engine::config::format_duration;
use engine::time::Instant;
use std::time::Duration;

/// A dial-back comes within moments; a master that has a crowd to dial may take so long.
pub const DIAL_BACK_MAX: Duration = Duration::from_secs(60);

/// Since when nobody dials back.
#[derive(Debug, Default)]
pub(super) struct DialBack {
    /// The first message that was taken since a master was last heard.
    since: Option<Instant>,
    warned: bool,
}

impl DialBack {
    /// A master that has not been heard took a message.
    pub(super) fn handle_taken(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// A master was heard, or there is another reason that none is.
    pub(super) fn handle_heard(&mut self) {
        *self = Self::default();
    }

    /// For how long messages are taken and no master is heard.
    pub(super) fn unheard_for(&self, now: Instant) -> Option<Duration> {
        self.since.map(|since| now.since(since))
    }

    /// Once, when it has lasted too long: how long.
    pub(super) fn poll_warning(&mut self, now: Instant) -> Option<Duration> {
        let unheard = self.unheard_for(now).filter(|unheard| *unheard >= DIAL_BACK_MAX)?;
        (!std::mem::replace(&mut self.warned, true)).then_some(unheard)
    }

    /// When that will be.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.since.filter(|_| !self.warned).map(|since| since + DIAL_BACK_MAX)
    }
}

/// What it means, and what to look at.
#[must_use]
pub fn not_dialled_back(name: &str, unheard: Duration) -> String {
    format!(
        "the master takes what this client sends, and has not dialled back for {}: the name `{name}` may lead to another host there, or a firewall is between; run `drover probe {name}` at the master, and correct `name`, the name service or the firewall",
        format_duration(Duration::from_secs(unheard.as_secs()))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_and_again_after_a_master_was_heard() {
        let at = |secs| Instant(0) + Duration::from_secs(secs);
        let mut dial_back = DialBack::default();
        assert_eq!((dial_back.unheard_for(at(9)), dial_back.next_timeout()), (None, None));
        dial_back.handle_taken(at(10));
        dial_back.handle_taken(at(50));
        assert_eq!(dial_back.next_timeout(), Some(at(70)));
        assert_eq!(dial_back.poll_warning(at(69)), None);
        assert_eq!(dial_back.poll_warning(at(70)), Some(DIAL_BACK_MAX));
        assert_eq!((dial_back.poll_warning(at(80)), dial_back.next_timeout()), (None, None));
        assert_eq!(dial_back.unheard_for(at(80)), Some(Duration::from_secs(70)));
        dial_back.handle_heard();
        assert_eq!(dial_back.unheard_for(at(90)), None);
        dial_back.handle_taken(at(100));
        assert_eq!(dial_back.poll_warning(at(160)), Some(DIAL_BACK_MAX));
    }
}
