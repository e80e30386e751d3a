//! `drover probe HOST`.

use super::{Context, Exit, Failure, print_json};
use crate::control::{ProbeArgs, Probed, verb};
use crate::table::{Cell, Paint, Table, Tone};
use std::io::Write;

/// Tries the way to one host and prints each step; fails if one did.
///
/// # Errors
/// No answer from the daemon.
pub fn run(context: &Context, host: &str, out: &mut dyn Write) -> Result<Exit, Failure> {
    let probed: Probed = context.ask(verb::PROBE, &ProbeArgs { host: host.to_owned() })?;
    if context.json {
        print_json(out, &probed)?;
    } else {
        out.write_all(render(host, &probed, context.paint).as_bytes())?;
    }
    Ok(if probed.steps.iter().all(|step| step.ok) { Exit::Done } else { Exit::Failed })
}

/// The steps for people, and the one that failed by name.
#[must_use]
pub fn render(host: &str, probed: &Probed, paint: Paint) -> String {
    let mut table = Table::new(&["STEP", "", "DETAIL"]);
    for step in &probed.steps {
        let verdict =
            if step.ok { Cell::new("ok", Tone::Good) } else { Cell::new("failed", Tone::Bad) };
        table.row([Cell::from(&step.name), verdict, Cell::from(&step.detail)]);
    }
    let end = match probed.steps.iter().find(|step| !step.ok) {
        Some(step) if step.name == "revision" => {
            format!("{host} can be reached, and does not hold what is published: see `revision`\n")
        }
        Some(step) => format!("{host} cannot be reached: `{}` failed\n", step.name),
        None => format!("{host} can be reached\n"),
    };
    table.render(paint) + &end
}
