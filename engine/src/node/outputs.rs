//! What a node asks of the world, in order, each noted with the place that asked.

use super::io::Output;
use super::trail::Trail;
use std::collections::VecDeque;
use std::panic::Location;

/// What a node asks for and nobody has taken yet.
pub struct Outputs<E> {
    list: VecDeque<Output<E>>,
    pub(super) trail: Trail,
}

impl<E> Default for Outputs<E> {
    fn default() -> Self {
        Self { list: VecDeque::new(), trail: Trail::default() }
    }
}

impl<E> Outputs<E> {
    /// Asks for something.
    #[track_caller]
    pub fn push(&mut self, output: Output<E>) {
        self.trail.output(&output, Location::caller());
        self.list.push_back(output);
    }

    /// Asks for the dial that takes what is queued to the parent.
    #[track_caller]
    pub fn push_up(&mut self, dial: Output<E>) {
        self.push(dial);
        self.trail.is_up();
    }

    /// The next thing to do.
    pub fn pop(&mut self) -> Option<Output<E>> {
        self.list.pop_front()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
