//! The operator's commands: asked on the control socket, answered there.

use super::super::probe::Probe;
use super::super::push::Push;
use super::super::status;
use super::{Cx, Effect, MasterRole};
use crate::admin;
use crate::control::{ControlError, NoArgs, ProbeArgs, PublishedArgs, PushArgs, PushPiece, verb};
use crate::sink::Query;
use engine::ids::{ConnId, HostName, Revision};
use engine::release::Pattern;
use engine::wire::message::ControlReq;
use engine::wire::{Frame, access};
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Duration;

/// An operator's connection waits this long for its answer.
const ANSWER_WAIT: Duration = Duration::from_secs(600);

impl MasterRole {
    fn query(&mut self, conn: ConnId, query: Query, cx: &mut Cx<'_>) {
        // What was learned of hosts belongs into the answer.
        self.tell_hosts(cx);
        let id = self.next_query;
        self.next_query += 1;
        self.queries.insert(id, conn);
        cx.effect(Effect::Query { id, query });
    }

    pub(super) fn on_control(
        &mut self,
        conn: ConnId,
        frame: &Frame<'_>,
        cx: &mut Cx<'_>,
    ) -> Option<()> {
        let request = access::<ControlReq>(frame).ok()?;
        cx.expect(conn, ANSWER_WAIT);
        if let Err(error) = self.command(conn, &request.verb, &request.arguments, cx) {
            cx.reply(conn, &admin::refusal(&error));
        }
        Some(())
    }

    fn command(
        &mut self,
        conn: ConnId,
        verb: &str,
        arguments: &[u8],
        cx: &mut Cx<'_>,
    ) -> Result<(), ControlError> {
        if let Some(query) = admin::query(verb, arguments, self.silent_since(cx.now.wall)) {
            self.query(conn, query?, cx);
            return Ok(());
        }
        match verb {
            verb::STATUS => {
                let NoArgs {} = admin::parse(verb, arguments)?;
                let answer = status::answer(self, cx);
                reply_json(cx, conn, &answer);
            }
            verb::PUBLISHED => {
                let PublishedArgs { revision } = admin::parse(verb, arguments)?;
                log::info!("revision {revision} is published");
                self.told = Revision(revision);
                self.loading.push(conn);
                cx.effect(Effect::Load);
            }
            verb::PUSH => {
                self.on_push(conn, &admin::parse::<PushArgs>(verb, arguments)?.selector, cx)?
            }
            verb::PROBE => {
                let host = admin::parse::<ProbeArgs>(verb, arguments)?.host;
                let name: HostName = host.parse().map_err(|error| {
                    ControlError::new(
                        format!("{error}"),
                        "give the host's name as hosts.yaml has it",
                    )
                })?;
                if !self.hosts.knows(&name) {
                    let hint = "add it to hosts.yaml and publish; `drover hosts` lists those that are known";
                    return Err(ControlError::new(
                        format!("the inventory has no host {name}"),
                        hint,
                    ));
                }
                cx.resolve(name.clone());
                self.probes.push(Probe::new(conn, name));
            }
            other => {
                let hint =
                    "the command and the daemon are of different versions; restart the daemon";
                return Err(ControlError::new(
                    format!("the daemon does not know the command {other:?}"),
                    hint,
                ));
            }
        }
        Ok(())
    }

    fn on_push(
        &mut self,
        conn: ConnId,
        selector: &str,
        cx: &mut Cx<'_>,
    ) -> Result<(), ControlError> {
        let pattern = Pattern::parse(selector).map_err(|error| {
            ControlError::new(error.to_string(), "give a host's name or a glob such as 'web-*'")
        })?;
        let revision = self.hosts.published().revision;
        if revision == Revision(0) {
            return Err(ControlError::new(
                "nothing has been published yet",
                "run `drover publish`",
            ));
        }
        let chosen: BTreeSet<HostName> =
            self.hosts.names().filter(|name| pattern.matches(name)).cloned().collect();
        if chosen.is_empty() {
            let hint = "`drover hosts` lists the hosts that are known";
            return Err(ControlError::new(
                format!("no known host matches {:?}", pattern.as_str()),
                hint,
            ));
        }
        // Asked by hand, a host is dialled whatever it is thought to hold: it may have died, or
        // lost what it had.
        for name in &chosen {
            self.hosts.ask_for(name);
            cx.want(name);
        }
        self.pushes.push(Push::new(conn, revision, chosen, cx.now.at));
        self.tell_pushes(cx);
        Ok(())
    }

    pub(super) fn tell_pushes(&mut self, cx: &mut Cx<'_>) {
        let in_flight = cx.node.downstream.as_ref().map_or(0, |down| down.in_flight());
        self.pushes.retain_mut(|push| {
            let Some(piece) = push.poll_piece(in_flight, cx.now.at) else { return true };
            let last = matches!(piece, PushPiece::Result(_));
            cx.reply(push.conn, &admin::piece(&piece, last));
            !last
        });
    }

    pub(super) fn on_closed(&mut self, conn: ConnId, cx: &mut Cx<'_>) {
        self.queries.retain(|_, asker| *asker != conn);
        self.loading.retain(|asker| *asker != conn);
        self.probes.retain(|probe| probe.conn != conn);
        let Some(at) = self.pushes.iter().position(|push| push.conn == conn) else { return };
        let push = self.pushes.swap_remove(at);
        log::info!("a push was cancelled");
        let others = &self.pushes;
        if let Some(downstream) = &mut cx.node.downstream {
            downstream
                .cancel(|host| push.awaits(host) && !others.iter().any(|other| other.awaits(host)));
        }
    }

    pub(super) fn finish_probe(&mut self, at: usize, cx: &mut Cx<'_>) {
        let probe = self.probes.swap_remove(at);
        reply_json(cx, probe.conn, &probe.finish());
    }
}

pub(super) fn reply_json(cx: &mut Cx<'_>, conn: ConnId, body: &impl Serialize) {
    cx.reply(conn, &admin::piece(body, true));
}
