//! The commands that load a master: one for each workload that has a name, and one for those
//! that a file describes.

use super::{CLIENTS, MASTER, Names, OwnArgs, STOPS_MAX, positive_duration, print_json};
use crate::clients::work::{Churn, Pace, Reports};
use crate::error::{Exit, LoadError};
use crate::names::{NameFaults, NamesConfig};
use crate::peers::{BadPeers, Badness};
use crate::progress::Progress;
use crate::report;
use crate::run::file::{permille, report_bytes};
use crate::run::scenario::Return;
use crate::run::{self, Bound, LoadConfig, MasterChoice, Scenario, Script};
use clap::builder::RangedU64ValueParser;
use clap::{Args, Subcommand};
use engine::config::{parse_addr, parse_duration, parse_size};
use engine::reactor::Signals;
use master::table::Paint;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Half-open peers beside clients that come and go.
const HALF_OPEN: u32 = 100;
/// Good clients where bad peers are the question, and how many of each kind of those.
const BESIDE_CLIENTS: u32 = 100;
const BESIDE_EACH: u32 = 100;
/// Decides the order of the slots, if nothing else is said.
const SEED: u64 = 1;

/// A command that loads a master.
#[derive(Debug, Subcommand)]
pub(super) enum Workload {
    /// Every client polls once an interval, at fixed slots that wait for no answer
    #[command(after_help = "\
Examples:
  loadgen steady --clients 10000 --interval 60s --for 5m
  loadgen steady --clients 10000 --expect-revision 2 --until-all
  loadgen steady --clients 1000 --interval 5s --reports-per-poll 3 \\
      --journal acked.txt --control /srv/drover/control.sock

Latency counts from the slot at which a request should have begun.")]
    Steady {
        #[command(flatten)]
        common: Common,
        /// Each client polls so often
        #[arg(long, default_value = "60s", value_parser = positive_duration)]
        interval: Duration,
        /// Polls come at random, with that interval as their mean
        #[arg(long)]
        random: bool,
        /// Polls go on for so long
        #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = positive_duration, conflicts_with = "until_all")]
        duration: Duration,
        /// Every client is to hold this revision, or a later one, and to have reported it
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        expect_revision: Option<u64>,
        /// End as soon as every client does
        #[arg(long, requires = "expect_revision")]
        until_all: bool,
        /// Reports at each poll, beside the one for each new manifest
        #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1000))]
        reports_per_poll: u32,
    },
    /// All clients connect at once: each binds, polls, gets its manifest and reports
    #[command(after_help = "\
Examples:
  loadgen storm --clients 10000
  loadgen storm --clients 10000 --within 5s --json > storm.json")]
    Storm {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        back: Back,
    },
    /// One new manifest to all: how long until the last client has it
    #[command(after_help = "\
Examples:
  loadgen push --clients 10000 --own-master
  loadgen push --clients 10000          and `drover publish` yourself when it says so")]
    Push {
        #[command(flatten)]
        common: Common,
    },
    /// A flood of reports
    #[command(after_help = "\
Examples:
  loadgen reports --own-master --rate 5000 --for 1m
  loadgen reports --own-master --rate 2000 --size 16KiB --failed 5 --burst 10 --random")]
    Reports {
        #[command(flatten)]
        common: Common,
        /// Reports a second, of all clients together
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        rate: u32,
        /// Each client sends so many at once, and is silent for so much longer
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        burst: u32,
        /// What a report carries beside its frame
        #[arg(long, value_name = "SIZE", default_value = "0B", value_parser = bytes)]
        size: u32,
        /// Percent of the reports that tell of a failed resource
        #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = percent)]
        failed: u16,
        /// They come at random and not evenly
        #[arg(long)]
        random: bool,
        /// Reports go on for so long
        #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = positive_duration)]
        duration: Duration,
    },
    /// A new version for everybody: all fetch it, start again and bind
    #[command(after_help = "\
Examples:
  loadgen release --clients 5000 --own-master --size 4MiB
  loadgen release --clients 5000 --own-master --size 4MiB --within 1m")]
    Release {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        back: Back,
        /// The new version's size
        #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = parse_size)]
        size: u64,
    },
    /// The master restarts, and all clients come back at once
    #[command(after_help = "\
Examples:
  loadgen cold-start --clients 10000 --own-master
  loadgen cold-start --clients 10000 --own-master --within 60s     as real clients come back
  loadgen cold-start --clients 10000 --own-master --no-backoff     as no client should")]
    ColdStart {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        back: Back,
    },
    /// Clients leave without a word and come back, beside others that poll
    #[command(after_help = "\
Example:
  loadgen churn --clients 10000 --own-master --percent 20 --away 30s --for 5m")]
    Churn {
        #[command(flatten)]
        common: Common,
        /// So many percent of the clients leave in a minute
        #[arg(long, value_name = "PERCENT", default_value = "10", value_parser = percent)]
        percent: u16,
        /// They come back after this
        #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = positive_duration)]
        away: Duration,
        /// Each client polls so often
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = positive_duration)]
        interval: Duration,
        /// Peers that are connected and say nothing
        #[arg(long, value_name = "N", default_value_t = HALF_OPEN)]
        half_open: u32,
        /// It goes on for so long
        #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = positive_duration)]
        duration: Duration,
    },
    /// A bit of all: polls, reports, churn, bad peers, and a push in the middle
    #[command(after_help = "\
