use super::*;
use crate::ids::Epoch;
use crate::node::io::{Host, ResolveError};
use crate::node::{
    Context, Downstream, DownstreamLimits, Handled, Message, Node, NodeEvent, Parts, Role,
};
use crate::time::Now;
use crate::wire::message::StatusReq;
use crate::wire::{Class, Frame, FrameBuf};

fn at(ms: u64) -> Instant {
    Instant::default() + std::time::Duration::from_millis(ms)
}

fn header(kind: Kind, seq: u64) -> Header {
    Header { lane: Lane::Volatile, epoch: Epoch(1), seq, ..Header::new(kind) }
}

fn conn(n: u32) -> ConnId {
    ConnId::new(n, 1)
}

fn tell(trail: &mut Trail, input: Input<()>, ms: u64) {
    trail.input(&input, at(ms));
}

#[track_caller]
fn ask(trail: &mut Trail, output: Output<()>) -> String {
    let place = Location::caller();
    trail.output(&output, place);
    format!("({}:{})", place.file(), place.line())
}

fn accepted(n: u32) -> Input<()> {
    let peer = PeerAddr::Tcp(SocketAddr::from(([192, 0, 2, 1], 1000 + n as u16)));
    Input::Accepted { conn: conn(n), listener: crate::ids::Listener::Peers, local: None, peer }
}

fn status(n: u32) -> Output<()> {
    Output::Send { conn: conn(n), frame: FrameBuf::message(None, &StatusReq { detail: 0 }, |_| {}) }
}

/// A poll, the look-up of a name, a dial, and its failure, among those of others.
#[test]
fn s1_40_a_chain_leads_through_the_resolver_and_the_dial() {
    let mut trail = Trail::default();
    let names: Vec<HostName> = (0..4).map(|n| format!("web-{n}").parse().unwrap()).collect();
    let addr = |n: u64| SocketAddr::from(([192, 0, 2, 9], 7000 + n as u16));
    for (n, name) in (0..4).zip(&names) {
        tell(&mut trail, accepted(n), 0);
        trail.frame(conn(n), &header(Kind::POLL, 7), at(5));
        trail.wanted(name, Location::caller());
    }
    // A node begins with deliveries when their turn comes, because of nothing that it is told.
    trail.go_on_with(0);
    let mut asked = Vec::new();
    for name in &names {
        asked.push(ask(&mut trail, Output::Request(Request::Resolve { name: name.clone() })));
    }
    let answer = || Ok(vec![addr(0)]);
    for n in (0..4).rev() {
        let name = &names[n as usize];
        let mail = Mail::Resolved { name: name.clone(), answer: answer() };
        tell(&mut trail, Input::Mail(mail), 10);
        let dial = Output::Dial { dial: DialId(n), addr: addr(n), from: None, timeout: None };
        let _ = ask(&mut trail, dial);
    }
    trail.timeout(at(100));
    let refused = Input::DialFailed { dial: DialId(2), reason: CloseReason::Refused };
    tell(&mut trail, refused, 1500);
    let said = trail.led().to_string();
    assert!(
        said.starts_with("what led there, in 1.500 s: 192.0.2.1:1002 connected > Poll 7 came"),
        "{said}"
    );
    assert!(said.contains(&format!("wanted ({}:", file!())), "{said}");
    assert!(said.contains(&format!("name looked up {} > name found", asked[2])), "{said}");
    assert!(said.contains("dial to 192.0.2.9:7002"), "{said}");
    assert!(said.ends_with("no connection: connection refused: nobody listens there"), "{said}");
    assert_eq!(said.matches(" > ").count(), 6, "{said}");
}

#[test]
fn s1_40_a_name_that_does_not_resolve_is_led_to() {
    let mut trail = Trail::default();
    trail.timeout(at(0));
    let name: HostName = "master.test".parse().unwrap();
    let place = ask(&mut trail, Output::Request(Request::Resolve { name: name.clone() }));
    let answer = Err(ResolveError::NoSuchName);
    tell(&mut trail, Input::Mail(Mail::Resolved { name, answer }), 2000);
    let expected =
        format!("what led there, in 2.000 s: a timer > name looked up {place} > name not found");
    assert_eq!(trail.led().to_string(), expected);
}

/// A name that is asked for at once is not led to by a delivery that was over long before.
#[test]
fn s1_40_a_look_up_for_a_command_is_led_to_by_the_command() {
    let mut trail = Trail::default();
    let name: HostName = "web-1".parse().unwrap();
    trail.timeout(at(0));
    trail.wanted(&name, Location::caller());
    tell(&mut trail, accepted(1), 1000);
    trail.frame(conn(1), &header(Kind::CONTROL_REQ, 0), at(1000));
    let _ = ask(&mut trail, Output::Request(Request::Resolve { name: name.clone() }));
    let answer = Err(ResolveError::NoSuchName);
    tell(&mut trail, Input::Mail(Mail::Resolved { name, answer }), 1001);
    let said = trail.led().to_string();
    let begins =
        "what led there, in 0.001 s: 192.0.2.1:1001 connected > ControlReq came > name looked up";
    assert!(said.starts_with(begins), "{said}");
}

