//! A scenario as a file: phases on a timeline, in TOML.

mod keys;
mod sense;

use super::config::Bound;
use super::scenario::{Act, Against, PhaseConfig, Scenario, Until, pace_of};
use crate::clients::address::CLIENTS_MAX;
use crate::clients::work::{Churn, Goal, Pace, REPORT_BYTES_MAX, Reports, Work};
use crate::peers::BadPeers;
use engine::config::{DurationValue, Mistake, SizeValue};
use serde::Deserialize;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How long clients may take to reach a phase's goal, if nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioFile {
    name: String,
    clients: Option<u32>,
    seed: Option<u64>,
    #[serde(default)]
    phase: Vec<PhaseFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PhaseFile {
    name: String,
    #[serde(rename = "for")]
    length: Option<DurationValue>,
    timeout: Option<DurationValue>,
    #[serde(default = "yes")]
    judged: bool,
    active: Option<u32>,
    restart: Option<DurationValue>,
    #[serde(default = "yes")]
    backoff: bool,
    #[serde(default)]
    fetch: bool,
    polls: Option<PollsFile>,
    reports: Option<ReportsFile>,
    churn: Option<ChurnFile>,
    revision: Option<u64>,
    #[serde(default)]
    newer: bool,
    #[serde(default)]
    master: Vec<ActFile>,
    kill_master: Option<DurationValue>,
    #[serde(default)]
    bad_peers: Vec<String>,
    bound: Option<Bound>,
    against: Option<AgainstFile>,
    warm_up: Option<DurationValue>,
    cool_down: Option<DurationValue>,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PollsFile {
    every: Option<DurationValue>,
    within: Option<DurationValue>,
    #[serde(default)]
    random: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReportsFile {
    rate: u32,
    #[serde(default = "one")]
    burst: u32,
    size: Option<SizeValue>,
    #[serde(default)]
    failed_percent: f64,
    #[serde(default)]
    random: bool,
}

fn one() -> u32 {
    1
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChurnFile {
    percent_per_minute: f64,
    away: DurationValue,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ActFile {
    at: DurationValue,
    publish: Option<SizeValue>,
    #[serde(default)]
    restart: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgainstFile {
    phase: String,
    factor: f64,
}

/// A scenario, and what its file says of who plays it.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// What happens.
    pub scenario: Scenario,
    /// How many clients.
    pub clients: u32,
    /// Decides the order of the slots.
    pub seed: Option<u64>,
}

impl Script {
    /// Reads a file. `clients` are those of the command line, which are preferred.
    ///
    /// # Errors
    /// What is wrong in it, where, and what to write instead.
    pub fn read(path: &Path, clients: Option<u32>, clients_default: u32) -> Result<Self, String> {
        let at = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|error| at(&error))?;
        Self::parse(&text, clients, clients_default).map_err(|error| at(&error))
    }

    fn parse(text: &str, clients: Option<u32>, clients_default: u32) -> Result<Self, String> {
        let file: ScenarioFile = toml::from_str(text)
            .map_err(|error| format!("line {}", Mistake::of(&error, text, &keys::KEYS)))?;
        if file.clients.is_some_and(|clients| !(1..=CLIENTS_MAX).contains(&clients)) {
            return Err(format!("clients: write a number from 1 to {CLIENTS_MAX}"));
        }
        let clients = clients.or(file.clients).unwrap_or(clients_default);
        if file.phase.is_empty() {
            return Err("a scenario needs at least one [[phase]]".to_owned());
        }
        let mut phases: Vec<PhaseConfig> = Vec::new();
        for phase in file.phase {
            let name = phase.name.clone();
            let wrong = |error: String| format!("phase {name:?}: {error}");
            if phases.iter().any(|earlier| earlier.name == phase.name) {
                return Err(wrong(
                    "there is one of this name before; reports tell them by it".into(),
                ));
            }
            let against = phase.against.as_ref().map(|against| &against.phase);
            if let Some(other) = against
                && !phases.iter().any(|earlier| earlier.name == *other)
            {
                return Err(wrong(format!("against: there is no phase {other:?} before it")));
            }
            phases.push(phase.config(clients).map_err(wrong)?);
        }
        sense::check(&phases)?;
        if !phases.iter().any(|phase| phase.judged) {
            return Err("no phase is judged: leave `judged = false` out of one".to_owned());
        }
        Ok(Self { scenario: Scenario { name: file.name, phases }, clients, seed: file.seed })
    }
}

impl PhaseFile {
    fn config(self, clients: u32) -> Result<PhaseConfig, String> {
        let named = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.name.is_empty() || !self.name.chars().all(named) {
            return Err("a name has letters, digits, `-` and `_`".to_owned());
        }
        let timeout = positive("timeout", self.timeout)?.unwrap_or(TIMEOUT);
        let length = positive("for", self.length)?;
        let kill_every = positive("kill_master", self.kill_master)?;
        let polls = self.polls.map(|polls| Pace {
            window: polls.within.or(polls.every).map_or(Duration::ZERO, |window| window.0),
            interval: polls.every.map(|every| every.0),
            random: polls.random,
        });
        if polls.is_some_and(|pace| pace.interval == Some(Duration::ZERO)) {
            return Err("polls: `every` cannot be zero".to_owned());
        }
        let active = self.active.unwrap_or(clients);
        if active == 0 || active > clients {
            return Err(format!(
                "active: write a number from 1 to {clients}, which are all clients"
            ));
        }
        let reports = self.reports.map(|reports| reports.config(active)).transpose()?;
        let churn = self.churn.map(ChurnFile::config).transpose()?;
        let restart = self.restart.map(|restart| restart.0);
        let work = Work {
            active: self.active,
            length: length.unwrap_or_else(|| restart.unwrap_or_default().saturating_add(timeout)),
            restart,
            backoff: self.backoff,
            polls,
            reports,
            fetch: self.fetch,
            churn,
            goal: self.revision.map_or(Goal::Settled, Goal::Revision),
        };
        let acts = self.master.into_iter().map(ActFile::config).collect::<Result<Vec<_>, _>>()?;
        if !acts.is_sorted_by_key(|(at, _)| *at) {
            return Err("master: write what is done in the order of its times".to_owned());
        }
        let bad_peers = self.bad_peers.iter().map(|text| BadPeers::parse(text));
        Ok(PhaseConfig {
            name: self.name,
            work,
            newer: self.newer,
            until: match length {
                Some(_) => Until::Over(timeout),
                None => Until::Done(timeout),
            },
            acts,
            kill_every,
            bad_peers: bad_peers.collect::<Result<_, _>>()?,
            bound: self.bound,
            against: self
                .against
                .map(|against| Against { phase: against.phase, factor: against.factor }),
            warm_up: self.warm_up.map_or(Duration::ZERO, |warm_up| warm_up.0),
            cool_down: self.cool_down.map(|cool_down| cool_down.0),
            judged: self.judged,
        })
    }
}

impl ReportsFile {
    /// `rate` is that of all clients that take part together.
    fn config(self, active: u32) -> Result<Reports, String> {
        if self.rate == 0 || self.burst == 0 {
            return Err("reports: `rate` and `burst` are at least 1".to_owned());
        }
        Ok(Reports {
            pace: Pace { random: self.random, ..pace_of(active, self.rate, self.burst) },
            burst: self.burst,
            bytes: self.size.map_or(Ok(0), |size| report_bytes(size.0))?,
            failed_permille: permille(self.failed_percent)?,
        })
    }
}

impl ChurnFile {
    fn config(self) -> Result<Churn, String> {
        let permille = permille(self.percent_per_minute)?.into();
        Ok(Churn { permille, away: self.away.0 })
    }
}

impl ActFile {
    fn config(self) -> Result<(Duration, Act), String> {
        match (self.publish, self.restart) {
            (Some(bytes), false) => Ok((self.at.0, Act::Publish { bytes: bytes.0 })),
            (None, true) => Ok((self.at.0, Act::Restart)),
            _ => Err("master: write either `publish = \"4MiB\"` or `restart = true`".to_owned()),
        }
    }
}

/// A duration that cannot be zero, as on the command line.
fn positive(key: &str, value: Option<DurationValue>) -> Result<Option<Duration>, String> {
    match value {
        Some(DurationValue(Duration::ZERO)) => {
            Err(format!("{key}: this cannot be zero; write 1ms or more"))
        }
        other => Ok(other.map(|value| value.0)),
    }
}

/// Bytes that a report's output may have.
///
/// # Errors
/// They are too many for one frame.
pub fn report_bytes(size: u64) -> Result<u32, String> {
    u32::try_from(size)
        .ok()
        .filter(|size| *size <= REPORT_BYTES_MAX)
        .ok_or_else(|| format!("a report has at most {REPORT_BYTES_MAX} bytes"))
}

/// Percent, as parts of a thousand.
///
/// # Errors
/// It is no part.
pub fn permille(percent: f64) -> Result<u16, String> {
    if !(0.0..=100.0).contains(&percent) {
        return Err(format!("{percent} is no part of a hundred: write 0 to 100"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
    let permille = (percent * 10.0).round() as u16;
    Ok(permille)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::Badness;
    use engine::config::What;

    const S: Duration = Duration::from_secs(1);

    fn parse(text: &str) -> Result<Script, String> {
        Script::parse(text, None, 1000)
    }

    #[test]
    fn a_file_says_all_that_a_phase_can_be() {
        let script = parse(
            r#"
            name = "evening"
            clients = 2000
            seed = 7

            [[phase]]
            name = "bind"
            judged = false
            restart = "2s"
            polls = { within = "2s" }
            revision = 1

            [[phase]]
            name = "flood"
            for = "30s"
            timeout = "5s"
            polls = { every = "60s", random = true }
            reports = { rate = 4000, burst = 2, size = "2KiB", failed_percent = 2.5 }
            churn = { percent_per_minute = 10, away = "3s" }
            newer = true
            master = [{ at = "5s", publish = "1MiB" }, { at = "20s", restart = true }]
            bad_peers = ["slow-reader=20@0"]
            bound = "p99=1s"
            against = { phase = "bind", factor = 3 }
            warm_up = "5s"
            cool_down = "1s"
            "#,
        )
        .unwrap();
        assert_eq!((script.clients, script.seed), (2000, Some(7)));
        let [bind, flood] = &script.scenario.phases[..] else { panic!("{script:?}") };
        assert_eq!((bind.until, bind.work.restart), (Until::Done(TIMEOUT), Some(2 * S)));
        assert_eq!(bind.work.polls, Some(Pace::once(2 * S)));
        assert_eq!(flood.until, Until::Over(5 * S));
        let reports = flood.work.reports.unwrap();
        assert_eq!((reports.pace.interval, reports.bytes), (Some(S), 2048));
        assert_eq!((reports.burst, reports.failed_permille), (2, 25));
        assert_eq!(flood.work.churn, Some(Churn { permille: 100, away: 3 * S }));
        assert_eq!(flood.acts, [(5 * S, Act::Publish { bytes: 1 << 20 }), (20 * S, Act::Restart)]);
        let never = BadPeers { rate: 0, ..BadPeers::new(Badness::SlowReader, 20) };
        assert_eq!(flood.bad_peers, [never]);
        assert_eq!((flood.parts().warm_up, flood.parts().cool_down_at), (5, Some(29)));
        assert_eq!(
            Script::parse("name = 'x'\n[[phase]]\nname = 'a'\npolls = {}", Some(5), 9)
                .unwrap()
                .clients,
            5
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, told) in [
            ("", "the key `name` is missing"),
            ("name = 'x'", "at least one [[phase]]"),
            ("name = 'x'\n[[phase]]\nname = 'a b'", "phase \"a b\": a name has letters"),
            (
                "name = 'x'\n[[phase]]\nname = 'a'\nfro = '1s'",
                "line 4: unknown key `fro`: did you mean `for`?",
            ),
            ("name = 'x'\n[[phase]]\nname = 'a'\nfor = '1'", "line 4: phase.for: "),
            (
                "clients = -1",
                "line 1: clients = -1: expected a whole number, 1 to 1000000, such as 2000",
            ),
            ("name = 'x'\nclients = 0", "clients: write a number from 1 to 1000000"),
            ("name = 'x'\nclients = 1000001", "clients: write a number from 1 to 1000000"),
            ("name = 'x'\nclients = 99999999", "clients: write a number from 1 to 1000000"),
            (
                "name = 'x'\n[[phase]]\nname = 'a'\nkill_master = '0s'",
                "phase \"a\": kill_master: this cannot be zero; write 1ms or more",
            ),
            ("name = 'x'\n[[phase]]\nname = 'a'\nfor = '0s'", "for: this cannot be zero"),
            ("name = 'x'\n[[phase]]\nname = 'a'\ntimeout = '0s'", "timeout: this cannot be zero"),
            (
                "name = 'x'\n[[phase]]\nname = 'a'\nreports = { rate = 'x' }",
                "line 4: phase.reports.rate = 'x': expected a whole number",
            ),
            ("name = 'x'\n[[phase]]\nname = 'a'\npolls = {}\njudged = false", "no phase is judged"),
            ("name = 'x'\n[[phase]]\nname = 'a'\n[[phase]]\nname = 'a'", "one of this name"),
            ("name = 'x'\n[[phase]]\nname = 'a'", "phase \"a\": nothing happens in it: "),
            ("name = 'x'\n[[phase]]\nname = 'a'\nbound = 'fast'", "p99=1s"),
            ("name = 'x'\n[[phase]]\nname = 'a'\nbad_peers = ['x']", "KIND=NUMBER"),
            ("name = 'x'\n[[phase]]\nname = 'a'\nreports = { rate = 0 }", "at least 1"),
            ("name = 'x'\n[[phase]]\nname = 'a'\npolls = { every = '0s' }", "cannot be zero"),
            ("name = 'x'\n[[phase]]\nname = 'a'\nmaster = [{ at = '1s' }]", "either `publish"),
            (
                "name = 'x'\n[[phase]]\nname = 'a'\nagainst = { phase = 'b', factor = 2 }",
                "no phase \"b\" before it",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(told), "{text:?}: {error}");
        }
    }

    #[test]
    fn every_key_says_what_it_takes() {
        let mistake = |text: &str| {
            let error = toml::from_str::<ScenarioFile>(text).unwrap_err();
            Mistake::of(&error, text, &keys::KEYS)
        };
        // The tables, each with what must stand in it beside a key that is looked at.
        let tables = [
            ("", "", "name = 'x'\n", ""),
            ("phase.", "name = 'x'\n[[phase]]\n", "name = 'a'\n", ""),
            ("phase.polls.", "name = 'x'\n[[phase]]\nname = 'a'\npolls = {", "", "}"),
            ("phase.reports.", "name = 'x'\n[[phase]]\nname = 'a'\nreports = {", "rate = 1,", "}"),
            (
                "phase.churn.",
                "name = 'x'\n[[phase]]\nname = 'a'\nchurn = {",
                "percent_per_minute = 1, away = '1s',",
                "}",
            ),
            ("phase.master.", "name = 'x'\n[[phase]]\nname = 'a'\nmaster = [{", "at = '1s',", "}]"),
            (
                "phase.against.",
                "name = 'x'\n[[phase]]\nname = 'a'\nagainst = {",
                "phase = 'a', factor = 1,",
                "}",
            ),
        ];
        let mut read = Vec::new();
        for (prefix, before, beside, after) in tables {
            let said = mistake(&format!("{before}{beside} zz = 1 {after}"));
            let What::UnknownKey { known, .. } = *said.what else { panic!("{said}") };
            for name in known {
                let name = format!("{prefix}{name}");
                read.push(name.clone());
                let key = keys::KEYS.iter().find(|key| key.name == name);
                let key = key.unwrap_or_else(|| panic!("{name} is not listed"));
                let last = name.rsplit('.').next().unwrap();
                // What no key takes, and no table.
                let said = mistake(&format!("{before}{last} = [[]] {after}")).to_string();
                let expected = format!("expected {}, such as {}", key.expects, key.example);
                assert!(said.contains(&name) && said.ends_with(&expected), "{said}");
            }
        }
        assert_eq!(read.len(), keys::KEYS.len());
    }
}
