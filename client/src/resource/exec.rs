//! Commands, and the conditions under which they run.

use super::{Change, Context, ExecSpec, ResourceError, Settled};
use crate::provider::command::{Command, CommandDone, CommandEnd};
use crate::provider::rooted::{PathError, shown};

fn in_words(end: CommandEnd) -> String {
    match end {
        CommandEnd::Exited(code) => format!("ended with exit status {code}"),
        CommandEnd::Killed(signal) => format!("was ended by signal {signal}"),
        CommandEnd::TimedOut => "took longer than its timeout, and was ended".to_owned(),
        CommandEnd::Interrupted => "was interrupted".to_owned(),
    }
}

impl ExecSpec {
    fn run(&self, context: &Context<'_>, argv: &[Vec<u8>]) -> Result<CommandDone, ResourceError> {
        let command =
            Command { argv, cwd: self.cwd.as_deref(), env: &self.env, timeout: self.timeout };
        let done = command.run(context.stop).map_err(|source| ResourceError::CommandStart {
            program: argv.first().map(|p| shown(p)).unwrap_or_default(),
            source,
        })?;
        match done.end {
            CommandEnd::Interrupted => Err(ResourceError::Interrupted { output: done.output }),
            _ => Ok(done),
        }
    }

    /// Whether a condition's command succeeds. One that does not come to an end of its own has
    /// no answer.
    fn succeeds(
        &self,
        context: &Context<'_>,
        what: &'static str,
        argv: &[Vec<u8>],
    ) -> Result<bool, ResourceError> {
        let done = self.run(context, argv)?;
        match done.end {
            CommandEnd::Exited(code) => Ok(code == 0),
            end => Err(ResourceError::CommandEnd { what, end: in_words(end), output: done.output }),
        }
    }

    fn is_due(&self, context: &Context<'_>) -> Result<bool, ResourceError> {
        if let Some(path) = &self.creates {
            let exists = match context.root.parent(path) {
                Ok((directory, name)) => directory.stat(name)?.is_some(),
                Err(PathError::NoParent { .. } | PathError::NotDirectory { .. }) => false,
                Err(e) => return Err(e.into()),
            };
            if exists {
                return Ok(false);
            }
        }
        if !self.only_if.is_empty() && !self.succeeds(context, "only_if", &self.only_if)? {
            return Ok(false);
        }
        Ok(self.unless.is_empty() || !self.succeeds(context, "unless", &self.unless)?)
    }
}

pub(super) fn settle(context: &Context<'_>, spec: &ExecSpec) -> Result<Settled, ResourceError> {
    if !context.root.is_system() && !context.allow_exec {
        let why = "commands do not run below a root directory; set allow_exec = true to let them";
        return Ok(Settled::Skipped(why.to_owned()));
    }
    if !spec.is_due(context)? {
        return Ok(Settled::Unchanged);
    }
    let words: Vec<String> = spec.command.iter().map(|w| shown(w)).collect();
    let before = "not run".to_owned();
    if context.dry_run {
        let diff = format!("would run {words:?}\n");
        return Ok(Settled::Changed(Change {
            before,
            after: "run".to_owned(),
            diff,
            ..Change::default()
        }));
    }
    let done = spec.run(context, &spec.command)?;
    if done.end != CommandEnd::Exited(0) {
        let end = in_words(done.end);
        return Err(ResourceError::CommandEnd { what: "the command", end, output: done.output });
    }
    let after = in_words(done.end);
    Ok(Settled::Changed(Change { before, after, output: done.output, diff: String::new() }))
}
