//! `drover probe`: the way to one host, step by step, so that the step that fails has a name.

use super::hosts::ahead;
use crate::control::{ProbeStep, Probed};
use engine::delivery::ExchangeId;
use engine::ids::{ConnId, HostName, Revision};
use engine::node::ExchangeFailure;
use engine::node::io::{CloseReason, ResolveError};
use engine::wire::message::StatusResp;
use engine::wire::{Frame, access};
use std::net::SocketAddr;
use std::time::Duration;

/// How long the dial, and then the answer, may take.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// A probe under way.
#[derive(Debug)]
pub struct Probe {
    /// The operator's connection.
    pub conn: ConnId,
    /// The host.
    pub host: HostName,
    /// Its request, once it has an address.
    pub exchange: Option<ExchangeId>,
    steps: Vec<ProbeStep>,
}

impl Probe {
    /// A probe that awaits its name's addresses.
    #[must_use]
    pub fn new(conn: ConnId, host: HostName) -> Self {
        Self { conn, host, exchange: None, steps: Vec::new() }
    }

    fn step(&mut self, name: &str, ok: bool, detail: String) {
        self.steps.push(ProbeStep { name: name.to_owned(), ok, detail });
    }

    /// The name service has answered; the address to dial.
    pub fn resolved(
        &mut self,
        answer: &Result<Vec<SocketAddr>, ResolveError>,
        port: u16,
    ) -> Option<SocketAddr> {
        match answer {
            Ok(found) => {
                let mut addr = *found.first()?;
                if addr.port() == 0 {
                    addr.set_port(port);
                }
                self.step("resolve", true, format!("{} is {addr}", self.host));
                Some(addr)
            }
            Err(error) => {
                let hint = "add it to the name service or to hosts_table";
                self.step("resolve", false, format!("{}: {error}; {hint}", self.host));
                None
            }
        }
    }

    /// The host has answered, or has not.
    pub fn answered(&mut self, response: Result<&[u8], ExchangeFailure>, published: Revision) {
        let bytes = match response {
            Ok(bytes) => bytes,
            Err(failure) => return self.unanswered(failure),
        };
        self.step("dial", true, "connected".to_owned());
        let frame = Frame::parse(bytes);
        let status = frame.as_ref().map_err(|e| *e).and_then(access::<StatusResp>);
        let status = match status {
            Ok(status) => status,
            Err(error) => {
                self.step(
                    "version",
                    false,
                    format!("it answers, but not as a Drover client: {error}"),
                );
                return;
            }
        };
        let name = status.name.as_str();
        let ours = env!("CARGO_PKG_VERSION");
        let version = format!(
            "{} {} runs there as {name}; this master is {ours}",
            status.role, status.version
        );
        self.step("version", name == self.host.as_str(), version);
        let held = Revision(status.revision.to_native());
        let detail = if held > published {
            ahead(held, published)
        } else if held < published {
            format!(
                "it holds revision {held}, published is {published}: `drover hosts` shows its last error, `drover push {}` offers it again",
                self.host
            )
        } else {
            format!("it holds revision {held}, as published")
        };
        self.step("revision", held == published, detail);
    }

    fn unanswered(&mut self, failure: ExchangeFailure) {
        let reason = match failure {
            ExchangeFailure::Response(reason) => reason,
            ExchangeFailure::Dial(reason) => {
                let hint = "is drover-client running there, and does a firewall let us through?";
                return self.step("dial", false, format!("{}; {hint}", reason.describe()));
            }
        };
        self.step("dial", true, "connected".to_owned());
        let detail = match reason {
            CloseReason::AnswerTimeout => format!(
                "no answer within {} s: drover-client hangs there, or another program has that port",
                TIMEOUT.as_secs()
            ),
            _ => {
                let why = reason.describe();
                format!("no answer: {why}; is it another program that has that port?")
            }
        };
        self.step("version", false, detail);
    }

    /// All steps so far: the answer.
    #[must_use]
    pub fn finish(self) -> Probed {
        Probed { steps: self.steps }
    }
}
