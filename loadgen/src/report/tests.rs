use super::*;
use crate::measure::{Part, Parts, Row, Standings, Tally};
use crate::subject::observer::Said;

fn report() -> Report {
    let quantiles = Quantiles {
        count: 12_000,
        p50_us: 850,
        p90_us: 2_300,
        p99_us: 12_345,
        p999_us: 45_600,
        max_us: 4_560_000,
        service_p99_us: 11_000,
    };
    let phase = PhaseReport {
        name: "storm".into(),
        judged: true,
        start_s: 0.0,
        elapsed_s: 6.0,
        measured_s: 6.0,
        bound: None,
        clients: Clients { bound: 10_000, holding: 9_999, done: 9_998 },
        connections: Connections { generator_most: 900, master_most: Some(800), timeouts: 3 },
        remarks: vec!["the master's loop stood still".into()],
        messages: Messages {
            polls: 3,
            polls_acked: 2,
            manifests: 4,
            manifests_repeated: 1,
            reports: 6,
            reports_acked: 5,
            fetched_bytes: 0,
            leaves: 0,
            returns: 0,
            misdirected: 0,
        },
        latencies: BTreeMap::from([(Timed::Poll, quantiles)]),
        failures: BTreeMap::from([("dial: refused".into(), 17)]),
        peers: Vec::new(),
        punctuality: Punctuality {
            valid: true,
            slip_p99_us: 3_000,
            slip_max_us: 40_000,
            p99_allowed_us: 600_000,
            max_allowed_us: 60_000_000,
        },
        percentiles: BTreeMap::from([(
            Timed::Poll,
            vec![(0.5, 850), (0.99, 12_345), (1.0, 4_560_000)],
        )]),
        constraint: None,
    };
    Report {
        schema: SCHEMA,
        version: "0.1.0".into(),
        scenario: "storm".into(),
        outcome: Outcome::Reached,
        summary: "all 10000 clients reported".into(),
        unwritten: None,
        checks: vec![check("every client reaches the goal", Outcome::Reached)],
        master: "127.0.0.1:7400".into(),
        master_version: "0.1.0".into(),
        started_ms: 1_700_000_000_000,
        elapsed_s: 6.0,
        seed: 1,
        clients: 10_000,
        unfinished_first: vec!["lg-00007.load.test".into()],
        phases: vec![phase],
        truth: Some(Truth {
            acked: 5,
            stored: 5,
            lost: 1,
            doubled: 0,
            disordered: 0,
            altered: 0,
            compared: 4,
            lost_first: vec!["lg-00007.load.test 000000000000000a 4".into()],
            doubled_first: Vec::new(),
            disordered_first: Vec::new(),
            altered_first: Vec::new(),
        }),
        rows: Vec::new(),
        samples: vec![look(100_000, 4096), look(1_300_000, 8192)],
        start_ns: 0,
        master_kills: 0,
        environment: Environment::default(),
        names: None,
        generator: Generator {
            workers: 2,
            loop_lag_max_us: 45_000,
            descriptors: 20_000,
            cpu_s: 1.5,
            resident_bytes: 40 << 20,
            read_bytes: 0,
            written_bytes: 3 << 20,
            bytes_per_client: 1536,
            loop_lag_p99_us: 900,
        },
    }
}

/// A master whose process has taken so much.
fn look(cpu_us: u64, read_bytes: u64) -> Sample {
    let process = Process {
        cpu_us: BTreeMap::from([("reactor".to_owned(), cpu_us)]),
        resident_bytes: 5 << 20,
        read_bytes,
        written_bytes: 256 * read_bytes,
        ..Process::default()
    };
    Sample { process: Some(process), ..Sample::default() }
}

#[test]
fn s1_28_the_most_connections_and_all_timeouts_are_counted() {
    let mut record = Record::new("load", 0, Parts::default(), 2);
    let mut tally = Tally::default();
    for why in ["connect_timeout", "answer_timeout", "refused"] {
        tally.failed("dial", why);
    }
    for (second, connections) in [(1, 30), (2, 500), (3, 20)] {
        // Two workers, with half of them each.
        for _ in 0..2 {
            record.add(Duration::from_secs(second), &tally, connections / 2, 0);
        }
    }
    record.close(Standings::default(), true, |_, _| {});
    let said = |connections| Some(Said { connections, ..Said::default() });
    let looks = [said(7), None, said(9), said(8)].map(|said| Sample { said, ..Sample::default() });
    let found = Connections::of(&record, &looks);
    assert_eq!(found, Connections { generator_most: 500, master_most: Some(9), timeouts: 12 });
}

fn check(what: &str, outcome: Outcome) -> Check {
    Check { phase: Some("storm".into()), what: what.into(), outcome, detail: format!("{outcome}!") }
}

#[test]
fn the_worst_of_what_does_not_hold_is_the_outcome() {
    let held = check("a", Outcome::Reached);
    assert_eq!(Check::sum_up(std::slice::from_ref(&held)), None);
    let checks = [
        held,
        check("b", Outcome::Missed),
        check("c", Outcome::Violated),
        check("d", Outcome::Invalid),
    ];
    assert_eq!(Check::sum_up(&checks), Some((Outcome::Violated, "VIOLATED!".into())));
    assert_eq!(Check::sum_up(&checks[..2]), Some((Outcome::Missed, "missed!".into())));
}

