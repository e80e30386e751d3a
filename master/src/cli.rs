//! The command line of `drover`.

use crate::commands::init::InitArgs;
use crate::commands::{
    Context, Exit, Failure, hosts, master, probe, push, queue, reports, site, status,
};
use crate::control::ReportsArgs;
use crate::daemon::{Direct, SlowDisk};
use crate::table::Paint;
use clap::{Parser, Subcommand};
use engine::config::{number_words, parse_duration};
use std::error::Error as _;
use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Keeps tens of thousands of machines configured.
#[derive(Debug, Parser)]
#[command(
    name = "drover",
    version,
    about = "Keeps tens of thousands of machines configured",
    after_help = "\
Examples:
  drover init /srv/drover                  keys, configuration and an empty site
  drover master --config /srv/drover/master.toml
  drover publish                           compile, sign and push the site
  drover status                            how the master is, and what to look at
  drover hosts --silent                    who has not been heard

Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 3 the master cannot be
reached, 4 some hosts failed, 130 interrupted."
)]
struct Cli {
    /// The master's configuration [default: $DROVER_CONFIG, or ./master.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// Reads `--log`.
fn level(text: &str) -> Result<log::LevelFilter, String> {
    text.parse().map_err(|_| "write error, warn, info, debug or trace".to_owned())
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make keys, configuration files and an empty site
    #[command(after_help = "\
Examples:
  drover init /srv/drover
  drover init . --site edge

It overwrites nothing. Keep keys/signing.key secret: who has it decides what every host does.")]
    Init {
        /// The directory to fill
        dir: PathBuf,
        /// The site's id [default: the directory's name]
        #[arg(long, value_name = "ID")]
        site: Option<String>,
    },
    /// Compile, sign and push a site
    #[command(after_help = "\
Examples:
  drover publish                   the site_dir of the configuration
  drover publish ./site --dry-run  what would change, and for which hosts; writes nothing
  drover publish --force           renew the assignments though nothing has changed

A running master takes the release and pushes it at once; one that is down does so when it is
started.")]
    Publish {
        /// The site's directory [default: site_dir of the configuration]
        site: Option<PathBuf>,
        /// Only say what would change; write nothing
        #[arg(long)]
        dry_run: bool,
        /// Publish even if nothing has changed
        #[arg(long)]
        force: bool,
        /// Take at least this revision: after a lost state directory, above what clients hold
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        revision_min: u64,
    },
    /// Run the daemon in the foreground
    #[command(after_help = "\
Examples:
  drover master --config /etc/drover/master.toml
  drover master --log debug

SIGTERM stops it after what is under way is finished; a second one stops it at once. SIGHUP
makes it read the hosts table again.")]
    Master {
        /// What to log: error, warn, info, debug or trace
        #[arg(long, default_value = "info", value_name = "LEVEL", value_parser = level)]
        log: log::LevelFilter,
        /// Rehearse a slow disk: every commit of inbox and result store takes so much longer
        #[arg(long, value_name = "DURATION", value_parser = parse_duration, hide = true)]
        slow_disk: Option<Duration>,
    },
    /// Dial hosts with their assignment now, rather than wait for their polls
    #[command(after_help = "\
Examples:
  drover push                 every host
  drover push web1.example    one host
  drover push 'web*'          all that match a glob

Every host that is meant is dialled, whatever it is thought to hold. Ctrl-C cancels it. Hosts
that are not reached catch up at their next poll.
Exit status 4: some hosts were not reached, or refused; 1: none has taken it.")]
    Push {
        /// A host's name or a glob [default: every host]
        #[arg(default_value = "*", hide_default_value = true)]
        selector: String,
    },
    /// Show how the master is, and what to look at
    #[command(after_help = "\
Examples:
  drover status
  drover status --counters    what was counted since the start, too
  drover status --json | jq '.warnings[]'")]
    Status {
        /// Show the counters too
        #[arg(long)]
        counters: bool,
    },
    /// Show the hosts: last seen, revision, last run, last error
    #[command(after_help = "\
Examples:
  drover hosts
  drover hosts --silent       not heard for `silent_after`, or never
  drover hosts --failed       whose last word was an error
  drover hosts --failed --json | jq -r '.hosts[].name'")]
    Hosts {
        /// Only hosts that have not been heard for `silent_after`, or never
        #[arg(long)]
        silent: bool,
        /// Only hosts that tell of an error
        #[arg(long)]
        failed: bool,
    },
    /// Show what runs on the hosts did, newest first
    #[command(after_help = "\
Examples:
  drover reports --failed --since 1d
  drover reports --host web1.example --limit 5
  drover report 4711          one of them, resource by resource")]
    Reports {
        /// Only this host's, in the order of its own numbers
        #[arg(long)]
        host: Option<String>,
        /// Only runs that failed, were cut short or were not applied
        #[arg(long)]
        failed: bool,
        /// Most rows
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Only those that arrived in the last 30m, 12h, 7d, …
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        since: Option<Duration>,
    },
    /// Show one run, resource by resource
    #[command(after_help = "\
Example:
  drover report 4711          the number is the first column of `drover reports`")]
    Report {
        /// Its number
        id: i64,
    },
    /// List the ids of all stored reports: host, epoch, number
    #[command(after_help = "\
Example:
  drover ids | sort | uniq -d    nothing: every report is stored once")]
    Ids,
    /// Try the way to a host, and name the step that fails: resolve, dial, version, revision
    #[command(after_help = "\
Example:
  drover probe web1.example")]
    Probe {
        /// The host's name
        host: String,
    },
    /// Look into the queue of reports that wait for the result store
    #[command(
        subcommand,
        after_help = "\
Examples:
  drover queue stat            how full it is
  drover queue dump            what is in it, oldest first
  drover queue verify          whether all of it is sound"
    )]
    Queue(QueueCommand),
}

