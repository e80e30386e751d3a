use super::*;
use crate::admin;
use crate::control::{
    HostsPage, IdsPage, ProbeStep, Probed, Published, PublishedArgs, PushFailure, PushResult,
    QueuePage, QueueStat, ReportDetail, ReportsArgs, ReportsPage, Status, verb,
};
use crate::sink::{HostUpdate, HostUpdates, Record, Sink, SinkOptions, SqliteSink};
use engine::ids::{Epoch, Origin};
use engine::queue::lmdb::{LmdbConfig, LmdbStore};
use engine::queue::store::{Batch, StoreCommand};
use engine::time::WallMs;
use engine::wire::message::BindReq;
use engine::wire::message::{ControlReq, ControlResp, Report, ResourceResult, outcome, trigger};
use engine::wire::{Decoder, Flow, FrameBuf, RouteBuf, access};
use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

const NOW: WallMs = WallMs(10_000_000);

/// A daemon with a real result store, and set answers to the verbs that need a reactor.
fn daemon(dir: &Path) -> Context {
    let config_path = dir.join("master.toml");
    std::fs::write(&config_path, "name = \"master\"\n").unwrap();
    let mut sink =
        SqliteSink::open(&dir.join("results.sqlite"), Epoch(1), SinkOptions::default()).unwrap();
    fill(&mut sink);
    let listener = UnixListener::bind(dir.join("control.sock")).unwrap();
    // It ends with the process: nothing waits for it.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            serve(&mut stream.unwrap(), &mut sink);
        }
    });
    Context { config_path, json: false, paint: Paint { colour: false } }
}

fn fill(sink: &mut SqliteSink) {
    let mut updates = HostUpdates::default();
    for (name, seen) in [("web1", Some(WallMs(NOW.0 - 5_000))), ("web2", None)] {
        updates.host(name.parse().unwrap(), HostUpdate { seen, ..HostUpdate::default() });
    }
    sink.update_hosts(&updates).unwrap();
    let result = ResourceResult {
        id: b"exec check".to_vec(),
        outcome: outcome::FAILED,
        before: String::new(),
        after: String::new(),
        error: "exit status 3".to_owned(),
        duration_us: 1500,
        output: b"first\nsecond \x1b[2J".to_vec(),
    };
    let report = |results| Report {
        revision: 4,
        trigger: trigger::COMMAND,
        started_ms: 5,
        duration_us: 2500,
        busy_us: 2000,
        checked: 10,
        results,
        note: String::new(),
    };
    let record = |seq, report: &Report| {
        let origin = Origin { name: "web1".parse().unwrap(), epoch: Epoch(0xab), seq };
        let frame = FrameBuf::message(Some(&RouteBuf::from(origin)), report, |_| ()).to_vec();
        Record { seq, arrived: WallMs(NOW.0 - 9_000), frame }
    };
    sink.append(&[record(1, &report(vec![])), record(2, &report(vec![result]))]).unwrap();
}

fn serve(stream: &mut UnixStream, sink: &mut SqliteSink) {
    let mut decoder = Decoder::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).unwrap();
        if n == 0 {
            return;
        }
        let mut answer = None;
        let take = |frame: engine::wire::Frame<'_>| {
            let request = access::<ControlReq>(&frame).unwrap();
            answer = Some(reply(&request.verb, &request.arguments, sink));
            Flow::Next
        };
        decoder.feed(&buffer[..n], take).unwrap();
        if let Some(response) = answer {
            stream.write_all(&FrameBuf::message(None, &response, |_| ()).to_vec()).unwrap();
        }
    }
}

fn reply(verb: &str, arguments: &[u8], sink: &mut SqliteSink) -> ControlResp {
    if let Some(query) = admin::query(verb, arguments, WallMs(NOW.0 - 60_000)) {
        return match query {
            Ok(query) => admin::response(&sink.query(&query)),
            Err(error) => admin::refusal(&error),
        };
    }
    match verb {
        verb::STATUS => admin::piece(
            &Status {
                name: "master".to_owned(),
                revision: 4,
                expires_ms: NOW.0 + 7_200_000,
                warnings: vec!["2 hosts are silent".to_owned()],
                ..Status::default()
            },
            true,
        ),
        verb::PROBE => {
            let step =
                |name: &str, ok| ProbeStep { name: name.to_owned(), ok, detail: "x".to_owned() };
            admin::piece(&Probed { steps: vec![step("resolve", true), step("dial", false)] }, true)
        }
        verb::PUSH => admin::piece(
            &crate::control::PushPiece::Result(PushResult {
                revision: 4,
                targets: 2,
                done: 1,
                failed: 1,
                failures: vec![PushFailure {
                    host: "web2".to_owned(),
                    reason: "refused".to_owned(),
                }],
            }),
            true,
        ),
        verb::PUBLISHED => {
            let args: PublishedArgs = admin::parse(verb, arguments).unwrap();
            admin::piece(&Published { revision: args.revision, targets: 2 }, true)
        }
        _ => admin::refusal(&control::ControlError::new("no such verb", "")),
    }
}

