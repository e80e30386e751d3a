use super::*;
use crate::control::ReportsPage;

fn asked(verb: &str, arguments: &str) -> Option<Result<Query, ControlError>> {
    query(verb, arguments.as_bytes(), WallMs(5))
}

#[test]
fn verbs_of_the_store_become_questions() {
    let hosts = Query::Hosts { silent_before: WallMs(5), silent_only: true, after: None };
    assert_eq!(asked("hosts", r#"{"silent":true}"#), Some(Ok(hosts)));
    assert_eq!(asked("ids", r#"{"after":7}"#), Some(Ok(Query::Ids { after: Some(7) })));
    assert_eq!(asked("report", r#"{"id":3}"#), Some(Ok(Query::Report { id: 3 })));
    let args = ReportsArgs { host: Some("web1".to_owned()), ..ReportsArgs::default() };
    assert_eq!(asked("reports", r#"{"host":"WEB1"}"#), Some(Ok(Query::Reports(args))));
    for verb in ["status", "push", "probe", "published", "no such verb"] {
        assert_eq!(asked(verb, "{}"), None);
    }
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for (verb, arguments, said) in [
        ("hosts", "", "the arguments of `hosts` cannot be read"),
        ("hosts", r#"{"silnet":true}"#, "unknown field `silnet`"),
        ("report", "{}", "missing field `id`"),
        ("reports", r#"{"host":"a b"}"#, "a host name has letters"),
        ("ids", "\u{0}", "cannot be read"),
    ] {
        let error = asked(verb, arguments).unwrap().unwrap_err().error;
        assert!(error.contains(said), "{verb} {arguments}: {error}");
    }
}

#[test]
fn answers_become_one_last_piece() {
    let page = ReportsPage::default();
    let response = super::response(&Ok(Answer::Reports(page.clone())));
    assert!(response.last && response.ok);
    assert_eq!(serde_json::from_slice::<ReportsPage>(&response.body).unwrap(), page);
    let missing = super::response(&Ok(Answer::Report(None)));
    assert!(missing.last && !missing.ok);
    let error: ControlError = serde_json::from_slice(&missing.body).unwrap();
    assert!(error.hint.contains("drover reports"));
    let full = super::response(&Err(SinkError::DiskFull { path: "/x".to_owned() }));
    assert!(!full.ok);
}
