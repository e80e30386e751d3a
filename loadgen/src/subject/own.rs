//! A master that loadgen starts itself: its keys, site, inbox and result store lie in a
//! directory of their own, and end with it.

use crate::clients::address::Identities;
use crate::error::LoadError;
use crate::truth;
use engine::clock::{Clock, SystemClock};
use master::commands::init::{InitArgs, init};
use master::commands::publish::{PublishArgs, publish};
use master::control::{Published, PublishedArgs, ask, verb};
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long it may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a master that starts or stops.
const LOOK: Duration = Duration::from_millis(20);

/// Where a master of our own is made, and from what.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnConfig {
    /// Its directory is made in this one: its disk is what syncs are measured on.
    pub parent: PathBuf,
    /// The program; `None`: the `drover` beside this one.
    pub program: Option<PathBuf>,
    /// Each of its commits takes so much longer, as on a slow disk.
    pub slow_disk: Option<Duration>,
}

/// The policy that distributes a payload.
const PAYLOAD_YAML: &str = "resources:\n  - file: /opt/drover/payload\n    source: payload\n";

/// A master that runs as a process of its own.
#[derive(Debug)]
pub struct OwnMaster {
    dir: TempDir,
    program: PathBuf,
    slow_disk: Option<Duration>,
    addr: SocketAddr,
    child: Option<Child>,
    /// Whether its directory outlives it.
    kept: bool,
}

fn failed(what: &str, error: impl std::fmt::Display) -> LoadError {
    LoadError::OwnMaster { detail: format!("{what}: {error}") }
}

impl OwnMaster {
    /// Makes keys and a site, and starts the master, which has nothing to distribute yet.
    ///
    /// # Errors
    /// What was in the way.
    pub fn start(config: &OwnConfig) -> Result<Self, LoadError> {
        let program = match &config.program {
            Some(program) => program.clone(),
            None => beside("drover")?,
        };
        let dir = tempfile::Builder::new().prefix("drover-loadgen-").tempdir_in(&config.parent);
        let dir = dir.map_err(|error| {
            failed(&format!("cannot make a directory in {}", config.parent.display()), error)
        })?;
        // Any port at first; the one that the kernel gives is kept when it starts again.
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let slow_disk = config.slow_disk;
        let mut own = Self { dir, program, slow_disk, addr, child: None, kept: false };
        init(&InitArgs { dir: own.dir.path().to_owned(), site: Some("load".into()) })
            .map_err(|error| failed("drover init", error))?;
        own.write("site/hosts.yaml", "hosts:\n  - host: \"lg-*\"\n    policies: [base]\n")?;
        own.write("hosts", "")?;
        own.configure("")?;
        own.run()?;
        let log = fs::read_to_string(own.dir.path().join("log")).unwrap_or_default();
        own.addr = listening_on(&log).ok_or_else(|| failed("where does it listen", &log))?;
        own.configure("")?;
        Ok(own)
    }

    /// Leaves its directory behind.
    pub fn keep(&mut self) {
        self.dir.disable_cleanup(true);
        self.kept = true;
    }

    /// Its directory, if that is left behind.
    #[must_use]
    pub fn kept(&self) -> Option<&Path> {
        self.kept.then(|| self.dir.path())
    }

    /// Tells it where the clients are, publishes for all of them, and starts it anew: at its
    /// start a master dials only hosts that it has heard before, so nobody gets anything before
    /// the load begins.
    ///
    /// # Errors
    /// What was in the way.
    pub fn serve(
        &mut self,
        identities: &Identities,
        ports: impl IntoIterator<Item = (Range<u32>, u16)>,
    ) -> Result<(), LoadError> {
        let table = self.dir.path().join("hosts");
        identities
            .write_hosts_table(&table, ports)
            .map_err(|error| LoadError::HostsTable { path: table, error })?;
        self.release_and_restart()
    }

    /// The same, where a name service tells it where the clients are: all at one port.
    ///
    /// # Errors
    /// What was in the way.
    pub fn serve_by_name(&mut self, server: SocketAddr, port: u16) -> Result<(), LoadError> {
        self.configure(&format!("dns_servers = [\"{server}\"]\nclient_port = {port}\n"))?;
        self.release_and_restart()
    }

    fn release_and_restart(&mut self) -> Result<(), LoadError> {
        self.release()?;
        self.kill().map_err(LoadError::Loop)?;
        self.run()
    }

