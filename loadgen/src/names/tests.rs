//! The name service on its socket, asked by the resolver of a master.

use super::*;
use crate::clients::address::{DEFAULT_SUFFIX, address, other_address};
use engine::ids::HostName;
use engine::node::io::ResolveError;
use engine::resolver::Resolver;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use master::resolver::DnsConfig;
use std::collections::HashMap;
use std::sync::mpsc::Receiver;

const PATIENCE: Duration = Duration::from_secs(30);

type Resolution = Result<Vec<SocketAddr>, ResolveError>;

struct Bench {
    service: NameService,
    resolver: Resolver,
    answers: Receiver<(HostName, Resolution)>,
}

fn bench(faults: &str, clients: u32) -> Bench {
    let faults = NameFaults::parse(faults).unwrap();
    let identities = Identities::new(DEFAULT_SUFFIX).unwrap();
    let service =
        NameService::start(NamesConfig { port: 0, faults }, identities, clients, 5).unwrap();
    let dns = DnsConfig::Servers { addrs: vec![service.addr()], timeout: PATIENCE };
    let (tell, answers) = channel();
    let answer = move |name, resolution| tell.send((name, resolution)).unwrap();
    let resolver = master::resolver::start(None, dns, answer).unwrap();
    Bench { service, resolver, answers }
}

impl Bench {
    /// Asks for all these clients at once.
    fn ask(&self, clients: u32) -> HashMap<HostName, Resolution> {
        let identities = Identities::new(DEFAULT_SUFFIX).unwrap();
        (0..clients).for_each(|index| self.resolver.handle().resolve(identities.name(index)));
        (0..clients).map(|_| self.answers.recv_timeout(PATIENCE).unwrap()).collect()
    }
}

#[test]
fn a_masters_resolver_is_told_what_was_drawn() {
    const CLIENTS: u32 = 200;
    const FAULTS: &str = "slow=5%@300ms,nxdomain=10%,wrong=10%,duplicate=10%,changing=10%";
    let bench = bench(FAULTS, CLIENTS);
    let answers = bench.ask(CLIENTS);
    let identities = Identities::new(DEFAULT_SUFFIX).unwrap();
    let faults = NameFaults::parse(FAULTS).unwrap();
    for index in 0..CLIENTS {
        // A resolver that waits for long asks again, and the first answer is what counts.
        let wanted = match faults.draw(5, index, 0).said {
            Said::Nxdomain => Err(ResolveError::NoSuchName),
            Said::Address => Ok(address(index)),
            Said::Changed => Ok(other_address(index)),
            Said::Wrong => Ok(address((index + 1) % CLIENTS)),
        };
        let wanted = wanted.map(|addr| vec![SocketAddr::new(addr.into(), 0)]);
        assert_eq!(answers[&identities.name(index)], wanted, "{index}");
    }
    let counts = bench.service.counts();
    let all = [counts.slow, counts.nxdomain, counts.wrong, counts.duplicate, counts.changing];
    assert!(counts.questions >= CLIENTS.into() && all.iter().all(|count| *count > 0), "{counts}");
}

#[test]
fn e8_a_late_answer_comes_when_it_is_time_and_delays_no_other() {
    let slow = bench("slow=50%@2s", 40);
    let began = SystemClock::start();
    let identities = Identities::new(DEFAULT_SUFFIX).unwrap();
    let faults = NameFaults::parse("slow=50%@2s").unwrap();
    (0..40).for_each(|index| slow.resolver.handle().resolve(identities.name(index)));
    let start = began.now().at;
    let (mut late, mut soon) = (0, 0);
    for _ in 0..40 {
        let (name, resolution) = slow.answers.recv_timeout(PATIENCE).unwrap();
        assert!(resolution.is_ok(), "{resolution:?}");
        let index = identities.index_of(name.as_str()).unwrap();
        if faults.draw(5, index, 0).slow {
            late += 1;
            assert!(began.now().at.since(start) > Duration::from_millis(1900), "{name}");
        } else {
            soon += 1;
            assert_eq!(late, 0, "{name} came after one that is slow");
        }
    }
    assert!(late > 5 && soon > 5, "{late} {soon}");
}

#[test]
fn an_answer_that_comes_twice_is_two_datagrams() {
    let bench = bench("duplicate=100%", 1);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut question = Message::new(7, MessageType::Query, OpCode::Query);
    let name = Name::from_ascii("lg-00001.load.test.").unwrap();
    question.add_query(Query::query(name, RecordType::A));
    socket.send_to(&question.to_vec().unwrap(), bench.service.addr()).unwrap();
    let (mut first, mut second) = ([0; QUESTION_SIZE_MAX], [0; QUESTION_SIZE_MAX]);
    let lens = [socket.recv(&mut first).unwrap(), socket.recv(&mut second).unwrap()];
    assert_eq!((lens[0], first), (lens[1], second));
}

#[test]
fn it_ends_when_dropped_with_its_port() {
    let identities = Identities::new(DEFAULT_SUFFIX).unwrap();
    let start = |port| {
        let config = NamesConfig { port, faults: NameFaults::default() };
        NameService::start(config, identities.clone(), 1, 1)
    };
    let first = start(0).unwrap();
    let port = first.addr().port();
    assert_eq!(start(port).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    drop(first);
    start(port).unwrap();
}
