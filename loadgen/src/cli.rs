//! The command line of `loadgen`.

mod workload;

use crate::capacity::{self, Answer, CapacityConfig, Question};
use crate::clients::address::{CLIENTS_MAX, DEFAULT_SUFFIX, Identities};
use crate::doctor;
use crate::error::{Exit, LoadError};
use crate::fleet::remote::Post;
use crate::progress::Progress;
use crate::report::{Report, compare};
use crate::run::load::{worker_ports, workers_here};
use crate::run::{self, Bound, LoadConfig, MasterChoice, Workers};
use crate::subject::own::OwnConfig;
use clap::{Args, Parser, Subcommand, ValueEnum};
use engine::config::{CLIENT_PORT, MASTER_PORT};
use engine::config::{parse_addr, parse_duration, parse_size};
use engine::reactor::Signals;
use master::table::Paint;
use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use workload::Workload;

/// Where a master listens by default.
const MASTER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), MASTER_PORT);
/// How many clients a run has by default.
const CLIENTS: u32 = 1000;
/// A step of the quick search, and what all of it may take.
const QUICK_STEP: Duration = Duration::from_secs(2);
const QUICK_BUDGET: Duration = Duration::from_secs(60);
/// What its first step offers.
const QUICK_FIRST: u32 = 4000;
/// How closely an answer is searched for.
const PRECISION: f64 = 0.05;
const QUICK_PRECISION: f64 = 0.1;
/// Where a worker waits for a run by default.
const WORKER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7500);
/// Who ends a whole group of processes, as `timeout` does, often sends two stops; one more ends
/// the program without a report.
const STOPS_MAX: usize = 2;
/// Where clients are dialled back by default: beside a real client of this machine.
const PORT: u16 = CLIENT_PORT + 1;

#[derive(Debug, Parser)]
#[command(
    name = "loadgen",
    version,
    about = "Simulates thousands of Drover's clients, and checks that nothing is lost",
    after_help = "\
Examples:
  loadgen hosts --clients 10000 --hosts-table hosts.lg   the table for master.toml, first
  loadgen storm --clients 10000                          all connect at once
  loadgen steady --clients 10000 --interval 30s --for 2m
  loadgen cold-start --clients 10000 --own-master        the master restarts, and all with it
  loadgen run evening.toml --own-master                  phases of your own

Each client has a name (lg-00001.load.test, …) and an address 127.a.b.c of its own; the master
must have the names in its inventory and the addresses in its hosts table.

Exit status: 0 goal reached, 1 internal error, 2 wrong usage, 3 goal missed, 4 an acked report
is lost, doubled, out of order or altered, 5 the generator was too late for its figures to
count, 6 the master cannot be reached, 130 interrupted (with the report so far)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Workload(Box<Workload>),
    /// Search for what a master carries, and say it in one sentence
    #[command(after_help = "\
Examples:
  loadgen capacity --quick                         a minute, one answer, a master of its own
  loadgen capacity --question reports --slo p99=1s --for 30s
  loadgen capacity --question polls --interval 10m
  loadgen capacity --question reconnects --slo max=30s --clients 20000
  loadgen capacity --question push --slo max=10s --clients 50000
  loadgen capacity --question release --size 16MiB --slo max=5m
  loadgen capacity --question all --for 10s        a table: what is carried, and what each costs

Each step passes only if 99 % of what was offered was carried, latencies kept to the bound, and
neither the inbox nor the master's memory grew. The answer lies within 5 % (--quick: 10 %) of
what passed and what did not, and was confirmed three times; what was acked is compared with
what is stored at the end. It starts a master of its own, which ends with it.")]
    Capacity(CapacityArgs),
    /// Simulate clients for a run elsewhere that names this process with --workers
    #[command(after_help = "\
Examples:
  loadgen worker                                    then, on this machine:
  loadgen storm --own-master --workers 127.0.0.1:7500

  loadgen worker --listen 10.0.0.2:7500 --i-own-this-network
  loadgen steady --master 10.0.0.1:7400 --i-own-this-master --workers 10.0.0.2:7500,10.0.0.3:7500

It works for one run at a time, waits for the next one when that has gone, and ends its clients at
once then. Both must be of one version.

Each client has an address 127.a.b.c of its own only if run, worker and master are on one machine
and meet on loopback. From other machines a master is loaded only with what needs no dial-back:
steady without --expect-revision.

Whoever reaches the port can have it load any master: there is no password.")]
    Worker {
        /// Where to wait for a run; port 0 takes any
        #[arg(long, value_name = "ADDRESS:PORT", default_value_t = WORKER, value_parser = parse_addr)]
        listen: SocketAddr,
        /// Allow an address that other machines reach
        #[arg(long)]
        i_own_this_network: bool,
    },
    /// Write the hosts table, so that a master can be configured with it
    #[command(after_help = "\