#[derive(Debug, Subcommand)]
enum QueueCommand {
    /// Show how full it is
    #[command(after_help = "\
Example:
  drover queue stat")]
    Stat,
    /// Show what is in it, oldest first
    #[command(after_help = "\
Examples:
  drover queue dump --limit 20
  drover queue dump --from 812345
  drover queue dump --quarantined   damaged records that were set aside, and why")]
    Dump {
        /// Show the damaged records that were set aside instead
        #[arg(long)]
        quarantined: bool,
        /// Begin at this log number
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Most records
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Read all of it, and say whether it is sound: exit status 1 if a record is damaged
    #[command(after_help = "\
The pages of its file are looked over while no master runs on it; records always are. A damaged
record blocks nothing: the master sets it aside when it comes to it.

Examples:
  drover queue verify
  drover queue verify --json | jq .damaged")]
    Verify,
}

/// Reads a command line, the first word of which is the program's name. What is wrong with it
/// is printed here, as are help and version.
///
/// # Errors
/// The exit status: 0 after help and version.
pub fn parse<C: Parser>(args: impl IntoIterator<Item = OsString>) -> Result<C, ExitCode> {
    C::try_parse_from(args).map_err(|error| {
        let said = error.source().map(ToString::to_string).unwrap_or_default();
        // There is nowhere left to tell that this cannot be printed.
        let _ = match number_words(&said) {
            Some(words) => {
                io::stderr().write_all(error.to_string().replace(&said, words).as_bytes())
            }
            None => error.print(),
        };
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8))
    })
}

/// Runs the program with these arguments, the first of which is its own name.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli: Cli = match parse(args) {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    let context = Context {
        config_path: cli
            .config
            .or_else(|| std::env::var_os("DROVER_CONFIG").filter(|v| !v.is_empty()).map(Into::into))
            .unwrap_or_else(|| "master.toml".into()),
        json: cli.json,
        paint: Paint::for_stdout(),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let ended = run(cli.command, &context, &mut out)
        .and_then(|exit| out.flush().map(|()| exit).map_err(Failure::from));
    let exit = match ended {
        Ok(exit) => exit,
        Err(failure) => {
            // What was printed before the failure is worth reading.
            let _ = out.flush();
            if failure.exit != Exit::Done {
                let _ = writeln!(io::stderr(), "drover: {failure}");
            }
            failure.exit
        }
    };
    ExitCode::from(exit as u8)
}

fn run(command: Command, context: &Context, out: &mut dyn Write) -> Result<Exit, Failure> {
    let now = engine::clock::wall();
    match command {
        Command::Init { dir, site } => site::init(context, &InitArgs { dir, site }, out),
        Command::Publish { site, dry_run, force, revision_min } => {
            let wish = site::PublishWish { site, dry_run, force, revision_min };
            site::publish(context, wish, now, out)
        }
        Command::Master { log, slow_disk: None } => master::run(context, log, &Direct),
        Command::Master { log, slow_disk: Some(delay) } => {
            master::run(context, log, &SlowDisk(delay))
        }
        Command::Push { selector } => push::run(context, &selector, out),
        Command::Status { counters } => status::run(context, counters, out),
        Command::Hosts { silent, failed } => hosts::run(context, silent, failed, now, out),
        Command::Reports { host, failed, limit, since } => {
            let since_ms = since.map(|since| {
                now.0.saturating_sub(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            });
            reports::list(context, &ReportsArgs { host, failed, limit, since_ms }, out)
        }
        Command::Report { id } => reports::one(context, id, out),
        Command::Ids => reports::ids(context, out),
        Command::Probe { host } => probe::run(context, &host, out),
        Command::Queue(QueueCommand::Stat) => queue::stat(context, now, out),
        Command::Queue(QueueCommand::Verify) => queue::verify(context, out),
        Command::Queue(QueueCommand::Dump { quarantined, from, limit }) => {
            queue::dump(context, quarantined, from, limit as usize, out)
        }
    }
}

#[cfg(test)]
mod tests;