#[test]
fn a_master_that_was_started_anew_is_counted_in_all_its_processes() {
    let of = |pid: u32, cpu_us: u64, read_bytes: u64| {
        let mut sample = look(cpu_us, read_bytes);
        sample.process.as_mut().unwrap().pid = pid;
        sample
    };
    let mut report = report();
    report.samples = vec![
        of(1, 500_000, 1024),
        of(1, 1_500_000, 2048),
        of(2, 250_000, 1024),
        of(2, 750_000, 1024),
    ];
    let text = report.render(Paint { colour: false });
    assert!(text.contains("master    1.8 s CPU, 5.0MiB resident, 2.0KiB read, 512.0KiB"), "{text}");
    report.samples.truncate(1);
    assert!(!report.render(Paint { colour: false }).contains("master  "));
}

#[test]
fn one_screen_says_it_all() {
    let text = report().render(Paint { colour: false });
    for part in [
        "all 10000 clients reported",
        "10000 bound, 9999 hold the release, 9998 done, in 6.0 s",
        "not done: lg-00007.load.test",
        "2 of 3 polls acked, 4 manifests (1 repeated), 5 of 6 reports durable",
        "failures  17 dial: refused",
        "5 reports acked, 5 stored, 1 lost, 0 doubled",
        "lost: lg-00007.load.test 000000000000000a 4",
        "40.0MiB resident (1.5KiB a client)",
        "0B read, 3.0MiB written",
        "master    1.2 s CPU, 5.0MiB resident, 4.0KiB read, 1.0MiB written",
        "open      900 connections at once, 800 seen at the master, 3 timeouts",
        "the master's loop stood still",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    let row = text.lines().find(|line| line.starts_with("poll → ack")).unwrap();
    let cells: Vec<_> = row.split_whitespace().collect();
    assert_eq!(
        cells[3..],
        ["12000", "2000.0", "850us", "2.3ms", "12.3ms", "45.6ms", "4.56s", "11.0ms"]
    );
    assert!(text.lines().count() <= 24 && text.lines().all(|line| line.chars().count() <= 100));
}

/// Who left and who came back are two numbers: not all are back when a phase ends.
#[test]
fn who_left_and_who_came_back_are_told_apart() {
    let mut report = report();
    let text = |report: &Report| report.render(Paint { colour: false });
    assert!(!text(&report).contains("churn  "), "nobody has left");
    (report.phases[0].messages.leaves, report.phases[0].messages.returns) = (45, 24);
    assert!(text(&report).contains("churn     45 clients left, 24 came back\n"), "{report:#?}");
    let json = serde_json::to_value(&report).unwrap();
    let messages = &json["phases"][0]["messages"];
    assert_eq!((&messages["leaves"], &messages["returns"]), (&45.into(), &24.into()));
    // The last of those who were away come back in the next phase.
    (report.phases[0].messages.leaves, report.phases[0].messages.returns) = (0, 21);
    assert!(text(&report).contains("churn     0 clients left, 21 came back\n"), "{report:#?}");
    // A report of an earlier version has no such number.
    let mut earlier = json;
    earlier["phases"][0]["messages"].as_object_mut().unwrap().remove("returns");
    let read: Report = serde_json::from_value(earlier).unwrap();
    assert_eq!((read.phases[0].messages.leaves, read.phases[0].messages.returns), (45, 0));
}

#[test]
fn what_a_name_service_answered_and_where_messages_went_is_told() {
    let mut report = report();
    let (questions, slow, nxdomain, wrong, duplicate, changing) = (9, 1, 2, 3, 4, 5);
    let (again, strange) = (7, 6);
    report.names =
        Some(NameCounts { questions, again, slow, nxdomain, wrong, duplicate, changing, strange });
    report.phases[0].messages.misdirected = 3;
    let told = "9 questions answered, 1 late, 2 NXDOMAIN, 3 wrong, 4 twice, 5 changed; 7 asked again; 6 for strange names";
    let text = report.render(Paint { colour: false });
    assert!(text.contains(&format!("names     {told}\n")), "{text}");
    assert!(text.contains("elsewhere 3 messages came to another client"), "{text}");
    let page = html::page(&report);
    assert!(page.contains(told) && page.contains("3 messages, refused there"), "{page}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(
        (&json["names"]["wrong"], &json["phases"][0]["messages"]["misdirected"]),
        (&3.into(), &3.into())
    );
    // An earlier report of the same schema knows nothing of either.
    let mut earlier = json;
    earlier.as_object_mut().unwrap().remove("names");
    earlier["phases"][0]["messages"].as_object_mut().unwrap().remove("misdirected");
    let earlier: Report = serde_json::from_value(earlier).unwrap();
    assert_eq!((earlier.names, earlier.phases[0].messages.misdirected), (None, 0));
}

#[test]
fn json_has_its_schema_and_plain_names() {
    let json = serde_json::to_value(report()).unwrap();
    assert_eq!(json["schema"], 3);
    assert_eq!(json["outcome"], "reached");
    assert_eq!(json["phases"][0]["latencies"]["poll"]["p99_us"], 12_345);
    assert_eq!(json["truth"]["lost"], 1);
    assert_eq!(json["phases"][0]["failures"]["dial: refused"], 17);
}

#[test]
fn all_files_are_written_and_the_report_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut report = report();
    report.phases[0].remarks = vec!["the master's loop <stood> still".into(), "it grew".into()];
    report.summary = "<b>\"5 & 6\"</b>\u{1}".into();
    let missed = Check { detail: report.summary.clone(), ..check("more", Outcome::Missed) };
    report.checks.push(missed);
    report.write_files(dir.path()).unwrap();
    let text = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    let page = text("report.html");
    assert!(
        page.contains("&lt;b&gt;&quot;5 &amp; 6&quot;&lt;/b&gt;"),
        "nothing of a summary is markup"
    );
    for outside in ["http:", "https:", "<script", "@import", "url("] {
        assert!(!page.contains(outside), "{outside} would be fetched");
    }
    assert!(page.contains("Latency by percentile") && page.contains("<polyline"));
    for remark in ["the master's loop &lt;stood&gt; still", "it grew"] {
        assert!(page.contains(&format!("<dt>storm</dt><dd>{remark}</dd>")), "{page}");
    }
    let xml = text("junit.xml");
    assert_eq!(xml.matches("<testcase").count(), 2);
    assert_eq!(xml.matches("<failure").count(), 1, "{xml}");
    let remarks = "<system-out>storm: the master's loop &lt;stood&gt; still&#10;storm: it grew<";
    assert!(xml.contains(remarks), "{xml}");
    assert!(!xml.contains('\u{1}'));
    assert_eq!(Report::read(&dir.path().join("report.json")).unwrap(), report);
    fs::write(dir.path().join("other.json"), "{\"schema\": 1}").unwrap();
    let error = Report::read(&dir.path().join("other.json")).unwrap_err();
    assert!(error.contains("no report of schema 3"), "{error}");
}

