//! The client's name service: the hosts file, then the name servers of resolv.conf. Own code,
//! since the C library's resolver does not work in a statically linked binary.

use super::conf::{ResolvConf, hosts_addrs};
use super::dns::{self, Family, Response};
use super::{Answer, Done, Lookup};
use crate::clock::{Clock, SystemClock};
use crate::ids::HostName;
use crate::node::io::ResolveError;
use crate::time::Instant;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

/// How long an answer from the hosts file holds: it is read again after that.
const HOSTS_TTL: Duration = Duration::from_secs(10);
/// Largest datagram that is read; without EDNS servers send no more than 512 bytes.
const DATAGRAM_SIZE_MAX: usize = 4096;

/// Where a [`Stub`] finds its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StubConfig {
    /// The hosts file.
    pub hosts: PathBuf,
    /// The list of name servers.
    pub resolv_conf: PathBuf,
    /// The name servers' port.
    pub port: u16,
}

impl Default for StubConfig {
    fn default() -> Self {
        Self { hosts: "/etc/hosts".into(), resolv_conf: "/etc/resolv.conf".into(), port: 53 }
    }
}

/// Looks names up one after another: a client has very few. Both files are read each time, so
/// that a change of them needs no reload.
#[derive(Debug)]
pub struct Stub {
    config: StubConfig,
    rng: fastrand::Rng,
    clock: SystemClock,
}

impl Lookup for Stub {
    fn begin(&mut self, name: HostName, done: Done) {
        done.answer(self.lookup(&name));
    }
}

impl Stub {
    /// A stub; `rng` makes the ids that an attacker has to guess, so seed it from the system.
    #[must_use]
    pub fn new(config: StubConfig, rng: fastrand::Rng) -> Self {
        Self { config, rng, clock: SystemClock::start() }
    }

    /// Looks a name up; waits for the answer.
    ///
    /// # Errors
    /// There is no such name, or no server answers properly.
    pub fn lookup(&mut self, name: &HostName) -> Result<Answer, ResolveError> {
        // A file that is missing says nothing, as an empty one.
        let hosts = fs::read(&self.config.hosts).unwrap_or_default();
        let addrs = hosts_addrs(&String::from_utf8_lossy(&hosts), name);
        if !addrs.is_empty() {
            return Ok(Answer { addrs, ttl: HOSTS_TTL });
        }
        let conf = fs::read(&self.config.resolv_conf).unwrap_or_default();
        let conf = ResolvConf::parse(&String::from_utf8_lossy(&conf));
        for candidate in conf.candidates(name).iter().filter(|name| dns::is_askable(name)) {
            match self.ask_servers(&conf, candidate) {
                Err(ResolveError::NoSuchName) => {}
                decided => return decided,
            }
        }
        Err(ResolveError::NoSuchName)
    }

    /// Asks each server in turn, all of them as often as `conf` says.
    fn ask_servers(&mut self, conf: &ResolvConf, name: &HostName) -> Result<Answer, ResolveError> {
        let mut failure = ResolveError::Timeout;
        for _ in 0..conf.tries {
            for server in &conf.servers {
                let server = SocketAddr::new(*server, self.config.port);
                match self.ask_server(server, name, conf.timeout) {
                    Ok(answer) => return Ok(answer),
                    Err(ResolveError::NoSuchName) => return Err(ResolveError::NoSuchName),
                    Err(error) => failure = error,
                }
            }
        }
        Err(failure)
    }

    /// Asks one server for both families at once.
    fn ask_server(
        &mut self,
        server: SocketAddr,
        name: &HostName,
        timeout: Duration,
    ) -> Result<Answer, ResolveError> {
        let deadline = self.clock.now().at + timeout;
        let first = self.rng.u16(..);
        let mut open = vec![(first, Family::V4), (first.wrapping_add(1), Family::V6)];
        let mut answer = Answer { addrs: Vec::new(), ttl: Duration::MAX };
        let asked = self.exchange(server, name, deadline, &mut open, &mut answer);
        if !answer.addrs.is_empty() {
            // One family is enough, if the other's answer does not come.
            return Ok(answer);
        }
        asked.and(Err(ResolveError::NoSuchName))
    }

    fn exchange(
        &mut self,
        server: SocketAddr,
        name: &HostName,
        deadline: Instant,
        open: &mut Vec<(u16, Family)>,
        answer: &mut Answer,
    ) -> Result<(), ResolveError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ResolveError::Timeout,
            _ => ResolveError::Failed(format!("name server {server}: {error}")),
        };
        let any: SocketAddr = match server.ip() {
            IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            IpAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        let socket = UdpSocket::bind(any).map_err(failed)?;
        // Connected: the kernel drops what others send.
        socket.connect(server).map_err(failed)?;
        for (id, family) in open.iter() {
            socket.send(&dns::question(*id, name, *family)).map_err(failed)?;
        }
        let mut buf = [0; DATAGRAM_SIZE_MAX];
        let mut outcome = Ok(());
        while !open.is_empty() {
            let received = self.left(deadline).and_then(|left| {
                socket.set_read_timeout(Some(left))?;
                socket.recv(&mut buf)
            });
            let n = match received {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // What a server has said weighs more than what it has not.
                Err(error) => return outcome.and(Err(failed(error))),
            };
            // What answers none of the questions is passed over: it may be forged.
            let said = open.iter().enumerate().find_map(|(at, (id, family))| {
                Some((at, dns::response(&buf[..n], *id, name, *family).ok()?))
            });
            let Some((at, mut response)) = said else { continue };
            let (id, family) = open.swap_remove(at);
            if response == Response::Truncated {
                let message = self.ask_tcp(server, id, name, family, deadline).map_err(failed)?;
                response = dns::response(&message, id, name, family)
                    .map_err(|error| ResolveError::Failed(format!("{server} (TCP): {error}")))?;
            }
            match response {
                Response::Addrs { addrs, ttl } => {
                    if !addrs.is_empty() {
                        answer.ttl = answer.ttl.min(ttl);
                        answer.addrs.extend(addrs);
                    }
                }
                Response::NoSuchName => return Err(ResolveError::NoSuchName),
                Response::Truncated => {
                    let error = format!("{server} cuts its answers short even over TCP");
                    return Err(ResolveError::Failed(error));
                }
                // Some servers fail for one family only: the other's answer is still awaited.
                Response::Failed(code) => {
                    let error = format!("{server} answered with the error code {code}");
                    outcome = Err(ResolveError::Failed(error));
                }
            }
        }
        outcome
    }

    /// What is left until a deadline.
    fn left(&self, deadline: Instant) -> io::Result<Duration> {
        let left = deadline.since(self.clock.now().at);
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    fn ask_tcp(
        &self,
        server: SocketAddr,
        id: u16,
        name: &HostName,
        family: Family,
        deadline: Instant,
    ) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&server, self.left(deadline)?)?;
        stream.set_write_timeout(Some(self.left(deadline)?))?;
        let question = dns::question(id, name, family);
        let mut message = u16::try_from(question.len()).unwrap_or(0).to_be_bytes().to_vec();
        message.extend_from_slice(&question);
        stream.write_all(&message)?;
        let mut read = |buf: &mut [u8]| -> io::Result<()> {
            let mut filled = 0;
            while filled < buf.len() {
                stream.set_read_timeout(Some(self.left(deadline)?))?;
                match stream.read(&mut buf[filled..]) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(n) => filled += n,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        let mut len = [0; 2];
        read(&mut len)?;
        let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
        read(&mut message)?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests;
