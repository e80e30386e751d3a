use super::*;
use engine::resolver::nameserver::{NameServer, Zone};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc::{self, Receiver};

struct Bench {
    server: NameServer,
    resolver: Resolver,
    answers: Receiver<(HostName, Result<Vec<SocketAddr>, ResolveError>)>,
}

fn bench(ip: [u8; 4], timeout: Duration) -> Bench {
    let server = NameServer::start(Ipv4Addr::from(ip).into()).unwrap();
    let config = DnsConfig::Servers { addrs: vec![server.addr()], timeout };
    let (tell, answers) = mpsc::channel();
    let answer = move |name, result| tell.send((name, result)).unwrap();
    Bench { server, resolver: start(None, config, answer).unwrap(), answers }
}

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn zone(last: u8, ttl_s: u32) -> Zone {
    Zone::Addrs { addrs: vec![ip(last)], ttl_s }
}

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

#[test]
fn e8_one_name_that_is_never_answered_delays_no_other() {
    let bench = bench([127, 0, 0, 63], Duration::from_secs(5));
    bench.server.zone(&name("slow.example"), Zone::Silent);
    let handle = bench.resolver.handle();
    handle.resolve(name("slow.example"));
    for n in 0..200 {
        let host = name(&format!("h{n}.example"));
        bench.server.zone(&host, zone(n, 60));
        handle.resolve(host);
    }
    for _ in 0..200 {
        let (host, answer) = bench.answers.recv_timeout(Duration::from_secs(4)).unwrap();
        assert!(answer.is_ok(), "{host}: {answer:?}");
    }
}

#[test]
fn a_name_server_that_is_silent_leaves_the_others() {
    let servers =
        [66, 67].map(|last| NameServer::start(Ipv4Addr::new(127, 0, 0, last).into()).unwrap());
    servers[0].zone(&name("a.example"), Zone::Silent);
    servers[1].zone(&name("a.example"), zone(1, 60));
    let addrs = servers.each_ref().map(NameServer::addr).to_vec();
    let config = DnsConfig::Servers { addrs, timeout: Duration::from_secs(2) };
    let (tell, answers) = mpsc::channel();
    let resolver = start(None, config, move |_, result| tell.send(result).unwrap()).unwrap();
    resolver.handle().resolve(name("a.example"));
    assert_eq!(answers.recv().unwrap().unwrap(), [SocketAddr::new(ip(1), 0)]);
}

#[test]
fn s1_10_a_changed_address_is_used_once_the_ttl_is_over() {
    let bench = bench([127, 0, 0, 64], Duration::from_secs(5));
    let handle = bench.resolver.handle();
    let ask = || {
        handle.resolve(name("a.example"));
        bench.answers.recv().unwrap().1.unwrap()
    };
    bench.server.zone(&name("a.example"), zone(1, 3600));
    assert_eq!(ask(), [SocketAddr::new(ip(1), 0)]);
    let questions = bench.server.questions();
    bench.server.zone(&name("a.example"), zone(2, 0));
    assert_eq!(ask(), [SocketAddr::new(ip(1), 0)], "the first answer holds for an hour");
    assert_eq!(bench.server.questions(), questions);
    handle.reload();
    assert_eq!(ask(), [SocketAddr::new(ip(2), 0)]);
    bench.server.zone(&name("a.example"), zone(3, 0));
    assert_eq!(ask(), [SocketAddr::new(ip(3), 0)], "nothing is kept behind the engine's cache");
}

#[test]
fn s1_11_what_cannot_be_resolved_is_an_error_of_its_own() {
    let bench = bench([127, 0, 0, 65], Duration::from_millis(200));
    let handle = bench.resolver.handle();
    handle.resolve(name("nobody.example"));
    assert_eq!(bench.answers.recv().unwrap().1, Err(ResolveError::NoSuchName));
    bench.server.zone(&name("silent.example"), Zone::Silent);
    handle.resolve(name("silent.example"));
    assert_eq!(bench.answers.recv().unwrap().1, Err(ResolveError::Timeout));
    bench.server.zone(&name("bad.example"), Zone::Raw(vec![0xff; 30]));
    handle.resolve(name("bad.example"));
    assert!(bench.answers.recv().unwrap().1.is_err());
    handle.resolve(name(&format!("{}.example", "x".repeat(64))));
    assert!(bench.answers.recv().unwrap().1.is_err());
}
