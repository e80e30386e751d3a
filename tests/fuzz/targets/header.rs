//! A header, its route and what a frame's bytes say: parsed, and written again.

#![no_main]

use engine::limits::{HEADER_SIZE, ROUTE_SIZE_MAX};
use engine::wire::{FLAG_NO_CRC, Frame, Header, Route, RouteBuf};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((head, rest)) = data.split_first_chunk::<HEADER_SIZE>() else { return };
    // What comes behind the header is a route by itself too, whatever the header says.
    if let Ok(route) = Route::parse(rest) {
        check_route(&route);
    }
    let Ok(mut header) = Header::parse(head) else { return };
    assert!(header.body_len <= header.kind.body_size_max());
    assert!(usize::from(header.route_len) <= ROUTE_SIZE_MAX);
    let len = header.frame_size() - HEADER_SIZE;
    let Some(rest) = rest.get(..len) else { return };
    let (route, body) = rest.split_at(usize::from(header.route_len));
    let whole = &data[..HEADER_SIZE + len];
    // The checksum alone decides between a frame that is parsed and one that is not.
    let sound = header.check(head, route).is_ok();
    assert_eq!(Frame::parse(whole).is_ok(), sound);
    // Sealed again it is sound, and says the same.
    let before = header;
    let sealed = header.seal(route, body);
    let again = Header::parse(&sealed).expect("what was sealed is parsed");
    assert_eq!(again, header);
    assert_eq!((again.check(&sealed, route), again.check_body(body)), (Ok(()), Ok(())));
    assert_eq!(
        Header { body_crc: before.body_crc, header_crc: before.header_crc, ..again },
        before,
        "only the checksums were made anew"
    );
    if sound && (before.check_body(body).is_ok() && before.flags & FLAG_NO_CRC == 0) {
        assert_eq!(&sealed, head, "a sound header has one form");
    }
    let bytes = [&sealed[..], route, body].concat();
    let frame = Frame::parse(&bytes).expect("what was sealed is parsed");
    assert_eq!((frame.bytes(), frame.route_bytes(), frame.body()), (&bytes[..], route, body));
    if let Ok(route) = frame.route() {
        check_route(&route);
    }
});

fn check_route(route: &Route<'_>) {
    let via: Vec<&[u8]> = route.via().collect();
    assert_eq!(route.hop_sender(), via.last().copied().unwrap_or(route.origin_bytes()));
    let (Ok(origin), Ok(target)) = (route.origin(), route.target()) else { return };
    let via = via.iter().map(|name| engine::ids::HostName::parse(name)).collect::<Result<_, _>>();
    let Ok(via) = via else { return };
    let written = RouteBuf { origin, target, via };
    if written.size() > ROUTE_SIZE_MAX {
        return;
    }
    let mut block = Vec::new();
    written.write(&mut block);
    assert_eq!(block.len(), written.size());
    let again = Route::parse(&block).expect("what was written is parsed");
    assert_eq!(again.origin().as_ref(), Ok(&written.origin));
    assert_eq!(again.target().as_ref(), Ok(&written.target));
    assert_eq!(again.via().count(), written.via.len());
}
