use super::*;

#[test]
fn s1_11_malformed_names_are_refused_with_the_reason() {
    assert_eq!(
        HostName::parse(b"Web-01.Example").map(|n| n.to_string()),
        Ok("web-01.example".into())
    );
    assert_eq!(HostName::parse(b""), Err(HostNameError::Length(0)));
    assert_eq!(HostName::parse(&[b'a'; 254]), Err(HostNameError::Length(254)));
    assert!(matches!(HostName::parse(b"a/../b"), Err(HostNameError::Character(_))));
    assert!(matches!(HostName::parse(b"a b"), Err(HostNameError::Character(_))));
    assert!(matches!(HostName::parse("h\u{e9}te".as_bytes()), Err(HostNameError::Character(_))));
    for name in [&b".a"[..], b"a.", b"a..b", b"."] {
        assert!(matches!(HostName::parse(name), Err(HostNameError::EmptyLabel(_))), "{name:?}");
    }
}

#[test]
fn hashes_survive_hex() {
    let hash = BlobHash::of(b"drover");
    assert_eq!(BlobHash::from_hex(&hash.to_hex()), Some(hash));
    assert_eq!(BlobHash::from_hex("00"), None);
    assert_eq!(BlobHash::from_hex(&"zz".repeat(32)), None);
    assert_eq!(BlobHash::from_hex(&"+f".repeat(32)), None);
}

#[test]
fn conn_ids_keep_index_and_generation() {
    let id = ConnId::new(u32::MAX, 7);
    assert_eq!((id.index(), id.generation()), (u32::MAX as usize, 7));
}