Example:
  loadgen mixed --clients 10000 --own-master --rate 1000 --for 5m --slo p99=1s")]
    Mixed {
        #[command(flatten)]
        common: Common,
        /// Each client polls so often
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = positive_duration)]
        interval: Duration,
        /// Reports a second, of all clients together
        #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
        rate: u32,
        /// It goes on for so long
        #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = positive_duration)]
        duration: Duration,
    },
    /// Good clients alone, and then beside each kind of bad peers: do their figures hold?
    #[command(after_help = "\
Examples:
  loadgen beside --own-master                        100 good clients, every kind of bad peers
  loadgen beside --own-master --bad-peers half-open=5000 --bad-peers slow-reader=50@0

Kinds: slow-reader slow-writer half-open reset garbage wrong-length replay duplicate-name
spoofed-name. KIND=NUMBER, or KIND=NUMBER@BYTES_A_SECOND for the slow ones; 0 never reads.")]
    Beside {
        #[command(flatten)]
        common: Common,
        /// Each good client polls and reports so often: a p99 needs thousands of messages
        #[arg(long, value_name = "DURATION", default_value = "250ms", value_parser = positive_duration)]
        interval: Duration,
        /// The p99 of the good ones may be so many times that without bad peers
        #[arg(long, value_name = "TIMES", default_value_t = 2.0)]
        factor: f64,
        /// Each part goes on for so long
        #[arg(long = "for", value_name = "DURATION", default_value = "10s", value_parser = positive_duration)]
        duration: Duration,
    },
    /// Play a scenario: phases on a timeline, from a file
    #[command(after_help = "\
