//! Requests of class `Direct` that this node makes: one connection each, one request, one
//! response.

use crate::ids::{ConnId, DialId};
use crate::wire::FrameBuf;
use std::time::Duration;

/// Names a request to whoever made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId(pub u64);

/// A request under way.
#[derive(Debug)]
pub struct Exchange {
    /// Its name.
    pub id: ExchangeId,
    stage: ExchangeStage,
}

#[derive(Debug)]
enum ExchangeStage {
    Dialing(DialId, FrameBuf, Duration),
    Awaiting(ConnId),
}

/// All requests under way: a handful, so a list.
#[derive(Debug, Default)]
pub struct Exchanges(Vec<Exchange>);

impl Exchanges {
    /// A request whose dial has been asked for; how long its response may take afterwards.
    pub fn dialing(&mut self, id: ExchangeId, dial: DialId, request: FrameBuf, within: Duration) {
        self.0.push(Exchange { id, stage: ExchangeStage::Dialing(dial, request, within) });
    }

    /// Whether none is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A connection stands; the request to send on it, if it is one of ours, and how long its
    /// response may take.
    pub fn dialed(&mut self, dial: DialId, conn: ConnId) -> Option<(FrameBuf, Duration)> {
        let of =
            |e: &&mut Exchange| matches!(&e.stage, ExchangeStage::Dialing(d, ..) if *d == dial);
        let exchange = self.0.iter_mut().find(of)?;
        match std::mem::replace(&mut exchange.stage, ExchangeStage::Awaiting(conn)) {
            ExchangeStage::Dialing(_, request, within) => Some((request, within)),
            ExchangeStage::Awaiting(_) => None,
        }
    }

    /// A dial has failed; the request that it was for.
    pub fn dial_failed(&mut self, dial: DialId) -> Option<ExchangeId> {
        self.remove(|e| matches!(&e.stage, ExchangeStage::Dialing(d, ..) if *d == dial))
    }

    /// A response has come, or the connection has ended; the request that it was for.
    pub fn finished(&mut self, conn: ConnId) -> Option<ExchangeId> {
        self.remove(|e| matches!(&e.stage, ExchangeStage::Awaiting(c) if *c == conn))
    }

    fn remove(&mut self, which: impl Fn(&Exchange) -> bool) -> Option<ExchangeId> {
        let at = self.0.iter().position(which)?;
        Some(self.0.swap_remove(at).id)
    }
}
