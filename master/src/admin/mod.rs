//! The control verbs that the result store answers: their arguments become a [`Query`], its
//! [`Answer`] becomes the body of a `ControlResp`. The daemon carries both to and from the
//! sink's thread; it answers all other verbs itself.

use crate::control::{ControlError, HostsArgs, IdsArgs, ReportArgs, ReportsArgs, verb};
use crate::sink::{Answer, Query, SinkError};
use engine::ids::HostName;
use engine::time::WallMs;
use engine::wire::message::ControlResp;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The question behind a verb and its arguments; `None` if the daemon answers this verb
/// itself. Hosts last heard before `silent_before` are silent.
#[must_use]
pub fn query(
    verb: &str,
    arguments: &[u8],
    silent_before: WallMs,
) -> Option<Result<Query, ControlError>> {
    Some(match verb {
        verb::HOSTS => parse(verb, arguments).map(|HostsArgs { silent, after }| Query::Hosts {
            silent_before,
            silent_only: silent,
            after,
        }),
        verb::REPORTS => parse(verb, arguments).and_then(reports),
        verb::REPORT => parse(verb, arguments).map(|ReportArgs { id }| Query::Report { id }),
        verb::IDS => parse(verb, arguments).map(|IdsArgs { after }| Query::Ids { after }),
        _ => return None,
    })
}

/// Reads a verb's arguments.
///
/// # Errors
/// They are not the JSON that the verb takes.
pub fn parse<T: DeserializeOwned>(verb: &str, arguments: &[u8]) -> Result<T, ControlError> {
    serde_json::from_slice(arguments).map_err(|e| {
        ControlError::new(
            format!("the arguments of `{verb}` cannot be read: {e}"),
            "drover and the running master may be of different versions: restart the master",
        )
    })
}

/// A host's name is compared as the store has it: in lower case.
fn reports(mut args: ReportsArgs) -> Result<Query, ControlError> {
    if let Some(host) = &mut args.host {
        let name: HostName = host.parse().map_err(|e| ControlError::new(format!("{e}"), ""))?;
        name.as_str().clone_into(host);
    }
    Ok(Query::Reports(args))
}

/// The only piece of an answer from the result store.
#[must_use]
pub fn response(answer: &Result<Answer, SinkError>) -> ControlResp {
    match answer {
        Ok(Answer::Hosts(page)) => piece(page, true),
        Ok(Answer::Reports(page)) => piece(page, true),
        Ok(Answer::NoSuchHost(host)) => refusal(&ControlError::new(
            format!("no host {host} is known"),
            "`drover hosts` lists the hosts that are known",
        )),
        Ok(Answer::Ids(page)) => piece(page, true),
        Ok(Answer::Report(Some(detail))) => piece(detail, true),
        Ok(Answer::Report(None)) => refusal(&ControlError::new(
            "there is no report of this number",
            "`drover reports` lists them; old ones are removed after keep_days",
        )),
        // No verb asks for them alone: they are part of the daemon's own answer to `status`.
        Ok(Answer::Counts(counts)) => piece(&counts.warnings(), true),
        Err(error) => refusal(&ControlError::new(error.to_string(), "")),
    }
}

/// A piece of a good answer.
///
/// # Panics
/// Never: what is answered has text keys only.
#[must_use]
pub fn piece(body: &impl Serialize, last: bool) -> ControlResp {
    let body = serde_json::to_vec(body).expect("answers have text keys only");
    ControlResp { last, ok: true, body }
}

/// The last piece of an answer that says no.
#[must_use]
pub fn refusal(error: &ControlError) -> ControlResp {
    ControlResp { ok: false, ..piece(error, true) }
}

#[cfg(test)]
mod tests;