Example:
  loadgen run evening.toml --own-master --out evening

  # evening.toml
  name = \"evening\"
  clients = 10000
  [[phase]]
  name = \"bind\"
  judged = false
  restart = \"5s\"
  [[phase]]
  name = \"load\"
  for = \"2m\"
  polls = { every = \"60s\" }
  reports = { rate = 1000, size = \"2KiB\", failed_percent = 5 }
  churn = { percent_per_minute = 5, away = \"10s\" }
  master = [{ at = \"30s\", publish = \"1MiB\" }, { at = \"60s\", restart = true }]
  bad_peers = [\"half-open=500\"]
  bound = \"p99=1s\"

docs/OPERATIONS.md has every key.")]
    Run {
        /// The scenario
        #[arg(value_name = "SCENARIO.toml")]
        file: PathBuf,
        #[command(flatten)]
        common: Common,
    },
}

/// How clients come back.
#[derive(Debug, Args)]
pub(super) struct Back {
    /// Spread the connects over so long
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    within: Duration,
    /// Clients that fail try again ten times a second, all alike, and not as real ones do
    #[arg(long)]
    no_backoff: bool,
}

impl Back {
    fn config(&self, timeout: Duration) -> Return {
        Return { within: self.within, backoff: !self.no_backoff, timeout }
    }
}

/// What all of them take.
#[derive(Debug, Args)]
pub(super) struct Common {
    #[command(flatten)]
    names: Names,
    /// The master
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = MASTER, value_parser = parse_addr)]
    master: SocketAddr,
    /// The master's process: see what it takes of the machine
    #[arg(long, value_name = "PID")]
    master_pid: Option<u32>,
    /// Start a master of its own, with keys, site and inbox in a directory of its own
    #[arg(long, conflicts_with_all = ["master", "master_pid", "control", "hosts_table", "i_own_this_master"])]
    own_master: bool,
    #[command(flatten)]
    own: OwnArgs,
    /// Allow a master on another machine, which this load may bring down
    #[arg(long)]
    i_own_this_master: bool,
    /// Write the table `name address:port` before anything starts
    #[arg(long, value_name = "FILE")]
    hosts_table: Option<PathBuf>,
    /// Answer the master's questions for the clients' names, as a DNS server on 127.0.0.1, in the
    /// place of a hosts table; one worker has all clients then
    #[arg(long, conflicts_with = "hosts_table")]
    dns: bool,
    /// That server's UDP port, as dns_servers in master.toml has it [default: any, for a master of
    /// its own]
    #[arg(long, value_name = "PORT", requires = "dns", value_parser = clap::value_parser!(u16).range(1..))]
    dns_port: Option<u16>,
    /// What it does wrong, and how often: slow=5%@2s,nxdomain=1%,wrong=1%,duplicate=10%,changing=5%
    #[arg(long, value_name = "FAULTS", requires = "dns", value_parser = NameFaults::parse)]
    dns_faults: Option<NameFaults>,
    /// Note every acked report here as it is acked
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// The master's control socket: compare acked with stored at the end
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
    /// How long clients may take to reach the goal; with --within, after the last has come back
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = positive_duration)]
    timeout: Duration,
    /// Deliveries under way at once [default: half of the descriptors]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    deliveries_max: Option<usize>,
    /// What latencies must keep to: p99=1s, p99.9=5s, max=10s
    #[arg(long, value_name = "BOUND", value_parser = Bound::parse)]
    slo: Option<Bound>,
    /// What is measured so long after the start is not judged
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    warm_up: Duration,
    /// What is measured so long before the end of the load is not judged
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    cool_down: Duration,
    /// Leave the report here: report.json, seconds.csv, latency.hlog, junit.xml, report.html
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Overwrite the report that an earlier run has left there; other files stay as they are
    #[arg(long, requires = "out")]
    force: bool,
    /// Kill a master of its own with SIGKILL so often, and start it again at once
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, requires = "own_master")]
    kill_master: Option<Duration>,
    /// Rehearse a slow disk: each commit of a master of its own takes so much longer
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "own_master")]
    slow_disk: Option<Duration>,
    /// Bad peers beside the clients: KIND=NUMBER or KIND=NUMBER@BYTES_A_SECOND, more than once
    #[arg(long, value_name = "PEERS", value_parser = BadPeers::parse)]
    bad_peers: Vec<BadPeers>,
    /// Decides the order of the clients' slots [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

impl Common {
    fn config(&self, clients: u32, seed: u64) -> LoadConfig {
        LoadConfig {
            clients,
            workers: self.names.workers.clone().unwrap_or_default(),
            master: if self.own_master {
                MasterChoice::Own(self.own.config(self.slow_disk))
            } else {
                MasterChoice::Running {
                    addr: self.master,
                    foreign_allowed: self.i_own_this_master,
                    control: self.control.clone(),
                    pid: self.master_pid,
                }
            },
            port: self.names.port,
            suffix: self.names.suffix.clone(),
            hosts_table: self.hosts_table.clone(),
            names: self.dns.then(|| NamesConfig {
                port: self.dns_port.unwrap_or(0),
                faults: self.dns_faults.unwrap_or_default(),
            }),
            journal: self.journal.clone(),
            out: self.out.clone(),
            deliveries_max: self.deliveries_max,
            seed,
        }
    }

    /// What the command line asks of all phases that are judged.
    fn tune(&self, scenario: &mut Scenario) {
        for phase in scenario.judged_mut() {
            phase.bound = self.slo.or(phase.bound);
            phase.warm_up = self.warm_up.max(phase.warm_up);
            phase.kill_every = self.kill_master.or(phase.kill_every);
            if !self.cool_down.is_zero() {
                phase.cool_down = Some(self.cool_down);
            }
        }
    }

