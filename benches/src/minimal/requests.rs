//! What the least client sends.

use engine::ids::{Epoch, Origin};
use engine::limits::HEADER_SIZE;
use engine::wire::message::{Poll, Report};
use engine::wire::{Body, FrameBuf, RouteBuf};
use loadgen::clients::address::{DEFAULT_SUFFIX, Identities};

/// Requests that were made before anything is measured: one for all, or one of each host.
#[derive(Debug, Clone)]
pub struct Requests(Vec<Vec<u8>>);

impl Requests {
    /// The same bytes for all.
    #[must_use]
    pub fn same(request: Vec<u8>) -> Self {
        Self(vec![request])
    }

    /// A frame of each of so many hosts, with this body.
    #[must_use]
    pub fn of_hosts<B: Body>(hosts: u32, body: &B) -> Self {
        Self((0..hosts).map(|number| frame(number, body)).collect())
    }

    /// The request of this number.
    #[must_use]
    pub fn number(&self, number: u32) -> &[u8] {
        &self.0[number as usize % self.0.len()]
    }

    /// Gives every frame another number in its sender's queue: to the receiver it is new then.
    ///
    /// # Panics
    /// What is there is no frame.
    pub fn renumber(&mut self, seq: u64) {
        for frame in &mut self.0 {
            renumber(frame, seq);
        }
    }
}

/// Gives a frame another number in its sender's queue, who is its origin as well.
///
/// # Panics
/// It is no frame.
pub fn renumber(frame: &mut [u8], seq: u64) {
    let route = u16::from_le_bytes([frame[12], frame[13]]);
    frame[24..32].copy_from_slice(&seq.to_le_bytes());
    // The route begins with the origin's name, after its length, epoch and number.
    let origin = HEADER_SIZE + 1 + usize::from(frame[HEADER_SIZE]) + 8;
    frame[origin..origin + 8].copy_from_slice(&seq.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&frame[..40]);
    crc.update(&frame[HEADER_SIZE..HEADER_SIZE + usize::from(route)]);
    frame[40..HEADER_SIZE].copy_from_slice(&crc.finalize().to_le_bytes());
}

/// A poll of a host that holds nothing, with this error.
#[must_use]
pub fn poll(last_error: String) -> Poll {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Poll { held: 0, applied: 0, wall_ms: 1, version, last_error }
}

/// A report of nothing, with this remark.
#[must_use]
pub fn report(note: String) -> Report {
    Report {
        revision: 0,
        trigger: 3,
        started_ms: 1,
        duration_us: 2_600,
        busy_us: 2_400,
        checked: 100,
        results: Vec::new(),
        note,
    }
}

/// The first frame of a host's queue, with this body.
///
/// # Panics
/// Never: the default suffix makes names.
#[must_use]
pub fn frame<B: Body>(number: u32, body: &B) -> Vec<u8> {
    let name = Identities::new(DEFAULT_SUFFIX).expect("the default makes names").name(number);
    let origin = Origin { name, epoch: Epoch(1), seq: 1 };
    let tune = |header: &mut engine::wire::Header| (header.epoch, header.seq) = (Epoch(1), 1);
    FrameBuf::message(Some(&RouteBuf::from(origin)), body, tune).to_vec()
}

/// A body that makes a frame as long as that, out of one that takes a text of any length.
///
/// # Panics
/// Without the text it is longer already.
#[must_use]
pub fn padded<B: Body>(frame_size: usize, body: impl Fn(String) -> B) -> B {
    let mut text = String::new();
    loop {
        let body = body(text.clone());
        match frame(1, &body).len() {
            size if size < frame_size => text.push('.'),
            size => {
                assert_eq!(size, frame_size, "a frame of this kind has another size");
                return body;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::wire::Frame;

    #[test]
    fn frames_are_valid_of_their_length_and_of_the_number_that_they_are_given() {
        let mut requests = Requests::of_hosts(3, &padded(256, poll));
        requests.renumber(1 << 40);
        let seen = (0..3).map(|number| {
            let frame = Frame::parse(requests.number(number)).expect("what we made");
            let origin = frame.route().and_then(|route| route.origin()).expect("an origin");
            assert_eq!((origin.epoch, origin.seq), (Epoch(1), 1 << 40));
            origin.name
        });
        let names: std::collections::BTreeSet<_> = seen.collect();
        assert_eq!(names.len(), 3);
        let frame = Frame::parse(requests.number(4)).expect("what we made");
        assert_eq!((frame.bytes().len(), frame.header.seq), (256, 1 << 40));
        assert_eq!(frame.header.check_body(frame.body()), Ok(()));
    }
}
