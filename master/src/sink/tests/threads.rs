//! The sink's thread: what it tells, and whom it keeps waiting.

use super::*;
use crate::control::{HostRow, HostsPage};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

fn start(sink: impl Sink + Send + 'static) -> (SinkThread, Receiver<SinkEvent>) {
    let (tell, told) = channel();
    let thread = SinkThread::start(sink, None, move |event| {
        let _ = tell.send(event);
    });
    (thread.unwrap(), told)
}

/// Keeps its batches in memory; writes wait for a word on the gate, which says whether they
/// succeed.
struct GatedSink {
    gate: Receiver<bool>,
    begun: Sender<()>,
    stored: Vec<u64>,
}

impl GatedSink {
    fn pass(&self) -> Result<(), SinkError> {
        let _ = self.begun.send(());
        match self.gate.recv() {
            Ok(true) => Ok(()),
            _ => Err(SinkError::DiskFull { path: "/nowhere".to_owned() }),
        }
    }
}

impl Sink for GatedSink {
    fn append(&mut self, batch: &[Record]) -> Result<Appended, SinkError> {
        self.pass()?;
        self.stored.extend(batch.iter().map(|r| r.seq));
        let upto = self.cursor().unwrap_or(0);
        Ok(Appended { upto, stored: batch.len() as u64, ..Appended::default() })
    }

    fn cursor(&self) -> Option<u64> {
        self.stored.last().copied()
    }

    fn update_hosts(&mut self, _: &HostUpdates) -> Result<(), SinkError> {
        self.pass()
    }

    fn query(&mut self, query: &Query) -> Result<Answer, SinkError> {
        Ok(match query {
            Query::Hosts { .. } => Answer::Hosts(HostsPage {
                hosts: vec![HostRow {
                    name: "web1".to_owned(),
                    last_seen_ms: Some(1_000),
                    silent: true,
                    ..HostRow::default()
                }],
                next: None,
            }),
            _ => Answer::Report(None),
        })
    }

    fn prune(&mut self, _: WallMs, _: usize) -> Result<usize, SinkError> {
        Ok(0)
    }
}

fn gated() -> (GatedSink, Sender<bool>, Receiver<()>) {
    let (open, gate) = channel();
    let (begun, began) = channel();
    (GatedSink { gate, begun, stored: Vec::new() }, open, began)
}

#[test]
fn s1_67_nobody_waits_for_a_sink_that_is_stuck() {
    let (sink, open, began) = gated();
    let (thread, told) = start(sink);
    let handle = thread.handle();
    handle.append(records(0, 3));
    began.recv().unwrap();
    // The write is under way and will not end by itself: whoever waited for it would hang.
    let mut updates = HostUpdates::default();
    updates.host(host("web1"), HostUpdate::default());
    for _ in 0..10_000 {
        handle.update_hosts(updates.clone());
    }
    for id in 0..thread::QUERIES_MAX as u64 {
        handle.query(id, Query::Ids { after: None }).unwrap();
    }
    assert_eq!(handle.query(99, Query::Ids { after: None }), Err(thread::SinkBusy));
    assert!(told.try_recv().is_err(), "acked before it was stored");
    open.send(true).unwrap();
    assert_eq!(
        told.recv().unwrap(),
        SinkEvent::Appended(Appended { upto: 2, stored: 3, ..Appended::default() })
    );
    // Ten thousand updates of one host were one write.
    open.send(true).unwrap();
    for id in 0..thread::QUERIES_MAX as u64 {
        let answer = Ok(Answer::Report(None));
        assert_eq!(told.recv().unwrap(), SinkEvent::Answered { id, answer });
    }
    thread.stop();
    assert_eq!(told.recv().unwrap(), SinkEvent::Ended);
    assert_eq!(began.iter().count(), 1);
}

/// A full disk makes no host silent.
#[test]
fn what_could_not_be_stored_of_a_host_is_told_all_the_same() {
    let (sink, open, _began) = gated();
    let (thread, told) = start(sink);
    let mut updates = HostUpdates::default();
    let update = HostUpdate {
        seen: Some(WallMs(5_000)),
        version: Some("1.0.0".to_owned()),
        ..HostUpdate::default()
    };
    updates.host(host("web1"), update);
    thread.handle().update_hosts(updates);
    let ask = |silent_only| {
        open.send(false).unwrap();
        let query = Query::Hosts { silent_before: WallMs(2_000), silent_only, after: None };
        thread.handle().query(7, query).unwrap();
        loop {
            match told.recv().unwrap() {
                SinkEvent::HostsFailed(error) => assert!(error.to_string().contains("is full")),
                SinkEvent::Answered { answer: Ok(Answer::Hosts(page)), .. } => break page.hosts,
                other => panic!("{other:?}"),
            }
        }
    };
    let hosts = ask(false);
    assert_eq!((hosts[0].last_seen_ms, hosts[0].silent), (Some(5_000), false));
    assert_eq!(hosts[0].version.as_deref(), Some("1.0.0"));
    assert_eq!(ask(true), []);
    open.send(true).unwrap();
    thread.stop();
    let mut rest = told.iter().filter(|event| !matches!(event, SinkEvent::HostsFailed(_)));
    assert_eq!(rest.next(), Some(SinkEvent::Recovered));
}