Example:
  loadgen hosts --clients 10000 --hosts-table hosts.lg
  and in master.toml:  hosts_table = \"hosts.lg\"")]
    Hosts {
        #[command(flatten)]
        names: Names,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        hosts_table: PathBuf,
    },
    /// Print the limits of this machine that will bind, and the command that lifts each
    #[command(after_help = "\
Example:
  loadgen doctor --clients 50000

Exit status: 0 nothing binds, 3 something does.")]
    Doctor {
        /// For how many clients
        #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(CLIENTS_MAX)))]
        clients: u32,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Say what got better or worse between two runs, beyond noise
    #[command(after_help = "\
Example:
  loadgen steady --out a …; loadgen steady --out b …
  loadgen compare a/report.json b/report.json

Exit status: 0 nothing got worse, 3 something did.")]
    Compare {
        /// The report of the first run
        #[arg(value_name = "A.json")]
        before: PathBuf,
        /// The report of the second run
        #[arg(value_name = "B.json")]
        after: PathBuf,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Compare a journal of acked reports with what a master has stored
    #[command(after_help = "\
Example:
  loadgen check --journal acked.txt --control /srv/drover/control.sock")]
    Check {
        /// The journal of an earlier run
        #[arg(long, value_name = "FILE")]
        journal: PathBuf,
        /// The master's control socket
        #[arg(long, value_name = "SOCKET")]
        control: PathBuf,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
}

/// What a search is asked for.
#[derive(Debug, Args)]
struct CapacityArgs {
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    own: OwnArgs,
    /// What is asked: reports, polls, reconnects, push, release, or all
    #[arg(long, value_name = "QUESTION", default_value = "reports", value_parser = questions)]
    question: Questions,
    /// What latencies must keep to, or how soon all must be done [default: p99=1s; reconnects:
    /// max=30s; push: max=10s; release: max=1m]
    #[arg(long, value_name = "BOUND", value_parser = Bound::parse)]
    slo: Option<Bound>,
    /// How long each step offers its load
    #[arg(long = "for", value_name = "DURATION", default_value = "30s", value_parser = positive_duration)]
    step: Duration,
    /// Steps of 2 s, one minute in all
    #[arg(long, conflicts_with_all = ["step", "question"])]
    quick: bool,
    /// Each question is given up, with the answer so far, after this
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = positive_duration)]
    budget: Duration,
    /// The poll interval for which the answer is put in clients: by default the clients' own
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = positive_duration)]
    interval: Duration,
    /// The size of the version that is fetched
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = parse_size)]
    size: u64,
    /// Rehearse a slow disk: each commit of the master takes so much longer
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    slow_disk: Option<Duration>,
    /// Decides the order of the clients' slots
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

/// One question, or all of them.
type Questions = Vec<Question>;

fn questions(text: &str) -> Result<Questions, String> {
    match text {
        "all" => Ok(Question::ALL.to_vec()),
        one => Ok(vec![Question::from_str(one, false)?]),
    }
}

impl CapacityArgs {
    fn config(&self, question: Question) -> CapacityConfig {
        CapacityConfig {
            load: LoadConfig {
                clients: self.names.clients.unwrap_or(question.clients()),
                workers: self.names.workers.clone().unwrap_or_default(),
                master: MasterChoice::Own(self.own.config(self.slow_disk)),
                port: self.names.port,
                suffix: self.names.suffix.clone(),
                hosts_table: None,
                names: None,
                journal: None,
                out: None,
                deliveries_max: None,
                seed: self.seed,
            },
            question,
            bound: self.slo.unwrap_or(question.bound()),
            step: if self.quick { QUICK_STEP } else { self.step },
            release_bytes: self.size,
            precision: if self.quick { QUICK_PRECISION } else { PRECISION },
            hurried: self.quick,
            first: if self.quick { QUICK_FIRST } else { question.first() },
            budget: if self.quick { QUICK_BUDGET } else { self.budget },
            interval: self.interval,
        }
    }

    fn run(&self) -> Result<Exit, LoadError> {
        let stop = Signals::stop_flag(STOPS_MAX)?;
        let mut progress = Progress::to_stderr();
        let mut answers = Vec::new();
        for question in &self.question {
            let answer = capacity::search(&self.config(*question), &stop, &mut progress)?;
            let interrupted = answer.interrupted;
            if !self.json {
                writeln!(io::stdout(), "{answer}")?;
            }
            answers.push(answer);
            if interrupted {
                break;
            }
        }
        match &answers[..] {
            [answer] if self.json => print_json(answer)?,
            several if self.json => print_json(&several)?,
            [_] => {}
            several => {
                let text = capacity::table::render(several, Paint::for_stdout());
                write!(io::stdout(), "\n{text}")?;
            }
        }
        // The worst of them: a report that was lost before a load that was not carried.
        let exits: Vec<Exit> = answers.iter().map(Answer::exit).collect();
        let worst = [Exit::Violated, Exit::Interrupted, Exit::Unreachable, Exit::Missed];
        Ok(worst.into_iter().find(|exit| exits.contains(exit)).unwrap_or(Exit::Reached))
    }
}

