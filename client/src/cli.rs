//! The command line of `drover-client`.

mod status;

use crate::config::{CONFIG_PATH, Config};
use crate::daemon::{self, StatusFile};
use crate::enforcer::{Applier, EnforcerConfig, Scope};
use crate::executor::run::RunDone;
use crate::executor::stop::StopSwitch;
use crate::facts::Facts;
use crate::heap;
use crate::owner::Ownership;
use crate::policy::AssignedManifest;
use engine::blob::Cache as BlobCache;
use engine::logging::{printable_lines, to_stderr};
use engine::wire::message::{ResourceResult, outcome, trigger};
use lexopt::prelude::*;
use serde::Serialize;
use std::collections::BTreeSet;
use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
drover-client: keeps this machine as its site describes it

Usage:
  drover-client run    [--config FILE]            the daemon
  drover-client apply  --once [--dry-run] [...]   apply the last assignment, and end
  drover-client status [--json]                   whether the daemon runs, and what was applied
  drover-client facts  [--json]                   what this machine is
  drover-client COMMAND --help                    more, with examples
  drover-client --version

The configuration is /etc/drover/client.toml, unless --config names another.

Examples:
  drover-client run --config ./client.toml
  drover-client apply --once --dry-run
  drover-client status --json

Exit status: 0 done, 1 a resource failed, 2 wrong usage, or nothing could be done, 3 the daemon
does not run (status only).
";

const HELP_RUN: &str = "\
drover-client run: the daemon

Enforces the last accepted assignment and heals drift. SIGTERM lets what runs finish, within
stop_timeout of the configuration; a second one ends it.

  --config FILE   another configuration than /etc/drover/client.toml

Examples:
  drover-client run
  drover-client run --config ./client.toml
";

const HELP_APPLY: &str = "\
drover-client apply --once: apply the last accepted assignment, and end

For a machine on which the daemon does not run: beside it only --dry-run is allowed.

Exit status: 0 if no resource failed, 1 if one did, 2 if nothing could be applied.

  --once          needed: without a daemon nothing is applied twice
  --dry-run       write nothing; show what would change, as a unified diff
  --parallel N    resources at once (default: processors); 1: one after another, in order
  --root DIR      all paths are inside DIR
  --json          for programs
  --config FILE   another configuration than /etc/drover/client.toml

Examples:
  drover-client apply --once --dry-run
  drover-client apply --once --root /tmp/try --parallel 1
  drover-client apply --once --json | jq '.results[] | select(.outcome == \"failed\")'
";

const HELP_STATUS: &str = "\
drover-client status: whether the daemon runs, and what was applied

Asks the running daemon; if there is none, it says so and shows what the last one left behind:
the last run, and how many reports wait on the disk.

Exit status: 0 the daemon runs, 3 it does not run or does not answer, 2 nothing could be read.

  --json          for programs
  --config FILE   another configuration than /etc/drover/client.toml

Examples:
  drover-client status
  drover-client status --json | jq .outbox.records
";

const HELP_FACTS: &str = "\
drover-client facts: what this machine is

  --json   for programs

Examples:
  drover-client facts
  drover-client facts --json | jq .memory_mb
";

/// What failed before anything was done.
const EXIT_UNUSABLE: u8 = 2;
/// No daemon answers.
const EXIT_NOT_RUNNING: u8 = 3;

type CliResult<T> = Result<T, Box<dyn Error>>;

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    command: Option<String>,
    config: Option<PathBuf>,
    root: Option<PathBuf>,
    parallel: Option<usize>,
    once: bool,
    dry_run: bool,
    json: bool,
    help: bool,
    version: bool,
}

