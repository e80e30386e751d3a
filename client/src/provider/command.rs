//! Commands: an argument vector, no shell, a process group of its own, bounded in time and
//! in what is kept of its output.

use crate::executor::stop::StopSwitch;
use engine::clock::{Clock, SystemClock};
use engine::time::Instant;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

/// Bytes kept from the beginning of what a command printed, and as many from its end.
pub const OUTPUT_HALF_MAX: usize = 8 * 1024;
/// A process group that was asked to end has this long before it is made to.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How often a command looks whether a stop has become more urgent, once there is one.
const STOP_LOOK: Duration = Duration::from_millis(100);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command to run.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// Program and arguments; not empty.
    pub argv: &'a [Vec<u8>],
    /// Where it runs; `/` if none.
    pub cwd: Option<&'a [u8]>,
    /// `NAME=VALUE`, beside `PATH`, `HOME` and `LANG`.
    pub env: &'a [Vec<u8>],
    /// Its whole process group is ended after this.
    pub timeout: Duration,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandEnd {
    /// With this exit status.
    Exited(i32),
    /// By a signal that was not ours.
    Killed(i32),
    /// It took longer than its timeout, and its group was ended.
    TimedOut,
    /// The client stopped, and its group was ended.
    Interrupted,
}

/// What a command did.
#[derive(Debug)]
pub struct CommandDone {
    /// How it ended.
    pub end: CommandEnd,
    /// What it printed, both streams as they came; the middle is left out of a long one.
    pub output: Vec<u8>,
}

/// Keeps the beginning and the end of a stream.
#[derive(Debug, Default)]
struct BoundedOutput {
    head: Vec<u8>,
    tail: std::collections::VecDeque<u8>,
    left_out: u64,
}

impl BoundedOutput {
    fn push(&mut self, mut bytes: &[u8]) {
        let room = OUTPUT_HALF_MAX - self.head.len();
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(head);
        bytes = rest;
        self.tail.extend(bytes);
        let over = self.tail.len().saturating_sub(OUTPUT_HALF_MAX);
        self.tail.drain(..over);
        self.left_out += over as u64;
    }

    fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.head;
        if self.left_out > 0 {
            bytes.extend_from_slice(format!("\n[{} bytes left out]\n", self.left_out).as_bytes());
        }
        bytes.extend(self.tail);
        bytes
    }
}

impl Command<'_> {
    /// Runs it to its end, its timeout or the end of a stop, whichever comes first.
    ///
    /// # Errors
    /// The system's, if it could not be started or watched.
    pub fn run(&self, stop: &StopSwitch) -> io::Result<CommandDone> {
        let clock = SystemClock::start();
        let (reader, writer) = io::pipe()?;
        nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
        let mut running = Running {
            child: self.spawn(writer)?,
            reader: Some(reader),
            output: BoundedOutput::default(),
            waited: false,
        };
        let end = running.wait(&clock, self.timeout, stop)?;
        let output = std::mem::take(&mut running.output).into_bytes();
        Ok(CommandDone { end, output })
    }

    fn spawn(&self, writer: io::PipeWriter) -> io::Result<Child> {
        let empty = || io::Error::new(io::ErrorKind::InvalidInput, "the command is empty");
        let (program, arguments) = self.argv.split_first().ok_or_else(empty)?;
        let mut command = std::process::Command::new(OsStr::from_bytes(program));
        command
            .args(arguments.iter().map(|a| OsStr::from_bytes(a)))
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/")
            .env("LANG", "C.UTF-8")
            .current_dir(OsStr::from_bytes(self.cwd.unwrap_or(b"/")))
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0);
        for pair in self.env {
            let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
            let value = pair.get(at + 1..).unwrap_or_default();
            command.env(OsStr::from_bytes(&pair[..at]), OsStr::from_bytes(value));
        }
        // SAFETY: between fork and exec it makes two system calls, and touches no memory.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(|| {
                prepare_child();
                Ok(())
            });
        }
        command.spawn()
    }
}

