//! Why a run cannot begin or go on, and the exit status of each ending.

use crate::fleet::remote::{Address, RemoteError};
use crate::truth::journal::JournalError;
use engine::blocking::BlockingError;
use engine::ids::HostNameError;
use master::control::CallError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The process's exit status; part of the interface for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The goal was reached, and nothing acked was lost.
    Reached = 0,
    /// Something failed here.
    Internal = 1,
    /// The command line asks for what cannot be.
    Usage = 2,
    /// Not every client reached the goal in time.
    Missed = 3,
    /// An acked report is missing, or one is stored twice.
    Violated = 4,
    /// The generator was not punctual enough for its figures to count.
    Invalid = 5,
    /// The master cannot be reached.
    Unreachable = 6,
    /// Somebody interrupted it; the report says how far it came.
    Interrupted = 130,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The master is not on this machine.
    #[error(
        "{master} is not on this machine; a load generator can bring a master down: name it only with --i-own-this-master"
    )]
    ForeignTarget {
        /// The address that was given.
        master: SocketAddr,
    },
    /// The master is not on this machine, and its own configuration does not allow it.
    #[error(
        "the master at {master} does not allow load tests from other machines: set `load_tests = true` in its master.toml and start it again, if it may be brought down"
    )]
    LoadTestsOff {
        /// The address that was given.
        master: SocketAddr,
    },
    /// No process has the number that was given for the master's.
    #[error(
        "there is no process {pid} on this machine, or it is hidden from this user: name the master's with --master-pid (`pgrep -a drover` shows it), or leave that out"
    )]
    NoMasterPid {
        /// The number.
        pid: u32,
    },
    /// Where the report is to be left, one lies already.
    #[error(
        "{} is of an earlier run: take another --out, or overwrite what that run left with --force",
        path.display()
    )]
    EarlierReport {
        /// The first file of it.
        path: PathBuf,
    },
    /// The workload needs dial-backs, and the master cannot dial this machine's 127.a.b.c.
    #[error(
        "{what} waits for manifests that the master dials back, and a master on another machine cannot dial the 127.a.b.c addresses of the simulated clients; run loadgen beside the master"
    )]
    NoDialBack {
        /// What was asked for.
        what: String,
    },
    /// A worker on another machine has another loopback.
    #[error(
        "the worker at {worker} is not on this machine, and would look for the master at {master} on its own; name workers on loopback, or the master by an address that all machines reach"
    )]
    WorkerElsewhere {
        /// The worker.
        worker: Address,
        /// The master.
        master: SocketAddr,
    },
    /// A worker would wait where other machines reach it.
    #[error(
        "other machines reach {listen}, and whoever reaches a worker can have it bring a master down: name it only with --i-own-this-network"
    )]
    ForeignListen {
        /// The address that was given.
        listen: SocketAddr,
    },
    /// A worker's address is taken, or is not to be had.
    #[error("cannot listen on {listen} for a controller: {error}; choose another with --listen")]
    WorkerListen {
        /// The address.
        listen: SocketAddr,
        /// What the operating system said.
        error: io::Error,
    },
    /// A worker in another process.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// It can be done to a master of our own only.
    #[error(
        "{what} is done only to a master that loadgen starts itself: add --own-master, or leave it out"
    )]
    NeedsOwnMaster {
        /// What was asked for.
        what: &'static str,
    },
    /// Nothing is left to be judged.
    #[error(
        "nothing of the phase {phase} would be judged: its warm-up and cool-down are as long as it goes on; shorten them, or raise --for"
    )]
    Unmeasured {
        /// The phase.
        phase: String,
    },
    /// A master of our own has ended by itself.
    #[error(
        "the master that loadgen started has ended ({status}); acked and stored cannot be compared"
    )]
    OwnMasterEnded {
        /// How.
        status: std::process::ExitStatus,
    },
    /// The scenario cannot be read.
    #[error("{0}")]
    Scenario(String),
    /// There is nothing to wait for.
    #[error(
        "the master has no release yet, so no client would get a manifest; run `drover publish` first"
    )]
    NothingPublished,
    /// The suffix of the clients' names.
    #[error("the clients' names cannot end with this suffix: {0}")]
    Suffix(#[from] HostNameError),
    /// The clients' port is taken, or is not to be had.
    #[error(
        "cannot listen on port {port} for the master's dial-backs: {error}; choose another with --port"
    )]
    Listen {
        /// The port.
        port: u16,
        /// What the operating system said.
        error: io::Error,
    },
    /// The workers' ports do not exist.
    #[error(
        "{workers} workers listen on {workers} ports from {first} on, which ends at 65535; choose a lower --port"
    )]
    Ports {
        /// The first one's.
        first: u16,
        /// How many.
        workers: u32,
    },
    /// Names that come by DNS come without a port.
    #[error(
        "a name service gives addresses without ports, so the master dials all clients on its one client_port and one worker has them, and this run needs {workers}: leave out --dns, or have one worker do with fewer --clients or more descriptors (`loadgen doctor`)"
    )]
    NamesHaveNoPorts {
        /// How many.
        workers: u32,
    },
    /// A master that runs cannot be told where the name service is.
    #[error(
        "a master that runs knows its name servers from its master.toml: choose a port with --dns-port, write `dns_servers = [\"127.0.0.1:PORT\"]` and `client_port = {client_port}` there and start it again, or add --own-master"
    )]
    NamesPort {
        /// Where the clients listen.
        client_port: u16,
    },
    /// The name service cannot be started.
    #[error(
        "cannot answer on UDP port {port} of 127.0.0.1 as a name service: {error}; choose another with --dns-port"
    )]
    Names {
        /// The port.
        port: u16,
        /// What the operating system said.
        error: io::Error,
    },
    /// A master of our own cannot be started.
    #[error("cannot start a master of its own: {detail}")]
    OwnMaster {
        /// Why.
        detail: String,
    },
    /// A worker's thread has ended without a word.
    #[error(
        "a worker has died; this is a defect of loadgen, please report it with what stands above"
    )]
    WorkerDied,
    /// The hosts table cannot be written.
    #[error(
        "cannot write the hosts table {}: {error}; name a file in a directory that is there",
        .path.display()
    )]
    HostsTable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// A report of an earlier run cannot be used.
    #[error("{0}")]
    Report(String),
    /// The files of the report cannot be written.
    #[error("cannot leave the report in {}: {error}", .dir.display())]
    Out {
        /// The directory.
        dir: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The master does not answer.
    #[error("{0}")]
    Master(#[from] BlockingError),
    /// There is nothing where the master's control socket should be.
    #[error(
        "there is no socket {}, and without it acked and stored are not compared: name the control_socket of the master's master.toml with --control",
        path.display()
    )]
    NoControl {
        /// Where it should be.
        path: PathBuf,
    },
    /// The daemon's control socket does not answer.
    #[error("{0}")]
    Control(#[from] CallError),
    /// The master does not get its reports into its result store.
    #[error(
        "{left} reports wait in the master's inbox and it does not get emptier{}, so acked and stored cannot be compared yet; once it does, `loadgen check` compares them with the `--journal` of the run",
        why.as_ref().map_or_else(|| " (`drover status` says why)".to_owned(), |why| format!(" ({why})"))
    )]
    InboxStuck {
        /// How many.
        left: u64,
        /// What the master says of it.
        why: Option<String>,
    },
    /// The reactor has failed for good.
    #[error("the event loop failed: {0}")]
    Loop(#[from] io::Error),
}

impl LoadError {
    /// The exit status that says so.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::ForeignTarget { .. }
            | Self::LoadTestsOff { .. }
            | Self::NoMasterPid { .. }
            | Self::EarlierReport { .. }
            | Self::NoDialBack { .. }
            | Self::WorkerElsewhere { .. }
            | Self::ForeignListen { .. }
            | Self::WorkerListen { .. }
            | Self::NothingPublished
            | Self::NeedsOwnMaster { .. }
            | Self::Scenario(_)
            | Self::Unmeasured { .. }
            | Self::Suffix(_)
            | Self::Report(_)
            | Self::NoControl { .. }
            | Self::Ports { .. }
            | Self::NamesHaveNoPorts { .. }
            | Self::NamesPort { .. }
            | Self::Names { .. }
            | Self::Listen { .. } => Exit::Usage,
            Self::HostsTable { .. }
            | Self::OwnMaster { .. }
            | Self::Out { .. }
            | Self::Journal(_)
            | Self::WorkerDied
            | Self::Remote(_)
            | Self::Loop(_) => Exit::Internal,
            Self::InboxStuck { .. } => Exit::Missed,
            Self::Master(_) | Self::Control(_) | Self::OwnMasterEnded { .. } => Exit::Unreachable,
        }
    }
}
