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
    let mut stream = a.connect(addr, None, Token(2)).unwrap();
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