#[test]
fn two_equal_runs_are_the_same() {
    let changes = compare::compare(&report(), &report());
    assert!(changes.iter().all(|change| change.meaning == compare::Meaning::Same), "{changes:?}");
    assert_eq!(compare::cautions(&report(), &report()), [] as [String; 0]);
    let mut slower = Report { scenario: "steady".into(), ..report() };
    slower.phases[0].latencies.get_mut(&Timed::Poll).unwrap().p99_us = 24_000;
    let changes = compare::compare(&report(), &slower);
    let worse: Vec<_> = changes.iter().filter(|c| c.meaning == compare::Meaning::Worse).collect();
    assert_eq!(worse.len(), 1);
    assert!(worse[0].what.ends_with("p99 (us)"), "{worse:?}");
    assert!(compare::cautions(&report(), &slower)[0].contains("scenario"));
    let text = compare::render(&changes, Paint { colour: false });
    assert!(text.contains("WORSE") && text.contains("24.0ms"), "{text}");
}

/// Figures may be the better for what was lost.
#[test]
fn a_run_that_lost_reports_is_worse_whatever_its_figures_are() {
    let summary = "VIOLATED: 10 reports are missing".to_owned();
    let lost = Report { outcome: Outcome::Violated, summary, ..report() };
    assert!(compare::fell(&report(), &lost) && !compare::fell(&lost, &report()));
    let cautions = compare::cautions(&report(), &lost);
    assert!(cautions[0].contains("the second run has no figures, it has a defect"), "{cautions:?}");
}

/// A rate varies less than a 99th percentile does.
#[test]
fn each_figure_is_judged_by_its_own_noise() {
    let with = |count: u64| {
        let mut report = report();
        report.phases[0].latencies.get_mut(&Timed::Poll).unwrap().count = count;
        let row = Row {
            second: 0,
            phase: report.phases[0].name.clone(),
            part: Part::Measured,
            polls: 0,
            reports: 0,
            failures: 0,
            latencies: BTreeMap::new(),
            standings: Standings::default(),
            connections: 0,
            cpu_us: 0,
            cpu_busiest_us: 0,
        };
        report.rows = [1_000, 50_000, 200_000, 900_000]
            .map(|p99_us| {
                let mut row = row.clone();
                let latency = row.latencies.entry(Timed::Poll).or_default();
                (latency.count, latency.p99_us, latency.p50_us) = (count / 4, p99_us, 1_000);
                row
            })
            .to_vec();
        report
    };
    let changes = compare::compare(&with(4_000), &with(400));
    let of = |what: &str| changes.iter().find(|c| c.what.ends_with(what)).unwrap();
    assert!(of("p99 (us)").noise > 1.0, "{changes:?}");
    assert_eq!(of("a second").meaning, compare::Meaning::Worse, "{changes:?}");
}