impl Options {
    fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, lexopt::Error> {
        let mut parser = lexopt::Parser::from_args(arguments);
        let mut options = Self::default();
        while let Some(argument) = parser.next()? {
            let command = options.command.clone().unwrap_or_default();
            match (command.as_str(), argument) {
                ("", Value(help)) if help == "help" => options.help = true,
                ("", Value(command)) => options.command = Some(known_command(command.string()?)?),
                (_, Short('h') | Long("help")) => options.help = true,
                ("", Short('V') | Long("version")) => options.version = true,
                ("run" | "apply" | "status", Long("config")) => {
                    options.config = Some(parser.value()?.into());
                }
                ("apply", Long("once")) => options.once = true,
                ("apply", Long("dry-run")) => options.dry_run = true,
                ("apply", Long("root")) => options.root = Some(parser.value()?.into()),
                ("apply", Long("parallel")) => {
                    options.parallel = Some(parser.value()?.parse_with(|t| match t.parse() {
                        Ok(0) => Err("write 1 or more".to_owned()),
                        Ok(n) => Ok(n),
                        Err(_) => Err("write a number".to_owned()),
                    })?);
                }
                ("apply" | "status" | "facts", Long("json")) => options.json = true,
                (_, argument) => {
                    let error = argument.unexpected();
                    return Err(format!("{error}; see drover-client {command} --help").into());
                }
            }
        }
        Ok(options)
    }

    fn read_config(&self) -> CliResult<Config> {
        let path = self.config.clone().unwrap_or_else(|| CONFIG_PATH.into());
        let mut config = Config::read(&path)?;
        if let Some(root) = &self.root {
            config.root = std::path::absolute(root)?;
        }
        config.parallel = self.parallel.unwrap_or(config.parallel);
        Ok(config)
    }
}

fn known_command(command: String) -> Result<String, lexopt::Error> {
    match command.as_str() {
        "run" | "apply" | "status" | "facts" => Ok(command),
        _ => Err(format!(
            "there is no command {command:?}; there are run, apply, status and facts (see --help)"
        )
        .into()),
    }
}

