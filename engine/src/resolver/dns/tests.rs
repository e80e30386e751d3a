use super::*;

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn parse(message: &[u8], host: &str) -> Result<Response, DnsError> {
    response(message, 7, &name(host), Family::V4)
}

/// A response to `host A` with these records behind the question; each: owner bytes, type,
/// TTL, data.
fn message(host: &str, records: &[(&[u8], u16, u32, &[u8])]) -> Vec<u8> {
    let mut out = question(7, &name(host), Family::V4);
    out[2] |= 0x80;
    out[7] = records.len() as u8;
    for (owner, record_type, ttl, data) in records {
        out.extend_from_slice(owner);
        out.extend_from_slice(&record_type.to_be_bytes());
        out.extend_from_slice(&CLASS_IN.to_be_bytes());
        out.extend_from_slice(&ttl.to_be_bytes());
        out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        out.extend_from_slice(data);
    }
    out
}

#[test]
fn a_question_has_the_bytes_of_the_rfc() {
    let bytes = question(0x1234, &name("ab.c"), Family::V6);
    assert_eq!(bytes, b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0\x02ab\x01c\0\x00\x1c\x00\x01");
    assert_eq!(asked(&bytes).unwrap(), (0x1234, name("ab.c"), 28));
}

#[test]
fn what_a_server_writes_is_read_back() {
    let addrs: Vec<IpAddr> =
        ["192.0.2.1", "2001:db8::1", "192.0.2.2"].map(|a| a.parse().unwrap()).into();
    for (family, count) in [(Family::V4, 2), (Family::V6, 1)] {
        let asked = asked(&question(9, &name("web.example"), family)).unwrap();
        let bytes = answer(&asked, Some(&addrs), 300, false);
        let read = response(&bytes, 9, &name("web.example"), family).unwrap();
        let Response::Addrs { addrs, ttl } = read else { panic!("{read:?}") };
        assert_eq!((addrs.len(), ttl), (count, Duration::from_secs(300)));
        assert_eq!(
            response(&answer(&asked, None, 0, false), 9, &name("web.example"), family),
            Ok(Response::NoSuchName)
        );
        let cut = answer(&asked, Some(&addrs), 300, true);
        assert_eq!(response(&cut, 9, &name("web.example"), family), Ok(Response::Truncated));
    }
}

#[test]
fn aliases_are_followed_and_the_smallest_ttl_counts() {
    // www -> web (a pointer to its own label and the question's domain) -> address.
    let records: [(&[u8], u16, u32, &[u8]); 4] = [
        (b"\xc0\x0c", 5, 30, b"\x03web\xc0\x10"),
        (b"\x05other\x00", 1, 1, &[10, 0, 0, 1]),
        (b"\xc0\x0c", 46, 1, b"signature"),
        (b"\x03WEB\xc0\x10", 1, 60, &[192, 0, 2, 9]),
    ];
    let ttl = Duration::from_secs(30);
    let addrs = vec!["192.0.2.9".parse().unwrap()];
    assert_eq!(
        parse(&message("www.example", &records), "www.example"),
        Ok(Response::Addrs { addrs, ttl })
    );
}

#[test]
fn answers_to_other_questions_are_not_taken() {
    let good = message("a.example", &[(b"\xc0\x0c", 1, 60, &[192, 0, 2, 1])]);
    assert!(parse(&good, "a.example").is_ok());
    assert_eq!(parse(&good, "b.example"), Err(DnsError::Unasked));
    assert_eq!(response(&good, 8, &name("a.example"), Family::V4), Err(DnsError::Unasked));
    assert_eq!(response(&good, 7, &name("a.example"), Family::V6), Err(DnsError::Unasked));
    let question = question(7, &name("a.example"), Family::V4);
    assert_eq!(parse(&question, "a.example"), Err(DnsError::Unasked), "a question is no answer");
    let mut failed = good;
    failed[3] |= 2;
    assert_eq!(parse(&failed, "a.example"), Ok(Response::Failed(2)));
}

#[test]
fn loops_of_compression_pointers_end() {
    // "a" at 12..; the owner stands at 19: points to itself, forward, and to each other.
    let at = question(7, &name("a"), Family::V4).len() as u8;
    assert_eq!(at, 19);
    for owner in
        [&[0xc0, at][..], &[0xc0, at + 2, 0xc0, at], &[0xc0, at + 40], &[1, b'x', 0xc0, at]]
    {
        let bytes = message("a", &[(owner, 1, 60, &[192, 0, 2, 1])]);
        assert_eq!(parse(&bytes, "a"), Err(DnsError::Malformed), "{owner:?}");
    }
    // A chain that goes backwards all the way, but is too long.
    let mut chain = vec![0];
    for n in 0..40_u8 {
        chain.extend_from_slice(&[0xc0, at + 11 + if n == 0 { 0 } else { 2 * n - 1 }]);
    }
    let last = at + 11 + 2 * 39 + 1;
    let bytes = message("a", &[(b"\0", 99, 0, &chain), (&[0xc0, last], 1, 0, &[192, 0, 2, 1])]);
    assert_eq!(parse(&bytes, "a"), Err(DnsError::Malformed));
}

#[test]
fn no_bytes_make_it_panic() {
    let seed = 8;
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let good = message(
        "www.example",
        &[(b"\xc0\x0c", 5, 30, b"\x03web\xc0\x10"), (b"\x03WEB\xc0\x10", 1, 60, &[192, 0, 2, 9])],
    );
    for end in 0..good.len() {
        assert!(parse(&good[..end], "www.example").is_err(), "{end}");
    }
    let mut taken = 0;
    for _ in 0..100_000 {
        let mut bytes = good.clone();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(2..bytes.len());
            bytes[at] = rng.u8(..);
        }
        taken += usize::from(parse(&bytes, "www.example").is_ok());
        let _ = asked(&bytes);
    }
    assert!(taken > 1_000 && taken < 99_000, "{taken}");
}
