//! A process that runs, and the log that it writes.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The lines so far, and whether there can be more.
#[derive(Debug, Default)]
struct Log {
    lines: Vec<String>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    log: Mutex<Log>,
    grown: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Log> {
        // A wait that fails panics with the log in hand; it is as it was.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// All that it wrote to standard error.
    pub log: String,
}

/// A process of the test's own; it is killed, if it still runs, when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
    seen: usize,
}

impl Daemon {
    /// Starts it; its standard error is read line by line.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn spawn(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let stderr = child.stderr.take().expect("it is a pipe");
        let shared = Arc::new(Shared::default());
        let filled = Arc::clone(&shared);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                filled.lock().lines.push(line);
                filled.grown.notify_all();
            }
            filled.lock().ended = true;
            filled.grown.notify_all();
        });
        Self { child, shared, reader: Some(reader), seen: 0 }
    }

    /// Its process id.
    ///
    /// # Panics
    /// Never: process ids are positive.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("process ids are positive")
    }

    /// Waits for the next line, behind those waited for before, that contains `text`.
    ///
    /// # Panics
    /// It does not come in time, or the process ends before.
    pub fn wait_line(&mut self, text: &str) -> String {
        self.wait_for(text, |line| line.contains(text))
    }

    /// Waits likewise until a client has told that all resources of a revision are as wanted.
    ///
    /// # Panics
    /// As [`Daemon::wait_line`].
    pub fn wait_converged(&mut self, revision: u64) -> String {
        let of = format!("revision {revision}: ");
        let is = |line: &str| line.contains(&of) && line.ends_with(", converged");
        self.wait_for(&format!("{of}…, converged"), is)
    }

    fn wait_for(&mut self, wanted: &str, is: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + super::PATIENCE;
        let mut log = self.shared.lock();
        loop {
            while self.seen < log.lines.len() {
                self.seen += 1;
                if is(&log.lines[self.seen - 1]) {
                    return log.lines[self.seen - 1].clone();
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !log.ended && !left.is_zero(),
                "no line {wanted:?} in:\n{}",
                log.lines.join("\n")
            );
            log = self.shared.grown.wait_timeout(log, left).expect("as above").0;
        }
    }

    /// How many lines so far contain `text`.
    #[must_use]
    pub fn count_lines(&self, text: &str) -> usize {
        self.shared.lock().lines.iter().filter(|line| line.contains(text)).count()
    }

    /// All lines so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.shared.lock().lines.join("\n")
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// It has been waited for already.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("our own child takes signals");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It goes on for longer than `within`.
    #[must_use]
    pub fn wait_end(mut self, within: Duration) -> Ended {
        let until = Instant::now() + within;
        let mut log = self.shared.lock();
        while !log.ended {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "it did not end in {within:?}:\n{}", log.lines.join("\n"));
            log = self.shared.grown.wait_timeout(log, left).expect("as above").0;
        }
        let log = std::mem::take(&mut log.lines).join("\n");
        let status = self.child.wait().expect("our own child can be waited for");
        Ended { status, log }
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    ///
    /// # Panics
    /// It is no child of ours any more.
    pub fn kill(mut self) {
        self.child.kill().expect("our own child takes signals");
        self.child.wait().expect("our own child can be waited for");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            eprintln!("--- log of process {}:\n{}", self.child.id(), self.log());
        }
    }
}

/// Runs a command to its end.
///
/// # Panics
/// It cannot be started.
#[must_use]
pub fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}