/// Runs a command line, the program's name left out.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let done = Options::parse(arguments).map_err(Into::into).and_then(|o| dispatch(&o));
    match done {
        Ok(code) => code,
        // Whoever reads our output has read enough.
        Err(e) if is_broken_pipe(&*e) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("drover-client: {e}");
            ExitCode::from(EXIT_UNUSABLE)
        }
    }
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn dispatch(options: &Options) -> CliResult<ExitCode> {
    let command = options.command.as_deref();
    if options.help {
        let help = match command {
            Some("run") => HELP_RUN,
            Some("apply") => HELP_APPLY,
            Some("status") => HELP_STATUS,
            Some("facts") => HELP_FACTS,
            _ => HELP,
        };
        io::stdout().write_all(help.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.version {
        writeln!(io::stdout(), "drover-client {}", daemon::VERSION)?;
        return Ok(ExitCode::SUCCESS);
    }
    match command {
        Some("run") => {
            let config = options.read_config()?;
            to_stderr(config.log_level.into());
            heap::share();
            daemon::run(&config)?;
            Ok(ExitCode::SUCCESS)
        }
        Some("apply") => apply(options),
        Some("status") => status::run(options),
        Some("facts") => {
            let facts = Facts::read();
            let text = match options.json {
                true => serde_json::to_string_pretty(&facts)? + "\n",
                false => facts.to_text(),
            };
            io::stdout().write_all(text.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        _ => Err("name a command: run, apply, status or facts (see --help)".into()),
    }
}

fn apply(options: &Options) -> CliResult<ExitCode> {
    if !options.once {
        return Err("write `apply --once`; `run` is what applies again and again".into());
    }
    let config = options.read_config()?;
    to_stderr(log::LevelFilter::Warn);
    // Who has none has no cache either.
    config.stored_assignment()?;
    let _owner = match options.dry_run {
        true => None,
        false => Some(Ownership::take(&config)?),
    };
    let hold = BlobCache::open(&config.cache_dir(), config.fsync).and_then(|cache| cache.hold());
    let _hold = match hold {
        // A dry run writes nothing, also for those who may not.
        Err(_) if options.dry_run => None,
        hold => Some(hold?),
    };
    // What this one needs is not collected any more, whatever the daemon takes on meanwhile.
    let assignment = config.stored_assignment()?;
    let applier = Applier::new(EnforcerConfig::from(&config));
    let ready = applier.prepare(&AssignedManifest::find(applier.cache(), &assignment)?)?;
    let scope = Scope {
        selected: None,
        blocked: &BTreeSet::new(),
        parallel: config.parallel,
        dry_run: options.dry_run,
        trigger: trigger::COMMAND,
        is_superseded: &|| false,
    };
    let switch = StopSwitch::new()?;
    let done = switch
        .under_signals(config.stop_timeout, || applier.run(&ready, &scope, &switch, &|_| {}))?;
    if !options.dry_run {
        let file = StatusFile::of(&config);
        let before = file.read().ok().flatten().unwrap_or_default();
        let left = before.after(&done.report, done.is_converged(), done.to_end);
        if let Err(error) = file.write(&left) {
            // What was done is told all the same.
            log::warn!("cannot write the status file: {error}");
        }
    }
    let text = match options.json {
        true => serde_json::to_string_pretty(&ReportView::of(&done))? + "\n",
        false => to_text(&done, options.dry_run),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(match done.is_converged() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// A report as JSON shows it.
#[derive(Debug, Serialize)]
struct ReportView<'a> {
    revision: u64,
    duration_us: u64,
    checked: u32,
    unchanged: usize,
    changed: usize,
    failed: usize,
    skipped: usize,
    interrupted: usize,
    note: &'a str,
    results: Vec<ResultView<'a>>,
    diffs: &'a [String],
}

#[derive(Debug, Serialize)]
struct ResultView<'a> {
    id: String,
    outcome: &'static str,
    before: &'a str,
    after: &'a str,
    error: &'a str,
    duration_us: u64,
    output: String,
}

impl<'a> ReportView<'a> {
    fn of(done: &'a RunDone) -> Self {
        let report = &done.report;
        let view = |r: &'a ResourceResult| ResultView {
            id: String::from_utf8_lossy(&r.id).into_owned(),
            outcome: outcome::name(r.outcome),
            before: &r.before,
            after: &r.after,
            error: &r.error,
            duration_us: r.duration_us,
            output: String::from_utf8_lossy(&r.output).into_owned(),
        };
        Self {
            revision: report.revision,
            duration_us: report.duration_us,
            checked: report.checked,
            unchanged: done.count(outcome::UNCHANGED),
            changed: done.count(outcome::CHANGED),
            failed: done.count(outcome::FAILED),
            skipped: done.count(outcome::SKIPPED),
            interrupted: done.count(outcome::INTERRUPTED),
            note: &report.note,
            results: report.results.iter().map(view).collect(),
            diffs: &done.diffs,
        }
    }
}

fn to_text(done: &RunDone, dry_run: bool) -> String {
    let mut text: String = done.diffs.iter().map(|d| printable_lines(d)).collect();
    for result in &done.report.results {
        let id = String::from_utf8_lossy(&result.id);
        let what = match result.error.is_empty() {
            true => format!("{} -> {}", result.before, result.after),
            false => result.error.clone(),
        };
        let name = match (dry_run, outcome::name(result.outcome)) {
            (true, "changed") => "would change",
            (_, name) => name,
        };
        text += &printable_lines(&format!("{name:<12} {id}: {what}\n"));
        if result.outcome == outcome::FAILED && !result.output.is_empty() {
            let output = printable_lines(&String::from_utf8_lossy(&result.output));
            text.extend(output.lines().map(|l| format!("             | {l}\n")));
        }
    }
    if !done.report.note.is_empty() {
        text += &format!("{}\n", done.report.note);
    }
    let count = |o| done.count(o);
    text + &format!(
        "revision {}: {} resources, {} unchanged, {} {}, {} failed, {} skipped, {} ms\n",
        done.report.revision,
        done.report.checked,
        count(outcome::UNCHANGED),
        count(outcome::CHANGED),
        if dry_run { "would change" } else { "changed" },
        count(outcome::FAILED) + count(outcome::INTERRUPTED),
        count(outcome::SKIPPED),
        done.report.duration_us / 1000,
    )
}

#[cfg(test)]
mod tests;
