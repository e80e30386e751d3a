//! What waits to be sent on one connection.

use super::poller::Poller;
use crate::time::Instant;
use crate::wire::FrameBuf;
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::Arc;

/// Pieces of one `writev`.
const SLICES_MAX: usize = 64;

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    File { file: Arc<File>, offset: u64, len: usize },
}

/// What waits to be sent, in order.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// When it must have gone; set once the operating system takes no more.
    pub(super) deadline: Option<Instant>,
    /// The host is told when it has gone: something had to wait, or came from a file.
    pub(super) tells: bool,
}

/// How one write went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) bytes: usize,
    /// The operating system takes no more for now. Only a refusal says so, never a short count: an edge is sure to come after that alone.
    pub(super) blocked: bool,
}

impl Written {
    /// Adds what a call wrote; false if it wrote nothing because it would have blocked.
    fn note(&mut self, result: io::Result<usize>) -> io::Result<bool> {
        match result {
            Ok(n) => self.bytes += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
            Err(e) => return Err(e),
        }
        Ok(!self.blocked)
    }
}

impl SendQueue {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Makes it as new, but for the memory it holds.
    pub(super) fn reset(&mut self) {
        self.pieces.clear();
        self.pieces.shrink_to(SLICES_MAX);
        self.bytes = 0;
        self.deadline = None;
        self.tells = false;
    }

    pub(super) fn push(&mut self, frame: FrameBuf) {
        for bytes in [frame.head, frame.body] {
            if !bytes.is_empty() {
                self.bytes += bytes.len();
                self.pieces.push_back(Piece::Bytes(bytes));
            }
        }
    }

    pub(super) fn push_file(&mut self, file: Arc<File>, offset: u64, len: usize) {
        self.tells = true;
        if len > 0 {
            self.bytes += len;
            self.pieces.push_back(Piece::File { file, offset, len });
        }
    }

    /// Writes once from memory, and once from a file if one comes next.
    pub(super) fn write<P: Poller>(
        &mut self,
        poller: &mut P,
        stream: &mut P::Stream,
    ) -> io::Result<Written> {
        let mut written = Written { bytes: 0, blocked: false };
        let (offered, result) = self.offer(poller, stream);
        if offered > 0 {
            if !written.note(result)? {
                return Ok(written);
            }
            self.advance(written.bytes);
            if written.bytes < offered {
                return Ok(written);
            }
        }
        if let Some(Piece::File { file, offset, len }) = self.pieces.front_mut() {
            let before = written.bytes;
            if written.note(poller.send_file(stream, file, *offset, *len))? {
                let sent = written.bytes - before;
                *offset += sent as u64;
                *len -= sent;
                self.bytes -= sent;
                if *len == 0 {
                    self.pieces.pop_front();
                }
            }
        }
        Ok(written)
    }

    /// Writes what comes next from memory; how much that was, and how it went.
    fn offer<P: Poller>(
        &self,
        poller: &mut P,
        stream: &mut P::Stream,
    ) -> (usize, io::Result<usize>) {
        let Some(Piece::Bytes(first)) = self.pieces.front() else { return (0, Ok(0)) };
        // Most have one frame in one piece: a list of pieces is not made for it.
        if self.pieces.len() == 1 {
            return (first.len(), poller.write_vectored(stream, &[IoSlice::new(first)]));
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let (mut count, mut offered) = (0, 0);
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            let Piece::Bytes(bytes) = piece else { break };
            *slice = IoSlice::new(bytes);
            count += 1;
            offered += bytes.len();
        }
        (offered, poller.write_vectored(stream, &slices[..count]))
    }

    fn advance(&mut self, mut n: usize) {
        self.bytes -= n;
        while n > 0 {
            let Some(Piece::Bytes(front)) = self.pieces.front_mut() else { return };
            if n < front.len() {
                front.advance(n);
                return;
            }
            n -= front.len();
            self.pieces.pop_front();
        }
    }
}
