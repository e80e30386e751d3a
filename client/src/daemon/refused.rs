//! Why an assignment is not taken, or its blobs cannot be fetched, for as long as it goes on.

/// What is wrong with it.
#[derive(Debug, Default)]
pub struct Refused {
    why: String,
    /// It was said again since the last poll.
    is_fresh: bool,
}

impl Refused {
    /// One was refused. Whether that is news.
    pub fn handle(&mut self, why: &str) -> bool {
        let is_news = self.why != why;
        self.why = why.to_owned();
        self.is_fresh = true;
        is_news
    }

    /// The master is asked again: what has not happened again since the last time is over.
    pub fn handle_poll(&mut self) {
        if !std::mem::take(&mut self.is_fresh) {
            self.why.clear();
        }
    }

    /// Why, or empty.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_news_once_and_over_when_it_is_not_repeated() {
        let mut refused = Refused::default();
        assert!(refused.handle("expired") && !refused.handle("expired"));
        for _ in 0..3 {
            refused.handle_poll();
            assert_eq!(refused.why(), "expired");
            assert!(!refused.handle("expired"), "it goes on");
        }
        assert!(refused.handle("older"), "another reason");
        refused.handle_poll();
        refused.handle_poll();
        assert_eq!(refused.why(), "");
        assert!(refused.handle("older"));
    }
}