#[derive(Debug, Args)]
struct Names {
    /// How many clients [default: 1000; capacity: 5000 to 20000, as the question needs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(CLIENTS_MAX)))]
    clients: Option<u32>,
    /// The clients' names end with this
    #[arg(long, value_name = "DOMAIN", default_value = DEFAULT_SUFFIX)]
    suffix: String,
    /// The port on which the clients are dialled back; each further worker takes the next one
    #[arg(long, default_value_t = PORT)]
    port: u16,
    /// Threads that share the clients, each with descriptors of its own [default: as many as the
    /// limit of descriptors demands]; or processes, each a `loadgen worker`
    #[arg(long, value_name = "N|HOST:PORT,…", value_parser = Workers::parse)]
    workers: Option<Workers>,
}

#[derive(Debug, Args)]
struct OwnArgs {
    /// Where a master of its own keeps its files: the disk on which its syncs are measured
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    own_dir: PathBuf,
    /// The program of a master of its own [default: the `drover` beside this program]
    #[arg(long, value_name = "FILE")]
    drover: Option<PathBuf>,
}

impl OwnArgs {
    fn config(&self, slow_disk: Option<Duration>) -> OwnConfig {
        let (parent, program) = (self.own_dir.clone(), self.drover.clone());
        OwnConfig { parent, program, slow_disk }
    }
}

/// Reads a duration that is not zero.
fn positive_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text).map_err(|error| error.to_string())? {
        Duration::ZERO => Err("this cannot be zero; write 1ms or more".to_owned()),
        some => Ok(some),
    }
}

/// Runs the program with these arguments, the first of which is its own name.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli: Cli = match master::cli::parse(args) {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    engine::logging::to_stderr(log::LevelFilter::Warn);
    let exit = execute(&cli.command).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "loadgen: {error}");
        error.exit()
    });
    ExitCode::from(exit as u8)
}

fn execute(command: &Command) -> Result<Exit, LoadError> {
    match command {
        Command::Workload(workload) => workload.run(),
        Command::Capacity(args) => args.run(),
        Command::Worker { listen, i_own_this_network } => {
            let post = Post::open(*listen, *i_own_this_network)?;
            // Nobody may be there to read it.
            let never = post.serve(|what| drop(writeln!(io::stderr(), "{what}")))?;
            match never {}
        }
        Command::Hosts { names, hosts_table } => {
            let identities = Identities::new(&names.suffix)?;
            let clients = names.clients.unwrap_or(CLIENTS);
            let (workers, _) = workers_here(clients, &names.workers.clone().unwrap_or_default());
            let ports = worker_ports(clients, workers, names.port)?;
            let written = identities.write_hosts_table(hosts_table, ports);
            written.map_err(|error| LoadError::HostsTable { path: hosts_table.clone(), error })?;
            Ok(Exit::Reached)
        }
        Command::Doctor { clients, json } => {
            let limits = doctor::examine(*clients);
            if *json {
                print_json(&limits)?;
            } else {
                let text = doctor::render(&limits, *clients, Paint::for_stdout());
                io::stdout().write_all(text.as_bytes())?;
            }
            Ok(if limits.iter().any(|limit| limit.binds) { Exit::Missed } else { Exit::Reached })
        }
        Command::Compare { before, after, json } => {
            let read = |path: &PathBuf| Report::read(path).map_err(LoadError::Report);
            let (before, after) = (read(before)?, read(after)?);
            let changes = compare::compare(&before, &after);
            let cautions = compare::cautions(&before, &after);
            if *json {
                print_json(&serde_json::json!({ "cautions": cautions, "changes": changes }))?;
            } else {
                for caution in cautions {
                    writeln!(io::stdout(), "take care: {caution}")?;
                }
                let text = compare::render(&changes, Paint::for_stdout());
                io::stdout().write_all(text.as_bytes())?;
            }
            let worse = changes.iter().any(|change| change.meaning == compare::Meaning::Worse)
                || compare::fell(&before, &after);
            Ok(if worse { Exit::Missed } else { Exit::Reached })
        }
        Command::Check { journal, control, json } => {
            let truth = run::check_journal(journal, control)?;
            if *json {
                print_json(&truth)?;
            } else {
                writeln!(io::stdout(), "{truth}")?;
            }
            Ok(if truth.holds() { Exit::Reached } else { Exit::Violated })
        }
    }
}

fn print_json(value: &impl serde::Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)
}

#[cfg(test)]
mod tests;
