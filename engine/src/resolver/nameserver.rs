//! A small name server for loopback: what tests resolve against.

use super::dns;
use crate::ids::HostName;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// What the server does with questions for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Zone {
    /// Answers with these addresses; with none, the name exists and has none.
    Addrs {
        /// The addresses.
        addrs: Vec<IpAddr>,
        /// Their TTL in seconds.
        ttl_s: u32,
    },
    /// Says over UDP that the answer is too long, and gives it over TCP.
    OnlyTcp {
        /// The addresses.
        addrs: Vec<IpAddr>,
        /// Their TTL in seconds.
        ttl_s: u32,
    },
    /// Answers with these bytes behind the question's id.
    Raw(Vec<u8>),
    /// Never answers.
    Silent,
}

#[derive(Debug, Default)]
struct Shared {
    zones: Mutex<HashMap<HostName, Zone>>,
    questions: AtomicU64,
    stop: AtomicBool,
}

/// A name server on one loopback address, UDP and TCP; it ends when dropped.
#[derive(Debug)]
pub struct NameServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl NameServer {
    /// Listens on a free port of this address.
    ///
    /// # Errors
    /// No socket, or no thread.
    pub fn start(ip: IpAddr) -> io::Result<Self> {
        // UDP and TCP ports are given out apart: take one that is free in both.
        let mut found = None;
        for _ in 0..32 {
            let tcp = TcpListener::bind((ip, 0))?;
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr()?) {
                found = Some((udp, tcp));
                break;
            }
        }
        let (udp, tcp) = found.ok_or(io::ErrorKind::AddrInUse)?;
        let addr = udp.local_addr()?;
        let shared = Arc::new(Shared::default());
        let (for_udp, for_tcp) = (shared.clone(), shared.clone());
        let udp = Builder::new().spawn(move || for_udp.serve_udp(&udp))?;
        let tcp = Builder::new().spawn(move || for_tcp.serve_tcp(&tcp))?;
        Ok(Self { addr, shared, threads: vec![udp, tcp] })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Says from now on this of a name; other names do not exist.
    pub fn zone(&self, name: &HostName, zone: Zone) {
        let mut zones = self.shared.zones.lock().unwrap_or_else(PoisonError::into_inner);
        zones.insert(name.clone(), zone);
    }

    /// Questions received over UDP.
    #[must_use]
    pub fn questions(&self) -> u64 {
        self.shared.questions.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn answer(&self, message: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let asked = dns::asked(message).ok()?;
        let zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        match zones.get(&asked.1) {
            Some(Zone::Addrs { addrs, ttl_s }) => {
                Some(dns::answer(&asked, Some(addrs), *ttl_s, false))
            }
            Some(Zone::OnlyTcp { addrs, ttl_s }) => {
                Some(dns::answer(&asked, Some(addrs), *ttl_s, !tcp))
            }
            Some(Zone::Raw(bytes)) => Some([&asked.0.to_be_bytes()[..], bytes].concat()),
            Some(Zone::Silent) => None,
            None => Some(dns::answer(&asked, None, 0, false)),
        }
    }

    fn serve_udp(&self, socket: &UdpSocket) {
        let mut buf = [0; 512];
        while let Ok((n, from)) = socket.recv_from(&mut buf) {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            self.questions.fetch_add(1, Ordering::Relaxed);
            if let Some(answer) = self.answer(&buf[..n], false) {
                // The asker may be gone.
                let _ = socket.send_to(&answer, from);
            }
        }
    }

    fn serve_tcp(&self, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            // One that breaks off is its own problem.
            let _ = self.serve_stream(stream);
        }
    }

    fn serve_stream(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut len = [0; 2];
        stream.read_exact(&mut len)?;
        let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut message)?;
        if let Some(answer) = self.answer(&message, true) {
            let len = u16::try_from(answer.len()).unwrap_or(u16::MAX);
            stream.write_all(&len.to_be_bytes())?;
            stream.write_all(&answer)?;
        }
        Ok(())
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Both threads wait for their socket: wake them.
        if let Ok(socket) = UdpSocket::bind((self.addr.ip(), 0)) {
            let _ = socket.send_to(&[], self.addr);
        }
        drop(TcpStream::connect(self.addr));
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