/// In the child, before it becomes the command. It inherits no descriptor but the standard ones,
/// whoever started us and forgot some; and should we be killed, it is asked to end, as two of it
/// would run after our next start. What it has started itself the system does not tell.
fn prepare_child() {
    // SAFETY: both take integers alone. Where the system does not know them all goes on without.
    #[allow(unsafe_code)]
    unsafe {
        libc::syscall(libc::SYS_close_range, 3_u32, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
    }
}

/// A process group that lives. Its leader is reaped only after the group was dealt with: until
/// then nobody else can have its number.
struct Running {
    child: Child,
    reader: Option<io::PipeReader>,
    output: BoundedOutput,
    waited: bool,
}

impl Running {
    fn group(&self) -> Pid {
        // A process number fits: the kernel's limit is 2^22.
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    fn wait(
        &mut self,
        clock: &SystemClock,
        timeout: Duration,
        stop: &StopSwitch,
    ) -> io::Result<CommandEnd> {
        let leader = pidfd_open(self.child.id())?;
        let deadline = clock.now().at + timeout;
        let mut ended_by = None;
        loop {
            let now = clock.now().at;
            let stop_left = stop.time_left();
            if stop_left == Some(Duration::ZERO) {
                ended_by = Some(CommandEnd::Interrupted);
                break;
            }
            let left = deadline.since(now);
            if left.is_zero() {
                ended_by = Some(CommandEnd::TimedOut);
                break;
            }
            let (limit, watched) = match stop_left {
                Some(stop_left) => (left.min(stop_left).min(STOP_LOOK), None),
                None => (left, Some(stop)),
            };
            if self.poll(&leader, watched, limit)? {
                break;
            }
        }
        if ended_by.is_some() {
            self.end_group(&leader, clock)?;
        }
        let status = self.child.wait()?;
        self.waited = true;
        self.drain()?;
        Ok(ended_by.unwrap_or_else(|| end_of(status)))
    }

    /// Waits for output, the leader's end or a stop; `true` if the leader has ended.
    fn poll(
        &mut self,
        leader: &OwnedFd,
        stop: Option<&StopSwitch>,
        limit: Duration,
    ) -> io::Result<bool> {
        let mut fds = vec![PollFd::new(leader.as_fd(), PollFlags::POLLIN)];
        fds.extend(stop.map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.reader.as_ref().map(|r| PollFd::new(r.as_fd(), PollFlags::POLLIN)));
        match nix::poll::poll(&mut fds, poll_timeout(limit)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ended = fds[0].any().unwrap_or(false);
        self.drain()?;
        Ok(ended)
    }

    /// Takes what was printed so far.
    fn drain(&mut self) -> io::Result<()> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        let mut buffer = [0; 4096];
        // Bounded: one who prints without end must not keep us from looking at the clock.
        for _ in 0..64 {
            match reader.read(&mut buffer) {
                // It has closed its output, and may go on for long.
                Ok(0) => {
                    self.reader = None;
                    break;
                }
                Ok(n) => self.output.push(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Asks the group to end, and makes it.
    fn end_group(&mut self, leader: &OwnedFd, clock: &SystemClock) -> io::Result<()> {
        let group = self.group();
        // An error means that nobody is left to signal.
        let _ = killpg(group, Signal::SIGTERM);
        let deadline = clock.now().at + TERM_GRACE;
        loop {
            let left: Duration = deadline.since(clock.now().at);
            if left.is_zero() || self.poll(leader, None, left)? {
                break;
            }
        }
        let _ = killpg(group, Signal::SIGKILL);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.waited {
            // An error of ours came in between: no process may outlive it.
            let _ = killpg(self.group(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

fn end_of(status: ExitStatus) -> CommandEnd {
    match status.code() {
        Some(code) => CommandEnd::Exited(code),
        None => CommandEnd::Killed(status.signal().unwrap_or(0)),
    }
}

/// A timeout for poll, rounded up so that a deadline is not looked at before its time.
pub(crate) fn poll_timeout(limit: Duration) -> PollTimeout {
    let ms = limit.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
}

/// A descriptor that becomes readable when the process ends.
fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and returns a descriptor that nobody else owns.
    #[allow(unsafe_code)]
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor to us.
    #[allow(unsafe_code)]
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// For those who measure durations beside a command.
pub(crate) fn micros_since(clock: &SystemClock, start: Instant) -> u64 {
    u64::try_from(clock.now().at.since(start).as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
