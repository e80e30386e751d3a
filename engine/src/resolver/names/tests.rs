use super::*;
use crate::time::WallMs;
use std::net::Ipv4Addr;

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn at(s: u64) -> Now {
    Now { at: Instant(s * 1_000_000_000), wall: WallMs(0) }
}

fn found(last: u8, ttl_s: u64) -> Result<Answer, ResolveError> {
    let addrs = vec![Ipv4Addr::new(192, 0, 2, last).into()];
    Ok(Answer { addrs, ttl: Duration::from_secs(ttl_s) })
}

fn addr(last: u8) -> Resolution {
    Ok(vec![([192, 0, 2, last], 0).into()])
}

fn answers(names: &mut Names) -> Vec<Resolution> {
    std::iter::from_fn(|| names.poll_answer()).map(|(_, resolution)| resolution).collect()
}

#[test]
fn e8_one_look_up_for_all_who_ask_and_an_answer_for_each() {
    let mut names = Names::new(NameSettings::default());
    (0..3).for_each(|_| names.handle_request(name("a"), at(0)));
    assert_eq!(names.poll_lookup(), Some(name("a")));
    names.handle_request(name("a"), at(1));
    assert_eq!(names.poll_lookup(), None);
    names.handle_answer(name("a"), found(1, 60), at(2));
    assert_eq!(answers(&mut names), vec![addr(1); 4]);
    names.handle_answer(name("a"), found(2, 60), at(2));
    assert_eq!(answers(&mut names), [], "nobody asked");
}

#[test]
fn s1_10_an_answer_holds_for_its_ttl_and_not_longer() {
    let mut names = Names::new(NameSettings::default());
    names.handle_request(name("a"), at(0));
    names.poll_lookup().unwrap();
    names.handle_answer(name("a"), found(1, 60), at(100));
    names.handle_request(name("a"), at(159));
    assert_eq!(names.poll_lookup(), None);
    assert_eq!(answers(&mut names), vec![addr(1); 2]);
    names.handle_request(name("a"), at(160));
    assert_eq!(names.poll_lookup(), Some(name("a")));
    names.handle_answer(name("a"), found(2, 0), at(161));
    assert_eq!(answers(&mut names), [addr(2)]);
    names.handle_request(name("a"), at(161));
    assert_eq!(names.poll_lookup(), Some(name("a")), "a TTL of 0 is not kept");
}

#[test]
fn s1_11_what_does_not_exist_is_kept_shortly_and_failures_shorter() {
    let mut names = Names::new(NameSettings::default());
    let cases = [(ResolveError::NoSuchName, 5), (ResolveError::Timeout, 1)];
    for (error, kept) in cases {
        let host = name(&format!("host{kept}"));
        names.handle_request(host.clone(), at(10));
        names.poll_lookup().unwrap();
        names.handle_answer(host.clone(), Err(error.clone()), at(10));
        names.handle_request(host.clone(), at(10 + kept - 1));
        assert_eq!(names.poll_lookup(), None);
        assert_eq!(answers(&mut names), vec![Err(error); 2]);
        names.handle_request(host.clone(), at(10 + kept));
        assert_eq!(names.poll_lookup(), Some(host));
    }
}

#[test]
fn look_ups_waiting_names_and_answers_are_bounded() {
    let settings =
        NameSettings { lookups_max: 2, waiting_max: 3, answers_max: 4, ..NameSettings::default() };
    let mut names = Names::new(settings);
    let host = |n: u32| name(&format!("h{n}"));
    (0..4).for_each(|n| names.handle_request(host(n), at(0)));
    assert!(matches!(answers(&mut names)[..], [Err(ResolveError::Failed(_))]));
    assert_eq!([names.poll_lookup(), names.poll_lookup()], [Some(host(0)), Some(host(1))]);
    assert_eq!(names.poll_lookup(), None);
    names.handle_answer(host(1), found(1, 9), at(0));
    assert_eq!(names.poll_lookup(), Some(host(2)), "a slow one holds up no other");
    for n in 10..200 {
        names.handle_answer(host(n - 1), found(1, 9), at(0));
        names.handle_request(host(n), at(0));
        names.poll_lookup();
        assert!(names.known.len() <= 4);
    }
}

#[test]
fn s1_12_a_name_that_is_written_as_an_address_leads_nowhere() {
    let mut names = Names::new(NameSettings::default());
    for text in ["192.0.2.7", "127.0.0.1"] {
        names.handle_request(name(text), at(0));
        assert_eq!(names.poll_lookup(), None, "the name service would take it for an address too");
        assert_eq!(answers(&mut names), [Err(ResolveError::NoSuchName)]);
    }
}