    fn load(&self, config: &LoadConfig, scenario: &Scenario) -> Result<Exit, LoadError> {
        let mut earlier = config.out.iter().flat_map(|dir| report::left_in(dir));
        if let Some(path) = earlier.next().filter(|_| !self.force) {
            return Err(LoadError::EarlierReport { path });
        }
        let stop = Signals::stop_flag(STOPS_MAX)?;
        let mut progress = Progress::to_stderr();
        let report = run::run(config, scenario, &stop, &mut progress)?;
        if self.json {
            print_json(&report)?;
        } else {
            io::stdout().write_all(report.render(Paint::for_stdout()).as_bytes())?;
        }
        if let Some(error) = &report.unwritten {
            writeln!(io::stderr(), "loadgen: {error}")?;
        }
        Ok(match report.outcome.exit() {
            Exit::Reached if report.unwritten.is_some() => Exit::Internal,
            exit => exit,
        })
    }
}

impl Workload {
    /// Loads a master, and prints the report.
    pub(super) fn run(&self) -> Result<Exit, LoadError> {
        let common = self.common();
        let mut script = self.script()?;
        common.tune(&mut script.scenario);
        // There, each kind has a phase of its own.
        if !matches!(self, Self::Beside { .. }) {
            for phase in script.scenario.judged_mut() {
                phase.bad_peers.extend(&common.bad_peers);
            }
        }
        let seed = common.seed.or(script.seed).unwrap_or(SEED);
        common.load(&common.config(script.clients, seed), &script.scenario)
    }

    fn common(&self) -> &Common {
        match self {
            Self::Steady { common, .. }
            | Self::Storm { common, .. }
            | Self::Push { common }
            | Self::Reports { common, .. }
            | Self::Release { common, .. }
            | Self::ColdStart { common, .. }
            | Self::Churn { common, .. }
            | Self::Mixed { common, .. }
            | Self::Beside { common, .. }
            | Self::Run { common, .. } => common,
        }
    }

    /// What is to happen, and with how many clients.
    fn script(&self) -> Result<Script, LoadError> {
        let common = self.common();
        let (timeout, is_own) = (common.timeout, common.own_master);
        let clients = common.names.clients.unwrap_or(match self {
            Self::Beside { .. } => BESIDE_CLIENTS,
            _ => CLIENTS,
        });
        let scenario = match self {
            Self::Steady {
                interval,
                random,
                duration,
                expect_revision,
                until_all,
                reports_per_poll,
                ..
            } => {
                let pace = Pace { random: *random, ..Pace::every(*interval) };
                let length = (!until_all).then_some(*duration);
                Scenario::steady(pace, length, *expect_revision, *reports_per_poll, timeout)
            }
            Self::Storm { back, .. } => Scenario::storm(back.config(timeout)),
            Self::Push { .. } => Scenario::push(clients, is_own, timeout),
            Self::Reports { rate, burst, size, failed, random, duration, .. } => {
                let reports = Reports {
                    pace: Pace { random: *random, ..Pace::default() },
                    burst: *burst,
                    bytes: *size,
                    failed_permille: *failed,
                };
                Scenario::reports(clients, *rate, reports, *duration, timeout)
            }
            Self::Release { back, size, .. } => {
                Scenario::release(clients, *size, back.config(timeout))
            }
            Self::ColdStart { back, .. } => Scenario::cold_start(clients, back.config(timeout)),
            Self::Churn { percent, away, interval, half_open, duration, .. } => {
                let churn = Churn { permille: (*percent).into(), away: *away };
                Scenario::churn(clients, churn, *interval, *half_open, *duration, timeout)
            }
            Self::Mixed { interval, rate, duration, .. } => {
                Scenario::mixed(clients, *interval, *rate, is_own, *duration, timeout)
            }
            Self::Beside { interval, factor, duration, .. } => {
                let each = |badness| BadPeers::new(badness, BESIDE_EACH);
                let peers = match &common.bad_peers[..] {
                    [] => Badness::ALL.map(each).to_vec(),
                    asked => asked.to_vec(),
                };
                Scenario::beside(clients, &peers, *interval, *factor, *duration, timeout)
            }
            Self::Run { file, .. } => {
                return Script::read(file, common.names.clients, CLIENTS)
                    .map_err(LoadError::Scenario);
            }
        };
        Ok(Script { scenario, clients, seed: None })
    }
}

/// Reads the size of a report's output.
fn bytes(text: &str) -> Result<u32, String> {
    report_bytes(parse_size(text).map_err(|error| error.to_string())?)
}

/// Reads percent, as parts of a thousand.
fn percent(text: &str) -> Result<u16, String> {
    let percent = text.trim_end_matches('%').parse().map_err(|_| "write a number, 0 to 100")?;
    permille(percent)
}