/// Runs a command twice: as text, and as JSON.
fn both<T: DeserializeOwned>(
    context: &Context,
    run: impl Fn(&Context, &mut dyn Write) -> Result<Exit, Failure>,
) -> (Exit, String, T) {
    let mut text = Vec::new();
    let exit = run(context, &mut text).unwrap();
    let mut json = Vec::new();
    assert_eq!(run(&Context { json: true, ..context.clone() }, &mut json).unwrap(), exit);
    (exit, String::from_utf8(text).unwrap(), serde_json::from_slice(&json).unwrap())
}

#[test]
fn s2_25_hosts_silent_shows_who_was_not_heard() {
    let dir = tempfile::tempdir().unwrap();
    let context = daemon(dir.path());
    let (_, text, page): (_, _, HostsPage) =
        both(&context, |c, out| hosts::run(c, true, false, NOW, out));
    assert_eq!(page.hosts.len(), 1);
    let mut lines = text
        .lines()
        .map(|l| l.split("  ").filter(|w| !w.is_empty()).map(str::trim).collect::<Vec<_>>());
    assert_eq!(lines.nth(1).unwrap(), ["web2", "never", "-", "-", "-", "-", "-"]);
    assert!(text.ends_with("1 host, 1 silent, 0 with an error\n"), "{text}");
    let (_, text, page): (_, _, HostsPage) =
        both(&context, |c, out| hosts::run(c, false, false, NOW, out));
    assert_eq!(page.hosts.len(), 2);
    assert!(text.contains("5s ago") && text.contains("exec check: exit status 3"), "{text}");
    let (_, text, page): (_, _, HostsPage) =
        both(&context, |c, out| hosts::run(c, false, true, NOW, out));
    assert_eq!(page.hosts.len(), 1);
    assert!(text.ends_with("1 host, 0 silent, 1 with an error\n"), "{text}");
}

#[test]
fn reports_are_listed_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let context = daemon(dir.path());
    let failed = ReportsArgs { failed: true, ..ReportsArgs::default() };
    let (_, text, page): (_, _, ReportsPage) =
        both(&context, |c, out| reports::list(c, &failed, out));
    assert_eq!(page.reports.len(), 1);
    assert!(text.contains("web1") && text.ends_with("1 report\n"), "{text}");
    assert!(text.contains("RESULT") && text.contains(" failed "), "{text}");
    let id = page.reports[0].id;
    let (_, text, detail): (_, _, ReportDetail) = both(&context, |c, out| reports::one(c, id, out));
    assert_eq!(detail.report, page.reports[0]);
    assert!(
        text.ends_with("\nfailed exec check (1.5ms)\n  error  exit status 3\n  | first\n  | second \\u{1b}[2J\n"),
        "{text}"
    );
    let failure = reports::one(&context, 999, &mut Vec::new()).unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    assert!(failure.to_string().starts_with("there is no report of this number; `drover reports`"));
}

#[test]
fn ids_are_printed_one_a_line_or_as_one_object() {
    let dir = tempfile::tempdir().unwrap();
    let context = daemon(dir.path());
    let mut text = Vec::new();
    reports::ids(&context, &mut text).unwrap();
    assert_eq!(text, b"web1 00000000000000ab 1\nweb1 00000000000000ab 2\n");
    let mut json = Vec::new();
    reports::ids(&Context { json: true, ..context }, &mut json).unwrap();
    let page: IdsPage = serde_json::from_slice(&json).unwrap();
    let [first, second] = &page.ids[..] else { panic!("{page:?}") };
    assert_eq!((first.name.as_str(), first.epoch, first.seq), ("web1", 0xab, 1));
    assert!(first.digest.is_some() && second.seq == 2 && page.next.is_none());
}

#[test]
fn status_probe_and_push_say_what_the_daemon_says() {
    let dir = tempfile::tempdir().unwrap();
    let context = daemon(dir.path());
    let (_, text, status): (_, _, Status) = both(&context, |c, out| status::run(c, false, out));
    assert_eq!(status.revision, 4);
    assert!(
        text.contains("accepted until 1970-01-01 04:46:40Z")
            && text.starts_with("warning: 2 hosts are silent\n"),
        "{text}"
    );

    let (exit, text, _): (_, _, Probed) = both(&context, |c, out| probe::run(c, "web2", out));
    assert_eq!(exit, Exit::Failed);
    assert!(text.ends_with("web2 cannot be reached: `dial` failed\n"), "{text}");

    let (exit, text, _): (_, _, serde_json::Value) = both(&context, |c, out| push::run(c, "", out));
    assert_eq!(exit, Exit::Partial);
    assert!(text.contains("web2  refused") && text.contains("1 of 2 hosts reached"), "{text}");
}