#[test]
fn s1_67_a_sink_at_100_ms_per_write_delays_no_hand_over() {
    let dir = tempfile::tempdir().unwrap();
    let delay = Duration::from_millis(100);
    let sink = SlowSink::new(open(&dir.path().join("results.sqlite")), delay);
    let (thread, told) = start(sink);
    let mut updates = HostUpdates::default();
    updates.host(host("web1"), HostUpdate::default());
    let mut slowest = Duration::ZERO;
    let mut hand_over = |send: &dyn Fn(&SinkHandle)| {
        let begun = std::time::Instant::now();
        send(&thread.handle());
        slowest = slowest.max(begun.elapsed());
    };
    for n in 0..3 {
        let begun = std::time::Instant::now();
        hand_over(&|handle| handle.append(records(n * 1000, (n + 1) * 1000)));
        // All the while that it is written, whoever has news can leave them.
        let appended = loop {
            hand_over(&|handle| handle.update_hosts(updates.clone()));
            match told.try_recv() {
                Ok(SinkEvent::Appended(appended)) => break appended,
                Ok(other) => panic!("{other:?}"),
                Err(_) => std::thread::yield_now(),
            }
        };
        // One write for a thousand reports: the 100 ms are shared by all of them.
        assert_eq!(appended.stored, 1000);
        assert!(begun.elapsed() >= delay);
    }
    assert!(slowest < delay, "handing a batch over took {slowest:?}");
    thread.stop();
}

#[test]
fn s1_25_a_stop_finishes_what_was_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.sqlite");
    let (thread, told) = start(SlowSink::new(open(&path), Duration::from_millis(20)));
    let mut updates = HostUpdates::default();
    updates.host(host("db1"), HostUpdate { seen: Some(WallMs(7)), ..HostUpdate::default() });
    thread.handle().update_hosts(updates);
    thread.handle().append(records(0, 100));
    thread.stop();
    let events: Vec<SinkEvent> = told.iter().collect();
    assert!(
        matches!(&events[..], [SinkEvent::Appended(a), SinkEvent::Ended] if a.stored == 100),
        "{events:?}"
    );
    let mut sink = open(&path);
    assert_eq!(all_ids(&mut sink).len(), 100);
    assert_eq!(hosts(&mut sink, 0, false).hosts[0].last_seen_ms, Some(7));
}

#[test]
fn e18_dropping_the_sinks_thread_stores_what_was_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.sqlite");
    let (thread, told) = start(SlowSink::new(open(&path), Duration::from_millis(20)));
    let handle = thread.handle();
    // A batch, a question and a job wait behind a write; news of hosts wait a second by design.
    handle.append(records(0, 10));
    let mut updates = HostUpdates::default();
    updates.host(host("db1"), HostUpdate { seen: Some(WallMs(7)), ..HostUpdate::default() });
    handle.update_hosts(updates);
    handle.query(1, Query::Ids { after: None }).unwrap();
    let (done, job) = channel();
    handle.run(move || done.send(()).unwrap());
    drop(thread);
    assert_eq!(job.try_recv(), Ok(()), "the job was left");
    let events: Vec<SinkEvent> = told.try_iter().collect();
    let is = |of: &dyn Fn(&SinkEvent) -> bool| events.iter().filter(|event| of(event)).count();
    assert_eq!(is(&|e| matches!(e, SinkEvent::Appended(a) if a.stored == 10)), 1, "{events:?}");
    assert_eq!(is(&|e| matches!(e, SinkEvent::Answered { id: 1, .. })), 1, "{events:?}");
    assert_eq!(events.last(), Some(&SinkEvent::Ended));
    assert_eq!(hosts(&mut open(&path), 0, false).hosts[0].last_seen_ms, Some(7));
}

#[test]
fn a_failed_batch_comes_back_with_a_longer_wait_each_time() {
    let (sink, open, _began) = gated();
    let (thread, told) = start(sink);
    let mut waits = Vec::new();
    for _ in 0..12 {
        open.send(false).unwrap();
        thread.handle().append(records(5, 8));
        let SinkEvent::AppendFailed { error, retry_after, .. } = told.recv().unwrap() else {
            panic!()
        };
        assert!(error.to_string().contains("free some space"));
        waits.push(retry_after.as_millis());
    }
    assert!(waits.is_sorted());
    assert_eq!((waits[0], waits[1], waits[11]), (100, 200, 30_000));
    open.send(true).unwrap();
    thread.handle().append(records(5, 8));
    assert!(matches!(told.recv().unwrap(), SinkEvent::Appended(a) if a.upto == 7));
    open.send(false).unwrap();
    thread.handle().append(records(8, 9));
    assert!(
        matches!(told.recv().unwrap(), SinkEvent::AppendFailed { retry_after, .. } if retry_after.as_millis() == 100)
    );
    thread.stop();
}

