use super::*;

#[test]
fn the_wall_clock_keeps_up_with_small_steps() {
    let net = SimNet::new(1, SimConfig::default());
    let before = net.now().wall;
    for _ in 0..100_000 {
        net.advance(Duration::from_micros(100));
    }
    assert_eq!(net.now().wall.0 - before.0, 10_000);
}

#[test]
fn what_is_sent_again_after_a_cut_keeps_its_order() {
    let net = SimNet::new(2, SimConfig { piece_max: 8, ..SimConfig::default() });
    let ip = |n| IpAddr::from([127, 0, 0, n]);
    let (mut a, mut b) = (net.poller(ip(1)), net.poller(ip(2)));
    let addr = SocketAddr::new(ip(2), 9);
    let listener = b.listen(addr, 8, Token(1)).unwrap();
    let (mut stream, _) = a.connect(addr, None, Token(2)).unwrap();
    let mut accepted = None;
    let mut read = Vec::new();
    let mut rng = fastrand::Rng::with_seed(3);
    let mut sent = 0u8;
    for step in 0..4000 {
        if rng.bool() {
            net.cut(ip(1), ip(2))
        } else {
            net.heal(ip(1), ip(2))
        }
        net.advance(Duration::from_millis(rng.u64(1..60)));
        net.run();
        let mut events = Vec::with_capacity(16);
        a.poll(&mut events, net.now().at, None).unwrap();
        b.poll(&mut events, net.now().at, None).unwrap();
        if accepted.is_none()
            && let Ok((mut taken, _)) = b.accept(&listener)
        {
            b.register(&mut taken, Token(3)).unwrap();
            accepted = Some(taken);
        }
        if step < 3000
            && let Ok(1) = a.write_vectored(&mut stream, &[IoSlice::new(&[sent])])
        {
            sent = sent.wrapping_add(1);
        }
        if let Some(stream) = &mut accepted {
            let mut buf = [0; 64];
            while let Ok(n) = b.read(stream, &mut buf) {
                read.extend_from_slice(&buf[..n]);
            }
        }
    }
    assert!(read.len() > 500, "{} bytes arrived", read.len());
    let expected: Vec<u8> = (0..read.len()).map(|n| (n % 256) as u8).collect();
    assert!(read == expected, "bytes have overtaken others");
}

fn ip(n: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, n])
}

/// Two processes, 127.0.0.1 and 127.0.0.2, and both ends of a connection that stands.
fn connected(net: &SimNet) -> (SimPoller, SimPoller, SimStream, SimStream) {
    let (mut a, mut b) = (net.poller(ip(1)), net.poller(ip(2)));
    let addr = SocketAddr::new(ip(2), 9);
    let listener = b.listen(addr, 8, Token(1)).unwrap();
    let (mut dialled, _) = a.connect(addr, None, Token(2)).unwrap();
    pass(net);
    let mut accepted = b.accept(&listener).unwrap().0;
    b.register(&mut accepted, Token(3)).unwrap();
    assert!(a.connected(&dialled).unwrap());
    assert_eq!(a.write_vectored(&mut dialled, &[IoSlice::new(b"x")]).unwrap(), 1);
    pass(net);
    (a, b, dialled, accepted)
}

/// Time for whatever is under way, and for its answer.
fn pass(net: &SimNet) {
    for _ in 0..4 {
        net.advance(Duration::from_millis(250));
        net.run();
    }
}

fn code<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

#[test]
fn a_reset_at_one_end_is_learnt_at_the_other_by_sending() {
    let net = SimNet::new(4, SimConfig::default());
    let (mut a, mut b, mut dialled, mut accepted) = connected(&net);
    net.reset(ip(2), ip(1));
    let mut buf = [0; 8];
    assert_eq!(b.read(&mut accepted, &mut buf).unwrap(), 1, "what had arrived is read first");
    assert_eq!(code(b.read(&mut accepted, &mut buf)), Some(libc::ECONNRESET));
    b.close(accepted);
    pass(&net);
    let quiet = a.read(&mut dialled, &mut buf).unwrap_err();
    assert_eq!(quiet.kind(), io::ErrorKind::WouldBlock, "nobody has told it");
    assert_eq!(a.write_vectored(&mut dialled, &[IoSlice::new(b"y")]).unwrap(), 1);
    pass(&net);
    assert_eq!(code(a.read(&mut dialled, &mut buf)), Some(libc::ECONNRESET));
}

#[test]
fn a_machine_without_power_tells_nobody_and_has_no_sockets() {
    let net = SimNet::new(5, SimConfig::default());
    let (mut a, b, mut dialled, _accepted) = connected(&net);
    assert_eq!((net.streams(), net.descriptors(b.process())), (2, 2));
    net.lose(b.process());
    assert_eq!((net.streams(), net.descriptors(b.process())), (1, 0));
    drop(b);
    pass(&net);
    let mut buf = [0; 8];
    let quiet = a.read(&mut dialled, &mut buf).unwrap_err();
    assert_eq!(quiet.kind(), io::ErrorKind::WouldBlock, "nobody has told it");
    // The address can be listened on again, by whoever starts there.
    let mut again = net.poller(ip(2));
    again.listen(SocketAddr::new(ip(2), 9), 8, Token(1)).unwrap();
    assert_eq!(a.write_vectored(&mut dialled, &[IoSlice::new(b"y")]).unwrap(), 1);
    pass(&net);
    assert_eq!(code(a.read(&mut dialled, &mut buf)), Some(libc::ECONNRESET));
}

#[test]
fn a_stopped_process_is_not_ready_and_misses_nothing() {
    let net = SimNet::new(6, SimConfig::default());
    let (mut a, mut b, mut dialled, mut accepted) = connected(&net);
    let mut events = Vec::with_capacity(8);
    b.poll(&mut events, net.now().at, None).unwrap();
    net.set_stopped(b.process(), true);
    assert_eq!(a.write_vectored(&mut dialled, &[IoSlice::new(b"y")]).unwrap(), 1);
    a.poll(&mut events, net.now().at, None).unwrap();
    pass(&net);
    assert!(!net.is_ready(b.process()));
    assert_eq!(net.next_event(), None, "time must not stand still for it");
    net.set_stopped(b.process(), false);
    assert!(net.is_ready(b.process()));
    let mut ready = Vec::new();
    net.ready(&mut ready);
    assert_eq!(ready, [b.process()]);
    events.clear();
    b.poll(&mut events, net.now().at, None).unwrap();
    assert!(events.iter().any(|event| event.token == Token(3) && event.readable));
    let mut buf = [0; 8];
    assert_eq!(b.read(&mut accepted, &mut buf).unwrap(), 2);
    assert_eq!(&buf[..2], b"xy");
}
