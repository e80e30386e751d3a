use super::*;

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

fn assignment() -> Assignment {
    Assignment {
        schema: 1,
        pattern: "web-*".into(),
        excludes: vec!["web-9".into()],
        revision: 7,
        manifest: [3; 32],
        manifest_size: 100,
        issued_ms: 1_000,
        expires_ms: 9_000,
    }
}

#[test]
fn s1_15_every_flipped_byte_of_an_assignment_is_refused() {
    let key = SigningKey::generate().unwrap();
    let keys = TrustedKeys::Only(vec![key.public()]);
    let bytes = encode(&assignment().sign(&key));
    let accept = |bytes: &[u8]| keys.accept(bytes, &host("web-1"), Revision(6), WallMs(2_000));
    assert_eq!(accept(&bytes), Ok(assignment()));
    for at in 0..bytes.len() {
        for bit in [1, 0x80] {
            let mut flipped = bytes.clone();
            flipped[at] ^= bit;
            match accept(&flipped) {
                // The key id only helps people to see which key it was: it decides nothing.
                Ok(a) => assert_eq!(a, assignment(), "byte {at}"),
                Err(AssignmentError::Format | AssignmentError::Signature { .. }) => {}
                Err(other) => panic!("byte {at}: {other:?}"),
            }
        }
    }
}

#[test]
fn s1_15_old_foreign_expired_and_unsigned_assignments_are_refused() {
    let key = SigningKey::generate().unwrap();
    let other = SigningKey::generate().unwrap();
    let bytes = encode(&assignment().sign(&key));
    let keys = TrustedKeys::Only(vec![key.public()]);
    let now = WallMs(2_000);
    let refused =
        |name: &str, held, now| keys.accept(&bytes, &host(name), Revision(held), now).unwrap_err();
    assert!(matches!(refused("db-1", 0, now), AssignmentError::OtherHost { .. }));
    assert!(matches!(refused("web-9", 0, now), AssignmentError::OtherHost { .. }));
    assert_eq!(refused("web-1", 0, WallMs(9_000)), AssignmentError::Expired { at_ms: 9_000 });
    assert!(matches!(refused("web-1", 7, now), AssignmentError::NotNewer { .. }));
    assert!(matches!(refused("web-1", 8, now), AssignmentError::NotNewer { .. }));
    let strangers = TrustedKeys::Only(vec![other.public()]);
    assert!(matches!(
        strangers.accept(&bytes, &host("web-1"), Revision(0), now),
        Err(AssignmentError::Signature { .. })
    ));
    let rotating = TrustedKeys::Only(vec![other.public(), key.public()]);
    assert_eq!(rotating.accept(&bytes, &host("web-1"), Revision(0), now), Ok(assignment()));
}