    fn configure(&self, more: &str) -> Result<(), LoadError> {
        let toml = format!(
            "name = \"master.load.test\"\nlisten = \"{}\"\nhosts_table = \"hosts\"\ncontrol_socket = \"control.sock\"\n{more}",
            self.addr
        );
        self.write("master.toml", &toml)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), LoadError> {
        let path = self.dir.path().join(name);
        fs::write(&path, text)
            .map_err(|error| failed(&format!("cannot write {}", path.display()), error))
    }

    /// Writes a new release from its site, and returns its revision.
    fn release(&self) -> Result<u64, LoadError> {
        let path = |name: &str| self.dir.path().join(name);
        let mut args = PublishArgs::new(path("site"), path("state"), path("keys/signing.key"));
        args.force = true;
        let published = publish(&args, engine::clock::wall(), &mut |_| {});
        Ok(published.map_err(|error| failed("drover publish", error))?.revision)
    }

    /// Publishes, with a file that nobody has seen if it is to have any bytes, and has the master
    /// push it to all.
    ///
    /// # Errors
    /// What was in the way.
    pub fn publish(&self, bytes: u64) -> Result<(), LoadError> {
        if bytes > 0 {
            self.write_payload(bytes)?;
            self.write("site/policies/base/policy.yaml", PAYLOAD_YAML)?;
        }
        let revision = self.release()?;
        let args = PublishedArgs { revision };
        let told = ask::<Published>(&self.control(), verb::PUBLISHED, &args);
        told.map(drop).map_err(|error| failed("the master does not take the release", error))
    }

    fn write_payload(&self, bytes: u64) -> Result<(), LoadError> {
        let path = self.dir.path().join("site/policies/base/files/payload");
        let write = || {
            let mut file = io::BufWriter::new(fs::File::create(&path)?);
            let mut block = vec![0; 64 * 1024];
            let mut left = bytes;
            while left > 0 {
                fastrand::fill(&mut block);
                let part = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
                file.write_all(&block[..part])?;
                left -= part as u64;
            }
            file.flush()
        };
        write().map_err(|error| failed(&format!("cannot write {}", path.display()), error))
    }

    /// Starts the process, and waits until it answers. It ends with the thread that calls this,
    /// however that ends: nobody would end it later.
    ///
    /// # Errors
    /// It cannot be started, or ends at once.
    pub fn run(&mut self) -> Result<(), LoadError> {
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log"));
        let log = log.map_err(|error| failed("cannot write its log", error))?;
        let mut command = Command::new(&self.program);
        command.args(["master", "--config"]).arg(self.dir.path().join("master.toml"));
        if let Some(delay) = self.slow_disk {
            command.arg("--slow-disk").arg(format!("{}ms", delay.as_millis()));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = die_with_us(&mut command)
            .spawn()
            .map_err(|error| failed(&format!("cannot start {}", self.program.display()), error))?;
        let child = self.child.insert(child);
        let clock = SystemClock::start();
        let until = clock.now().at + PATIENCE;
        loop {
            if truth::status(&self.dir.path().join("control.sock")).is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = child.try_wait() {
                let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                let last = log.lines().last().unwrap_or("it said nothing");
                return Err(failed(&format!("the master ended with {status}"), last));
            }
            if clock.now().at >= until {
                return Err(failed("the master does not answer", "30 s have passed"));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its control socket.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How its process has ended, if it has without being told to.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// Ends it as a power cut would.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }
}

impl Drop for OwnMaster {
    fn drop(&mut self) {
        // What it holds is thrown away, so nothing is lost by a hard end.
        let _ = self.kill();
    }
}

/// Has the kernel kill the process when the thread that starts it ends.
#[allow(unsafe_code)]
fn die_with_us(command: &mut Command) -> &mut Command {
    let us = std::process::id();
    // SAFETY: between fork and exec it makes two system calls, and touches no memory but its own
    // stack.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // Whoever ended before that call sends no signal any more.
            if u32::try_from(libc::getppid()) != Ok(us) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Ok(())
        })
    }
}

/// A program that was installed beside this one.
fn beside(name: &str) -> Result<PathBuf, LoadError> {
    let own = std::env::current_exe().map_err(|error| failed("where am I", error))?;
    let found = own.with_file_name(name);
    if found.is_file() {
        return Ok(found);
    }
    Err(failed(
        &format!("there is no {name} beside {}", own.display()),
        "name it with --drover, or load a master that runs with --master",
    ))
}

/// The address in the master's own words.
fn listening_on(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains(" listens on "))?;
    line.split(" listens on ").nth(1)?.split([' ', ',', ';']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masters_words_are_understood() {
        let log = "INFO starts\nINFO master.load.test listens on 127.0.0.1:40123, revision 1\n";
        assert_eq!(listening_on(log), Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 40123))));
        assert_eq!(listening_on("INFO starts"), None);
    }
}
