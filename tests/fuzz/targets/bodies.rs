//! Every archive that comes from a peer or a disk, by its validated access, and what is done with
//! it then: the bodies of all kinds, assignment, manifest, catalog, tree, release, checkpoint.

#![no_main]

use client::executor::graph::Graph;
use client::resource::{ManagedPaths, Spec};
use engine::blob::Blob;
use engine::ids::{BlobHash, Epoch, HostName, Revision};
use engine::queue::marks::{Marks, SenderKey};
use engine::queue::store::Record;
use engine::release::{
    Catalog, ManifestBlob, Pattern, SignedAssignment, Tree, TreeKind, TrustedKeys,
    access as archived, decode,
};
use engine::time::WallMs;
use engine::wire::message::{
    BindAck, BindReq, BindResp, ControlReq, ControlResp, FetchRefused, FetchReq, Heartbeat,
    Manifest, Poll, Report, StatusReq, StatusResp,
};
use engine::wire::{Body, Frame, FrameBuf, Header, Nack, access, encode};
use fuzz::{frames, memory};
use libfuzzer_sys::fuzz_target;
use master::daemon::Published;
use master::release::Release;
use rkyv::Deserialize;
use rkyv::api::high::{HighDeserializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use std::fmt::Debug;

/// What may be held for an archive: its structs take more room than its bytes, and strings and
/// lists are allocated one by one.
const GROWTH_MAX: usize = 64;

fuzz_target!(|data: &[u8]| {
    let Some((which, body)) = data.split_first() else { return };
    let (_, held) = memory::peak(|| read(*which, body));
    assert!(held <= GROWTH_MAX * body.len() + 64 * 1024, "{held} bytes for {}", body.len());
});

fn read(which: u8, body: &[u8]) {
    match which % 22 {
        0 => message::<BindReq>(body),
        1 => message::<BindAck>(body),
        2 => message::<BindResp>(body),
        3 => message::<Poll>(body),
        4 => message::<Heartbeat>(body),
        5 => {
            message::<Report>(body);
            if let Some(report) = decode::<Report>(body) {
                assert_eq!(report.digest(), report.digest());
            }
        }
        6 => message::<Manifest>(body),
        7 => message::<FetchReq>(body),
        8 => message::<FetchRefused>(body),
        9 => message::<StatusReq>(body),
        10 => message::<StatusResp>(body),
        11 => message::<ControlReq>(body),
        12 => message::<ControlResp>(body),
        13 => nack(body),
        14 => assignment(body),
        15 => manifest(body),
        16 => catalog(body),
        17 => tree(body),
        18 => release(body),
        19 => marks(body),
        20 => {
            let record = Record { seq: 1, arrived: WallMs(0), frame: body.to_vec() };
            if let Ok(frame) = record.check() {
                assert!(frame.route().is_ok() && frame.header.check_body(frame.body()).is_ok());
            }
        }
        _ => pattern(body),
    }
}

/// A body under a header that is right: read, written again and read again it says the same.
fn message<B>(body: &[u8])
where
    B: Body + PartialEq + Debug,
    B::Archived:
        for<'a> CheckBytes<HighValidator<'a, Failure>> + Deserialize<B, HighDeserializer<Failure>>,
{
    let read = |body: &[u8]| -> Option<B> {
        let mut header = Header::new(B::KIND);
        header.schema = B::SCHEMA;
        let bytes = FrameBuf::seal_whole(header, None, body);
        let frame = Frame::parse(&bytes).expect("it was sealed just now");
        let archived = access::<B>(&frame).ok()?;
        Some(rkyv::deserialize(archived).expect("what was validated can be read"))
    };
    if body.len() <= B::KIND.body_size_max() as usize
        && let Some(value) = read(body)
    {
        assert_eq!(read(&encode(&value)).as_ref(), Some(&value));
    }
}

fn nack(body: &[u8]) {
    if body.len() > 16 {
        return;
    }
    let bytes = FrameBuf::seal_whole(Header::new(engine::wire::Kind::NACK), None, body);
    let frame = Frame::parse(&bytes).expect("it was sealed just now");
    if let Ok(nack) = Nack::decode(&frame) {
        assert_eq!(&nack.encode()[..8], &body[..8], "all but what is reserved");
        assert!(!nack.reason.describe().is_empty());
        let _ = nack.settles();
    }
}

fn assignment(body: &[u8]) {
    let host: HostName = "web-1".parse().expect("a host name");
    let keys = TrustedKeys::Only(vec![frames::signing_key().public()]);
    let wall = WallMs(1_800_000_000_000);
    let taken = TrustedKeys::Unchecked.accept(body, &host, Revision(5), wall);
    if let Ok(taken) = &taken {
        assert!(taken.revision > 5 && taken.expires_ms > wall.0 && taken.is_for(&host));
    }
    // A signature only takes away.
    match keys.accept(body, &host, Revision(5), wall) {
        Ok(signed) => assert_eq!(taken, Ok(signed)),
        Err(error) => drop(error.to_string()),
    }
    if let Some(signed) = decode::<SignedAssignment>(body) {
        assert_eq!(decode::<SignedAssignment>(&encode(&signed)), Some(signed));
    }
}

fn manifest(body: &[u8]) {
    let read = archived::<ManifestBlob>(body);
    let Some(owned) = decode::<ManifestBlob>(body) else {
        return assert!(read.is_none(), "read in place, and not as a value");
    };
    let blobs: Vec<Blob> = Blob::all_of(&owned).collect();
    assert_eq!(blobs.len(), owned.files.len() + 1);
    assert_eq!(read.map(|read| BlobHash(read.catalog)), Some(blobs[0].hash));
}

fn catalog(body: &[u8]) {
    let Some(catalog) = archived::<Catalog>(body) else { return };
    let mut requires = Vec::new();
    for resource in catalog.resources.iter() {
        requires.push(resource.requires.iter().map(|r| r.to_native()).collect::<Vec<u32>>());
        match Spec::read(resource) {
            Ok(spec) => {
                let path = spec.path().unwrap_or(b"/");
                assert_eq!(path.first(), Some(&b'/'), "a managed path is absolute");
                let _ = spec.attention();
            }
            Err(error) => drop(error.to_string()),
        }
    }
    let managed = ManagedPaths::of(catalog);
    let _ = managed.concern(b"/etc");
    let len = requires.len();
    match Graph::new(requires) {
        Ok(graph) => {
            // Everything runs once, in an order that the requirements allow.
            let (mut done, mut schedule) = (0, graph.schedule(None));
            while let Some(step) = schedule.poll_step() {
                done += 1;
                schedule.handle_done(step.resource, step.resource % 3 == 0);
            }
            assert!(schedule.is_finished() && done <= len);
        }
        Err(error) => drop(error.to_string()),
    }
    if let Some(owned) = decode::<Catalog>(body) {
        assert_eq!(decode::<Catalog>(&encode(&owned)), Some(owned));
    }
}

fn tree(body: &[u8]) {
    let Some(tree) = archived::<Tree>(body) else { return };
    for entry in tree.entries.iter() {
        let _ = (TreeKind::from_number(entry.kind), entry.path.len(), entry.target.len());
    }
    if let Some(owned) = decode::<Tree>(body) {
        assert_eq!(owned.entries.len(), tree.entries.len());
    }
}

fn release(body: &[u8]) {
    let Some(release) = decode::<Release>(body) else { return };
    let mut published = Published::new(&release, std::slice::from_ref(&release));
    let listing = published.take_listing();
    for blob in release.blobs.iter().take(64) {
        assert!(listing.size(&blob.name, BlobHash(blob.hash)).is_some(), "listed, and not served");
        let _ = release.size_of(&blob.name, BlobHash(blob.hash));
    }
    for host in ["a", "web-1", "b.example"] {
        let host = host.parse().expect("a host name");
        if let Some(line) = published.line_of(&host) {
            assert!(published.message(line).is_some());
            let pattern = Pattern::parse(&release.lines[line].pattern).expect("it matched");
            assert!(pattern.matches(&host));
        }
    }
    assert!(release.keep().is_sorted());
}

/// A checkpoint as it may lie on a disk, and what is learned after it.
fn marks(body: &[u8]) {
    let (numbers, pages) = body.split_at(body.len().min(2));
    let pages: Vec<(u32, &[u8])> = pages
        .chunks(85 * 48)
        .enumerate()
        .map(|(at, page)| (u32::from(numbers[at % numbers.len()]) % 8, page))
        .collect();
    let mut marks = Marks::restore(pages);
    let before = marks.senders();
    let (sender, epoch) = (SenderKey::of(b"somebody"), Epoch(7));
    marks.gather(sender, epoch, 41);
    marks.commit(sender, epoch, 41);
    assert!(marks.senders() <= before + 1);
    let changed = marks.changed_pages();
    let again = Marks::restore(changed.iter().map(|(number, page)| (*number, &page[..])));
    assert!(again.senders() >= 1 && again.senders() <= marks.senders());
    marks.forget(sender);
    assert_eq!(marks.senders(), before);
}

fn pattern(body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    let (pattern, name) = text.split_once('\n').unwrap_or((text, "web-1.example"));
    let Ok(name) = HostName::parse(name.as_bytes()) else { return };
    match Pattern::parse(pattern) {
        Ok(pattern) => {
            let matches = pattern.matches(&name);
            if let Some(host) = pattern.as_host() {
                assert_eq!(matches, host == name, "a name matches itself alone");
            }
        }
        Err(error) => drop(error.to_string()),
    }
}
