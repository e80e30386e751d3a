use super::super::nameserver::{NameServer, Zone};
use super::*;
use std::net::Ipv4Addr;
use tempfile::TempDir;

struct Site {
    server: NameServer,
    dir: TempDir,
    stub: Stub,
}

/// A stub that asks a server on 127.0.0.53, with these lines in resolv.conf and hosts.
fn site(ip: [u8; 4], resolv_conf: &str, hosts: &str) -> Site {
    let server = NameServer::start(Ipv4Addr::from(ip).into()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = StubConfig {
        hosts: dir.path().join("hosts"),
        resolv_conf: dir.path().join("resolv.conf"),
        port: server.addr().port(),
    };
    let ip = server.addr().ip();
    fs::write(&config.hosts, hosts).unwrap();
    fs::write(&config.resolv_conf, format!("nameserver {ip}\n{resolv_conf}")).unwrap();
    Site { server, dir, stub: Stub::new(config, fastrand::Rng::with_seed(1)) }
}

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn addrs(of: &[&str]) -> Vec<IpAddr> {
    of.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn hosts_come_first_then_both_families_from_the_server() {
    let hosts = "127.0.0.9 me me.example # here\n::9 ME\nnonsense me\n";
    let mut site = site([127, 0, 0, 53], "", hosts);
    let answer = site.stub.lookup(&name("me")).unwrap();
    assert_eq!(answer.addrs, addrs(&["127.0.0.9", "::9"]));
    assert_eq!(site.server.questions(), 0);
    let both = addrs(&["192.0.2.1", "2001:db8::1"]);
    site.server.zone(&name("web.example"), Zone::Addrs { addrs: both.clone(), ttl_s: 77 });
    let mut answer = site.stub.lookup(&name("web.example")).unwrap();
    answer.addrs.sort();
    assert_eq!(answer, Answer { addrs: both, ttl: Duration::from_secs(77) });
    fs::write(site.dir.path().join("hosts"), "127.0.0.8 me").unwrap();
    let answer = site.stub.lookup(&name("me")).unwrap();
    assert_eq!(answer.addrs, addrs(&["127.0.0.8"]), "read again");
}

#[test]
fn s1_11_what_does_not_exist_is_told_from_what_does_not_answer() {
    let mut site = site([127, 0, 0, 54], "options timeout:1 attempts:1\n", "");
    assert_eq!(site.stub.lookup(&name("nobody.example")), Err(ResolveError::NoSuchName));
    let empty = Zone::Addrs { addrs: Vec::new(), ttl_s: 9 };
    site.server.zone(&name("empty.example"), empty);
    assert_eq!(site.stub.lookup(&name("empty.example")), Err(ResolveError::NoSuchName));
    let long = name(&format!("{}.example", "x".repeat(64)));
    assert_eq!(site.stub.lookup(&long), Err(ResolveError::NoSuchName));
    site.server.zone(&name("slow.example"), Zone::Silent);
    assert_eq!(site.stub.lookup(&name("slow.example")), Err(ResolveError::Timeout));
    let refused = [&[0x81, 0x85, 0, 1, 0, 0, 0, 0, 0, 0, 4][..], b"fail\0\0\x01\0\x01"].concat();
    site.server.zone(&name("fail"), Zone::Raw(refused));
    let failed = site.stub.lookup(&name("fail"));
    assert!(
        matches!(failed, Err(ResolveError::Failed(ref e)) if e.contains("code 5")),
        "{failed:?}"
    );
}

#[test]
fn malformed_answers_are_passed_over() {
    let mut site = site([127, 0, 0, 55], "options timeout:1 attempts:1\n", "");
    for raw in [vec![], vec![0xff; 40], b"\x81\x80\0\x01\0\x01\0\0\0\0\xc0\x0c".to_vec()] {
        site.server.zone(&name("bad.example"), Zone::Raw(raw));
        assert_eq!(site.stub.lookup(&name("bad.example")), Err(ResolveError::Timeout));
    }
}

#[test]
fn what_does_not_fit_is_asked_for_over_tcp() {
    let mut site = site([127, 0, 0, 56], "", "");
    let many: Vec<IpAddr> = (0..200).map(|n| Ipv4Addr::new(192, 0, 2, n).into()).collect();
    site.server.zone(&name("many.example"), Zone::OnlyTcp { addrs: many.clone(), ttl_s: 5 });
    assert_eq!(site.stub.lookup(&name("many.example")).unwrap().addrs, many);
}

#[test]
fn search_domains_and_a_dead_first_server() {
    let mut site = site([127, 0, 0, 57], "search one.example two.example\n", "");
    let found = addrs(&["192.0.2.3"]);
    site.server.zone(&name("web.two.example"), Zone::Addrs { addrs: found.clone(), ttl_s: 5 });
    assert_eq!(site.stub.lookup(&name("web")).unwrap().addrs, found);
    // Nobody listens there: the kernel says so at once.
    let conf = format!("nameserver 127.0.0.99\nnameserver {}\n", site.server.addr().ip());
    fs::write(site.dir.path().join("resolv.conf"), conf).unwrap();
    assert_eq!(site.stub.lookup(&name("web.two.example")).unwrap().addrs, found);
}

#[test]
fn the_files_of_the_c_library_are_read_as_it_reads_them() {
    let conf = ResolvConf::parse(
        "; comment\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver ::1\nbogus x\n\
         domain a.example\nsearch b.example c.example.\noptions rotate ndots:2 timeout:99 attempts:0\n",
    );
    assert_eq!(conf.servers, addrs(&["192.0.2.1", "::1"]));
    assert_eq!((conf.dots_min, conf.timeout, conf.tries), (2, Duration::from_secs(30), 1));
    let candidates =
        |text| conf.candidates(&name(text)).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(candidates("x.y"), ["x.y.b.example", "x.y.c.example", "x.y"]);
    assert_eq!(candidates("x.y.z"), ["x.y.z", "x.y.z.b.example", "x.y.z.c.example"]);
    assert_eq!(ResolvConf::parse("").servers, addrs(&["127.0.0.1"]));
}
