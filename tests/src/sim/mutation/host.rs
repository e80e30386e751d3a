//! What is wrong between a node and its loop.

use super::Mutation;
use engine::ids::ConnId;
use engine::node::io::{Input, Output};
use engine::time::Instant;
use engine::wire::{Header, Kind};
use std::cell::Cell;

/// Of so many deadlines one is forgotten.
const DEADLINES: u32 = 8;
/// Of so many ends of connections one is not told.
const ENDS: u32 = 5;

/// A host's inputs and outputs, with a fault or without.
#[derive(Debug)]
pub struct MutatedHost<E> {
    mutation: Option<Mutation>,
    /// The deadline that the host has named last, and how many different ones there were.
    deadlines: Cell<(Option<Instant>, u32)>,
    ends: u32,
    /// What has been taken from the host and not handed on.
    held: Option<Output<E>>,
}

/// On which connection a record goes out, if this is one.
fn durable<E>(output: &Output<E>) -> Option<ConnId> {
    let Output::Send { conn, frame } = output else { return None };
    let header = frame.head.first_chunk().and_then(|head| Header::parse(head).ok())?;
    (header.kind == Kind::REPORT).then_some(*conn)
}

impl<E> MutatedHost<E> {
    /// A host with this fault, if it is one of a host.
    #[must_use]
    pub fn new(mutation: Option<Mutation>) -> Self {
        Self { mutation, deadlines: Cell::default(), ends: 0, held: None }
    }

    /// Whether the host is told of this.
    pub fn tells<M>(&mut self, input: &Input<M>) -> bool {
        if self.mutation != Some(Mutation::LoseClosed) || !matches!(input, Input::Closed { .. }) {
            return true;
        }
        self.ends += 1;
        !self.ends.is_multiple_of(ENDS)
    }

    /// What the loop hears of the host's deadline.
    #[must_use]
    pub fn deadline(&self, at: Option<Instant>) -> Option<Instant> {
        match self.mutation {
            Some(Mutation::Spin) => Some(Instant(0)),
            Some(Mutation::ForgetDeadline) => {
                let (last, count) = self.deadlines.get();
                let count = count + u32::from(at != last);
                self.deadlines.set((at, count));
                at.filter(|_| !count.is_multiple_of(DEADLINES))
            }
            _ => at,
        }
    }

    /// The host's next output, as it reaches the loop.
    pub fn poll(&mut self, mut poll: impl FnMut() -> Option<Output<E>>) -> Option<Output<E>> {
        if self.mutation != Some(Mutation::SwapFrames) {
            return poll();
        }
        let first = self.held.take().or_else(&mut poll)?;
        let Some(conn) = durable(&first) else { return Some(first) };
        match poll() {
            Some(second) if durable(&second) == Some(conn) => {
                self.held = Some(first);
                Some(second)
            }
            second => {
                self.held = second;
                Some(first)
            }
        }
    }
}
