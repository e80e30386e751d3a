//! Cuts a stream of bytes into frames, without any I/O.
//!
//! Whole frames are handed on from the caller's buffer; only the tail of an incomplete one is
//! copied, so a connection between frames owns no memory here. Each byte is copied at most
//! once, whatever the pieces it comes in.

use super::error::WireError;
use super::frame::Frame;
use super::header::Header;
use crate::limits::HEADER_SIZE;

/// What the consumer of a frame wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The frame was taken: on with the next.
    Next,
    /// The frame was not taken: keep it, and all behind it, for a later `feed`.
    Park,
    /// The connection is finished: drop everything.
    Stop,
}

/// Bytes that are not a whole frame yet, of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Vec<u8>,
}

/// Most that is set aside for a frame before its bytes have come, so that a header alone
/// cannot make us allocate.
const RESERVE_MAX: usize = 64 * 1024;

impl Decoder {
    /// A decoder at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes kept for an incomplete or parked frame.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.partial.len()
    }

    /// Bytes of the frame that is now incomplete; `None` between frames, and while its header
    /// is incomplete or damaged.
    #[must_use]
    pub fn awaited(&self) -> Option<usize> {
        let head: &[u8; HEADER_SIZE] = self.partial.first_chunk()?;
        Header::parse(head).ok().map(|h| h.frame_size())
    }

    /// Takes what was read and calls `consume` for each whole frame; an empty `input` goes on
    /// with what was parked.
    ///
    /// # Errors
    /// The stream is not ours or damaged: nothing after it can be trusted, close it.
    pub fn feed(
        &mut self,
        mut input: &[u8],
        mut consume: impl FnMut(Frame<'_>) -> Flow,
    ) -> Result<Flow, WireError> {
        // First what is kept: it is filled up to one whole frame at a time.
        while !self.partial.is_empty() {
            let need = match self.partial.first_chunk() {
                None => HEADER_SIZE,
                Some(head) => Header::parse(head)?.frame_size(),
            };
            if self.partial.len() < need {
                let missing = (need - self.partial.len()).min(input.len());
                let (now, later) = input.split_at(missing);
                if self.partial.capacity() - self.partial.len() < missing {
                    let ahead = (need - self.partial.len()).min(RESERVE_MAX);
                    self.partial.reserve_exact(missing.max(ahead));
                }
                self.partial.extend_from_slice(now);
                input = later;
                if self.partial.len() < need {
                    return Ok(Flow::Next);
                }
                continue;
            }
            match consume(Frame::parse(&self.partial[..need])?) {
                Flow::Next => {
                    if self.partial.len() == need {
                        self.partial = Vec::new();
                        break;
                    }
                    // Only parked input is longer than one frame: from here on it is read in place.
                    let parked = std::mem::take(&mut self.partial);
                    let rest = &parked[need..];
                    let flow = self.feed_in_place(rest, &mut consume)?;
                    if flow != Flow::Next {
                        if flow == Flow::Park {
                            self.partial.extend_from_slice(input);
                        }
                        return Ok(flow);
                    }
                }
                Flow::Park => {
                    self.partial.extend_from_slice(input);
                    return Ok(Flow::Park);
                }
                Flow::Stop => {
                    self.partial = Vec::new();
                    return Ok(Flow::Stop);
                }
            }
        }
        self.feed_in_place(input, &mut consume)
    }

    fn feed_in_place(
        &mut self,
        mut input: &[u8],
        consume: &mut impl FnMut(Frame<'_>) -> Flow,
    ) -> Result<Flow, WireError> {
        while let Some(head) = input.first_chunk::<HEADER_SIZE>() {
            let need = Header::parse(head)?.frame_size();
            if input.len() < need {
                self.partial.reserve_exact(need.min(input.len().max(RESERVE_MAX)));
                break;
            }
            match consume(Frame::parse(&input[..need])?) {
                Flow::Next => input = &input[need..],
                Flow::Park => {
                    self.partial.extend_from_slice(input);
                    return Ok(Flow::Park);
                }
                Flow::Stop => return Ok(Flow::Stop),
            }
        }
        self.partial.extend_from_slice(input);
        Ok(Flow::Next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{FrameBuf, Kind};

    #[test]
    fn a_buffer_grows_by_what_is_set_aside_and_not_with_each_piece() {
        let len = Kind::CONTROL_RESP.body_size_max() as usize;
        let bytes = FrameBuf::seal_whole(Header::new(Kind::CONTROL_RESP), None, &vec![5; len]);
        let (mut decoder, mut sizes) = (Decoder::new(), Vec::new());
        for piece in bytes.chunks(1000) {
            assert_eq!(decoder.feed(piece, |_| Flow::Next), Ok(Flow::Next));
            sizes.push(decoder.partial.capacity());
            assert!(decoder.partial.capacity() <= decoder.buffered() + RESERVE_MAX);
        }
        sizes.dedup();
        assert!(sizes.len() <= len / RESERVE_MAX + 3, "it grew {} times", sizes.len());
    }
}