#[test]
fn a_daemon_that_is_down_is_status_3_and_says_how_to_start_it() {
    let dir = tempfile::tempdir().unwrap();
    let config_path = dir.path().join("master.toml");
    std::fs::write(&config_path, "").unwrap();
    let context =
        Context { config_path: config_path.clone(), json: false, paint: Paint { colour: false } };
    let failure = status::run(&context, false, &mut Vec::new()).unwrap_err();
    assert_eq!(failure.exit, Exit::Unreachable);
    assert_eq!(
        failure.to_string(),
        format!(
            "the master is not running: nobody listens on {}; start it with `drover master --config {}`",
            dir.path().join("control.sock").display(),
            config_path.display()
        )
    );
}

#[test]
fn a_push_ends_as_its_hosts_did() {
    let result = |done, failed| PushResult { done, failed, ..PushResult::default() };
    let exits = [(0, 0), (5, 0), (3, 2), (0, 2)].map(|(d, f)| push::exit(&result(d, f)));
    assert_eq!(exits, [Exit::Done, Exit::Done, Exit::Partial, Exit::Failed]);
}

#[test]
fn what_init_makes_is_a_configuration_and_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let context = Context {
        config_path: dir.path().join("master.toml"),
        json: false,
        paint: Paint { colour: false },
    };
    let args = init::InitArgs { dir: dir.path().to_owned(), site: Some("edge".to_owned()) };
    site::init(&context, &args, &mut Vec::new()).unwrap();
    assert_eq!(context.config().unwrap().site_dir, dir.path().join("site"));

    let publish = |force| {
        let mut out = Vec::new();
        let wish = site::PublishWish { force, ..site::PublishWish::default() };
        let exit = site::publish(&context, wish, NOW, &mut out).unwrap();
        (exit, String::from_utf8(out).unwrap())
    };
    let (exit, text) = publish(false);
    assert_eq!(exit, Exit::Done);
    assert!(text.contains("published revision 1") && text.contains("not running"), "{text}");
    let (_, text) = publish(false);
    assert!(text.starts_with("nothing changed"), "{text}");
    // With a daemon beside it, which keeps the configuration as it is.
    let config = std::fs::read(&context.config_path).unwrap();
    daemon(dir.path());
    std::fs::write(&context.config_path, config).unwrap();
    let (_, text) = publish(true);
    assert!(text.contains("published revision 2"), "{text}");
    assert!(text.ends_with("pushing it to 2 hosts; `drover hosts` shows who has it\n"), "{text}");

    let again = site::init(&context, &args, &mut Vec::new()).unwrap_err();
    assert_eq!(again.exit, Exit::Failed);
    assert!(again.to_string().contains("nothing was written"), "{again}");
}

#[test]
fn queue_commands_look_into_the_inbox_itself() {
    let dir = tempfile::tempdir().unwrap();
    let config_path = dir.path().join("master.toml");
    std::fs::write(&config_path, "").unwrap();
    let context = Context { config_path, json: false, paint: Paint { colour: false } };
    let failure = queue::stat(&context, NOW, &mut Vec::new()).unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    assert!(
        failure.to_string().contains("the master makes its inbox when it first starts"),
        "{failure}"
    );

    let inbox = crate::daemon::inbox_dir(&dir.path().join("state"));
    let (mut store, state) = LmdbStore::open(LmdbConfig::new(inbox)).unwrap();
    let mut batch = Batch { first: state.next, ..Batch::default() };
    let origin = Origin { name: "web1".parse().unwrap(), epoch: Epoch(7), seq: 9 };
    let route = RouteBuf::from(origin);
    let poll = BindReq { nonce: 1, version: String::new() };
    batch.push(&FrameBuf::message(Some(&route), &poll, |_| {}).to_vec());
    batch.push(b"no frame");
    store.apply(&StoreCommand::Write(batch));
    drop(store);
    let (_, text, stat): (_, _, QueueStat) = both(&context, |c, out| queue::stat(c, NOW, out));
    assert_eq!(stat.records, 2);
    assert!(text.contains("records"), "{text}");
    let (_, text, page): (_, _, QueuePage) =
        both(&context, |c, out| queue::dump(c, false, 0, 10, out));
    assert_eq!((&page.records[0].origin[..], page.records[0].origin_seq), ("web1", 9));
    assert_eq!(page.records[1].kind, "damaged");
    assert!(text.ends_with("2 records\n"), "{text}");
    let (_, _, page): (_, _, QueuePage) = both(&context, |c, out| queue::dump(c, false, 0, 1, out));
    assert_eq!(page.next, Some(page.records[0].seq + 1));
}