#[test]
fn a_sink_that_panics_is_told() {
    struct Panicking;
    impl Sink for Panicking {
        fn append(&mut self, _: &[Record]) -> Result<Appended, SinkError> {
            panic!("on purpose")
        }
        fn cursor(&self) -> Option<u64> {
            None
        }
        fn update_hosts(&mut self, _: &HostUpdates) -> Result<(), SinkError> {
            Ok(())
        }
        fn query(&mut self, _: &Query) -> Result<Answer, SinkError> {
            Ok(Answer::Report(None))
        }
        fn prune(&mut self, _: WallMs, _: usize) -> Result<usize, SinkError> {
            Ok(0)
        }
    }
    let (thread, told) = start(Panicking);
    thread.handle().append(records(0, 1));
    assert_eq!(told.recv().unwrap(), SinkEvent::Ended);
    thread.stop();
}

#[test]
fn old_reports_are_removed_by_the_thread() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.sqlite");
    // More than one piece; they arrived shortly after 1970.
    open(&path).append(&records(0, 2500)).unwrap();
    let (tell, told) = channel();
    let keep = Some(Duration::from_secs(90 * 86_400));
    let thread = SinkThread::start(open(&path), keep, move |e| {
        let _ = tell.send(e);
    })
    .unwrap();
    // It prunes piece by piece before it sleeps, and answers in between.
    loop {
        thread.handle().query(1, Query::Ids { after: None }).unwrap();
        match told.recv().unwrap() {
            SinkEvent::Answered { answer: Ok(Answer::Ids(page)), .. } if page.ids.is_empty() => {
                break;
            }
            SinkEvent::Answered { answer: Ok(Answer::Ids(_)), .. } => {}
            other => panic!("{other:?}"),
        }
    }
    thread.stop();
}

/// A result store on another machine: here a connection to a thread that has the real one.
struct RemoteSink {
    answers: BufReader<TcpStream>,
    cursor: Option<u64>,
}

impl RemoteSink {
    fn fail(e: impl ToString) -> SinkError {
        SinkError::Io { path: "remote".to_owned(), detail: e.to_string() }
    }
}

impl Sink for RemoteSink {
    fn append(&mut self, batch: &[Record]) -> Result<Appended, SinkError> {
        let mut request = Vec::new();
        request.extend_from_slice(&(batch.len() as u64).to_le_bytes());
        for record in batch {
            for n in [record.seq, record.arrived.0, record.frame.len() as u64] {
                request.extend_from_slice(&n.to_le_bytes());
            }
            request.extend_from_slice(&record.frame);
        }
        self.answers.get_mut().write_all(&request).map_err(Self::fail)?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(Self::fail)?;
        let upto = line.trim().parse().map_err(Self::fail)?;
        self.cursor = Some(upto);
        Ok(Appended { upto, stored: batch.len() as u64, ..Appended::default() })
    }

    fn cursor(&self) -> Option<u64> {
        self.cursor
    }

    fn update_hosts(&mut self, _: &HostUpdates) -> Result<(), SinkError> {
        Ok(())
    }

    fn query(&mut self, _: &Query) -> Result<Answer, SinkError> {
        Err(Self::fail("asks are for the far side"))
    }

    fn prune(&mut self, _: WallMs, _: usize) -> Result<usize, SinkError> {
        Ok(0)
    }
}

fn serve(mut stream: TcpStream, sink: &mut SqliteSink) -> std::io::Result<()> {
    use std::io::Read;
    let number = |stream: &mut TcpStream| -> std::io::Result<u64> {
        let mut bytes = [0; 8];
        stream.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    };
    loop {
        let mut batch = Vec::new();
        for _ in 0..number(&mut stream)? {
            let seq = number(&mut stream)?;
            let arrived = WallMs(number(&mut stream)?);
            let mut frame = vec![0; number(&mut stream)? as usize];
            stream.read_exact(&mut frame)?;
            batch.push(Record { seq, arrived, frame });
        }
        let appended = sink.append(&batch).unwrap();
        writeln!(stream, "{}", appended.upto)?;
    }
}

#[test]
fn s1_65_a_sink_may_be_on_another_machine() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.sqlite");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let far = {
        let path = path.clone();
        std::thread::spawn(move || {
            let mut sink = open(&path);
            // Ends when the near side hangs up.
            let _ = serve(listener.accept().unwrap().0, &mut sink);
        })
    };
    let stream = TcpStream::connect(addr).unwrap();
    let (thread, told) = start(RemoteSink { answers: BufReader::new(stream), cursor: None });
    for n in 0..4 {
        thread.handle().append(records(n * 50, (n + 1) * 50));
        assert!(matches!(told.recv().unwrap(), SinkEvent::Appended(a) if a.upto == n * 50 + 49));
    }
    thread.stop();
    far.join().unwrap();
    assert_eq!(all_ids(&mut open(&path)).len(), 200);
}