/// What a client queued is what its dial is for, although a timer has begun it.
#[test]
fn s1_40_a_dial_that_waited_is_led_to_by_the_message_that_waits() {
    let mut trail = Trail::default();
    trail.timeout(at(0));
    trail.queued(Kind::POLL, Lane::Volatile, 3, Location::caller());
    trail.timeout(at(500));
    let addr = SocketAddr::from(([192, 0, 2, 9], 7400));
    let dial = ask(&mut trail, Output::Dial { dial: DialId(1), addr, from: None, timeout: None });
    trail.is_up();
    tell(&mut trail, Input::Dialed { dial: DialId(1), conn: conn(1) }, 510);
    let sent = ask(&mut trail, status(1));
    tell(&mut trail, Input::Closed { conn: conn(1), reason: CloseReason::Reset }, 520);
    let said = trail.led().to_string();
    let led = format!(
        "> dial to 192.0.2.9:7400 {dial} > connected > {} sent {sent} > the end: the connection was reset",
        Kind::STATUS_REQ
    );
    assert!(said.starts_with("what led there, in 0.520 s: a timer > Poll 3 queued ("), "{said}");
    assert!(said.ends_with(&led), "{said}");
}

/// What was overwritten is left out, and the line says that something is.
#[test]
fn s1_40_a_trail_forgets_its_oldest_steps_and_takes_no_more_room() {
    let mut trail = Trail::default();
    trail.remember(8);
    tell(&mut trail, accepted(1), 0);
    for seq in 1..=20 {
        trail.frame(conn(1), &header(Kind::POLL, seq), at(seq));
    }
    assert_eq!(trail.steps.len(), 8);
    let said = trail.led().to_string();
    assert!(said.starts_with("what led there, in 0.007 s: … > Poll 13 came > "), "{said}");
    assert!(said.ends_with("Poll 20 came"), "{said}");
    // And what is remembered may be more than is of use in one line.
    trail.remember(100);
    for seq in 1..=50 {
        trail.frame(conn(1), &header(Kind::POLL, seq), at(seq));
    }
    let said = trail.led().to_string();
    let begins = "what led there, in 0.049 s: … > Poll 1 came > … (34 more) > Poll 36 came > ";
    assert!(said.starts_with(begins), "{said}");
    assert_eq!(said.matches("came").count(), SHOWN_MAX, "{said}");
    assert_eq!(Trail::default().led().to_string(), "nothing led there");
}

#[test]
fn a_trail_that_is_to_remember_nothing_does_not() {
    let mut trail = Trail::default();
    trail.remember(0);
    tell(&mut trail, accepted(1), 0);
    trail.frame(conn(1), &header(Kind::POLL, 1), at(1));
    trail.is_up();
    assert_eq!((trail.steps.len(), trail.led().to_string()), (0, "nothing led there".to_owned()));
}

#[test]
fn a_step_takes_at_most_80_bytes() {
    assert!(size_of::<Step>() <= 80, "{}", size_of::<Step>());
}

/// A connection on which much has come is still named by its peer.
#[test]
fn s1_40_a_long_chain_begins_with_the_peer() {
    let mut trail = Trail::default();
    tell(&mut trail, accepted(1), 0);
    for seq in 1..=40 {
        trail.frame(conn(1), &header(Kind::POLL, seq), at(seq));
    }
    let said = trail.led().to_string();
    let begins =
        "what led there, in 0.040 s: 192.0.2.1:1001 connected > … (25 more) > Poll 26 came";
    assert!(said.starts_with(begins), "{said}");
}

/// Notes what led to each delivery that failed.
#[derive(Default)]
struct Failures(Vec<(HostName, String)>);

impl Role for Failures {
    type Mail = ();
    type Effect = ();

    fn accepts(&self, _: Class) -> bool {
        false
    }

    fn knows(&self, _: &HostName) -> bool {
        false
    }

    fn handle_message(&mut self, _: Message<'_>, _: &mut Context<'_, ()>) -> Handled {
        Handled::Taken
    }

    fn handle_request(
        &mut self,
        _: ConnId,
        _: &PeerAddr,
        _: Frame<'_>,
        _: &mut Context<'_, ()>,
    ) -> Option<()> {
        None
    }

    fn handle_mail(&mut self, (): (), _: &mut Context<'_, ()>) {}

    fn handle_event(&mut self, event: NodeEvent, cx: &mut Context<'_, ()>) {
        if let NodeEvent::Delivered { host, result: Err(_) } = event {
            self.0.push((host, cx.trail().to_string()));
        }
    }

    fn handle_timeout(&mut self, _: &mut Context<'_, ()>) {}

    fn next_timeout(&self) -> Option<Instant> {
        None
    }

    fn is_finished(&self) -> bool {
        true
    }
}

/// A role is told after several inputs what happened at one of them: what led to that one counts.
#[test]
fn s1_40_each_failure_of_a_turn_is_led_to_by_its_own_steps() {
    let mut parts = Parts::new("master".parse().unwrap(), fastrand::Rng::with_seed(1));
    let limits = DownstreamLimits::default();
    let down = Downstream::new(parts.name.clone(), Epoch(1), limits);
    parts.downstream = Some(Box::new(down));
    let mut node = Node::new(parts, Failures::default());
    let names = ["web-1", "web-2"].map(|name| name.parse::<HostName>().unwrap());
    let now = Now { at: at(0), wall: crate::time::WallMs(0) };
    node.with_role(now, |_, cx| names.iter().for_each(|name| cx.want(name)));
    while node.poll_output().is_some() {}
    let found = Ok(vec![SocketAddr::from(([192, 0, 2, 9], 7401))]);
    for (name, answer) in names.iter().zip([Err(ResolveError::NoSuchName), found]) {
        let name = name.clone();
        node.handle_input(Input::Mail(Mail::Resolved { name, answer }), now);
    }
    while node.poll_output().is_some() {}
    let [(host, led)] = &node.role().0[..] else { panic!("{:?}", node.role().0) };
    assert_eq!(host, &names[0]);
    assert!(led.contains("wanted (") && led.ends_with("> name not found"), "{led}");
}
