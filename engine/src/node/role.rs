//! What differs between master, client and load generator: the role. Everything else about a
//! message is the node's.

use super::io::{CloseReason, ResolveError};
use super::parts::Context;
use super::uplink::Trouble;
use crate::blob::BlobEvent;
use crate::delivery::ExchangeId;
use crate::ids::{ConnId, Epoch, HostName, Origin};
use crate::node::io::PeerAddr;
pub use crate::queue::lanes::Message as Outgoing;
use crate::queue::store::Record;
use crate::time::Instant;
use crate::wire::{Class, Frame, Kind, Lane, NackReason};
use std::net::SocketAddr;
use std::time::Duration;

/// A message from a peer, with its sender; the body is unchecked.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The frame.
    pub frame: Frame<'a>,
    /// Who first sent it, as it claims.
    pub origin: &'a Origin,
    /// The connection that it came on.
    pub conn: ConnId,
    /// The address that it came from, which proves nothing.
    pub peer: &'a PeerAddr,
}

/// What a role made of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// It was taken.
    Taken,
    /// It was taken, and the sender is to know that there is something for it that could not
    /// be brought to it.
    TakenBehind,
    /// It was refused.
    Refused(NackReason),
}

/// Why a downstream delivery failed: a word for the log and for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryFailure {
    /// The name has no address.
    Unresolved(ResolveError),
    /// The connection did not come about, or ended before the ack.
    Connection(CloseReason),
    /// The host refused the message.
    Refused(NackReason),
    /// The host has been dialled too often of late.
    RateLimited,
    /// Whoever wanted it wants it no more.
    Cancelled,
}

impl std::fmt::Display for DeliveryFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unresolved(error) => write!(f, "the name does not resolve: {error}"),
            Self::Connection(reason) => f.write_str(&reason.describe()),
            Self::Refused(reason) => write!(f, "refused by the host: {}", reason.describe()),
            Self::RateLimited => f.write_str("dialled too often of late"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

/// Why a request has no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeFailure {
    /// The connection did not come about.
    Dial(CloseReason),
    /// It did, and ended before the response.
    Response(CloseReason),
}

/// What the node tells its role, beside messages.
#[derive(Debug)]
pub enum NodeEvent {
    /// This node is bound to a parent.
    Bound {
        /// Where the parent is.
        parent: SocketAddr,
    },
    /// No parent can be reached; another is being sought.
    Unbound(Trouble),
    /// The parent does not know this host: told once, until it does.
    Unknown {
        /// Where the parent is.
        parent: SocketAddr,
    },
    /// The parent knows this host after all.
    Known,
    /// The parent acked a message with the flag `behind`.
    Behind,
    /// The parent has everything of this lane up to this number.
    Acked {
        /// The lane.
        lane: Lane,
        /// The outbox's incarnation.
        epoch: Epoch,
        /// The highest number.
        seq: u64,
    },
    /// The parent will never take this message, and it was set aside.
    Quarantined {
        /// Its number.
        seq: u64,
        /// Why.
        reason: NackReason,
    },
    /// A delivery to a host has ended.
    Delivered {
        /// The host.
        host: HostName,
        /// How.
        result: Result<(), DeliveryFailure>,
    },
    /// Records from the inbox, for the consumer: answer with `Context::consumed`.
    Records(Vec<Record>),
    /// A request of this node's own has ended.
    Exchanged {
        /// Which.
        id: ExchangeId,
        /// The response frame's bytes, or why there is none.
        response: Result<Vec<u8>, ExchangeFailure>,
    },
    /// The blob thread's answers that are no part of fetching or serving.
    Blob(BlobEvent),
    /// A blob has arrived, or never will.
    Fetched(crate::blob::FetchEvent),
    /// A name that the role asked for.
    Resolved {
        /// The name.
        name: HostName,
        /// Its addresses.
        answer: Result<Vec<SocketAddr>, ResolveError>,
    },
    /// A connection on which the role has answered or may still answer has ended.
    Closed {
        /// The connection.
        conn: ConnId,
    },
    /// SIGHUP.
    Reload,
    /// SIGTERM: finish what is under way; [`Role::is_finished`] is asked until it is true.
    Stop,
    /// SIGTERM again: end what is under way.
    StopNow,
}

/// A role: a table of handlers. It never blocks, reads no clock and touches no file.
pub trait Role {
    /// What its own threads tell it.
    type Mail;
    /// What it asks of them.
    type Effect;

    /// Whether messages of this class may come from peers to this role.
    fn accepts(&self, class: Class) -> bool;

    /// Whether this host may bring durable messages: it is in the inventory, or this is us.
    fn knows(&self, host: &HostName) -> bool;

    /// A message of a lane that is not durable.
    fn handle_message(
        &mut self,
        message: Message<'_>,
        cx: &mut Context<'_, Self::Effect>,
    ) -> Handled;

    /// A request of class `Direct` other than a fetch. Answered with [`Context::reply`], at
    /// once or later; `None` refuses it.
    fn handle_request(
        &mut self,
        conn: ConnId,
        peer: &PeerAddr,
        frame: Frame<'_>,
        cx: &mut Context<'_, Self::Effect>,
    ) -> Option<()>;

    /// A durable frame from this peer was taken into the inbox, and will be acked once it is
    /// committed.
    fn handle_gathered(
        &mut self,
        _origin: &Origin,
        _peer: &PeerAddr,
        _kind: Kind,
        _cx: &mut Context<'_, Self::Effect>,
    ) {
    }

    /// Mail from its own threads.
    fn handle_mail(&mut self, mail: Self::Mail, cx: &mut Context<'_, Self::Effect>);

    /// Something happened to what the node does for it.
    fn handle_event(&mut self, event: NodeEvent, cx: &mut Context<'_, Self::Effect>);

    /// The time of [`Role::next_timeout`] has come.
    fn handle_timeout(&mut self, cx: &mut Context<'_, Self::Effect>);

    /// When it wants [`Role::handle_timeout`].
    fn next_timeout(&self) -> Option<Instant>;

    /// The connection to a host stands: what to send it now. Empty means that it needs
    /// nothing any more.
    fn compose(&mut self, _host: &HostName, _cx: &mut Context<'_, Self::Effect>) -> Vec<Outgoing> {
        Vec::new()
    }

    /// How long a node with this role may take to stop; `None` leaves it to the role.
    fn stop_timeout(&self) -> Option<Duration> {
        Some(super::STOP_TIMEOUT)
    }

    /// After [`NodeEvent::Stop`]: whether the role has nothing under way any more.
    fn is_finished(&self) -> bool;
}
