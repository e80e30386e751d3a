//! `drover push [SELECTOR]`, and the signal that cancels it.

use super::{Context, Exit, Failure, ProgressLine};
use crate::control::{self, CallError, PushArgs, PushPiece, PushProgress, PushResult, verb};
use crate::table::{Cell, Paint, Table, Tone};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Pushes, and prints progress until it has ended; Ctrl-C cancels it.
///
/// # Errors
/// No answer from the daemon, a selector that matches no host, or an interrupt.
pub fn run(context: &Context, selector: &str, out: &mut dyn Write) -> Result<Exit, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).map_err(|e| {
            Failure::new(format_args!("no signal handler can be set: {e}"), Exit::Failed)
        })?;
    }
    let config = context.config()?;
    let mut line = ProgressLine::new(context);
    let mut tenth = None;
    let mut result = None;
    let args = PushArgs { selector: selector.to_owned() };
    let called = control::call(&config.control_socket, verb::PUSH, &args, &interrupted, |piece| {
        let piece: PushPiece = serde_json::from_slice(piece)?;
        if context.json {
            serde_json::to_writer(&mut *out, &piece)?;
            writeln!(out).map_err(serde_json::Error::io)?;
        }
        match piece {
            PushPiece::Progress(state) if line.is_terminal() => line.show(&progress_text(state)),
            PushPiece::Progress(state) if !context.json => {
                // In a log, a line whenever another tenth is done.
                let now = (state.done + state.failed) * 10 / state.targets.max(1);
                if tenth.replace(now) != Some(now) {
                    let _ = writeln!(io::stderr(), "{}", progress_text(state));
                }
            }
            PushPiece::Progress(_) => {}
            PushPiece::Result(end) => result = Some(end),
        }
        Ok(())
    });
    line.clear();
    called.map_err(|e| match e {
        CallError::Interrupted => Failure::new(
            "interrupted: the push was cancelled; hosts not reached yet catch up at their next poll",
            Exit::Interrupted,
        ),
        e => context.call_failure(e),
    })?;
    let result = result.ok_or_else(|| context.call_failure(CallError::Closed))?;
    if !context.json {
        out.write_all(render(&result, context.paint).as_bytes())?;
    }
    Ok(exit(&result))
}

/// Partial, unless all hosts or none have their assignment.
#[must_use]
pub fn exit(result: &PushResult) -> Exit {
    match (result.done, result.failed) {
        (_, 0) => Exit::Done,
        (0, _) => Exit::Failed,
        _ => Exit::Partial,
    }
}

/// How a push ended, for people.
#[must_use]
pub fn render(result: &PushResult, paint: Paint) -> String {
    let mut text = String::new();
    if !result.failures.is_empty() {
        let mut table = Table::new(&["HOST", "REASON"]);
        for failure in &result.failures {
            table.row([Cell::from(&failure.host), Cell::new(&failure.reason, Tone::Bad)]);
        }
        text = table.render(paint);
        let unlisted = result.failed.saturating_sub(result.failures.len() as u64);
        if unlisted > 0 {
            text += &format!("and {unlisted} more\n");
        }
    }
    text + &format!(
        "revision {}: {} of {} hosts reached, {} failed\n",
        result.revision, result.done, result.targets, result.failed
    )
}

/// `[#####---------------] 25/100 hosts, 2 failed, 64 in flight`
fn progress_text(state: PushProgress) -> String {
    const WIDTH: u64 = 20;
    let ended = state.done + state.failed;
    let filled = (ended * WIDTH / state.targets.max(1)).min(WIDTH);
    format!(
        "[{}{}] {}/{} hosts, {} failed, {} in flight",
        "#".repeat(filled as usize),
        "-".repeat((WIDTH - filled) as usize),
        state.done,
        state.targets,
        state.failed,
        state.in_flight
    )
}
