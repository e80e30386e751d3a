//! What of this machine will bind a load, before it does: each limit, what is wanted, and the
//! command that lifts it.

use crate::report::environment::setting;
use master::table::{Cell, Paint, Table, Tone};
use serde::Serialize;
use std::fs;

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// Its name.
    pub name: String,
    /// What it is now.
    pub now: String,
    /// What so many clients want.
    pub wanted: String,
    /// Whether it will bind.
    pub binds: bool,
    /// The command that lifts it; empty if it need not be.
    pub lift: String,
    /// What happens otherwise.
    pub why: String,
}

/// What a machine says.
struct Machine<'a> {
    setting: &'a dyn Fn(&str) -> Option<String>,
    /// Descriptors: now, and at most.
    descriptors: (u64, u64),
}

/// Looks at this machine for a load of so many clients.
#[must_use]
pub fn examine(clients: u32) -> Vec<Limit> {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let mut words = line.unwrap_or_default().split_whitespace();
    let mut number = || match words.next() {
        Some("unlimited") => u64::MAX,
        Some(word) => word.parse().unwrap_or(0),
        None => 0,
    };
    let descriptors = (number(), number());
    limits_of(&Machine { setting: &setting, descriptors }, u64::from(clients))
}

fn limits_of(machine: &Machine<'_>, clients: u64) -> Vec<Limit> {
    let number = |name: &str| (machine.setting)(name).and_then(|text| text.parse::<u64>().ok());
    let mut found = Vec::new();
    let mut at_least = |name: &str, wanted: u64, why: &str| {
        if let Some(now) = number(name) {
            let binds = now < wanted;
            found.push(Limit {
                name: name.to_owned(),
                now: now.to_string(),
                wanted: format!("≥ {wanted}"),
                binds,
                lift: if binds { format!("sysctl -w {name}={wanted}") } else { String::new() },
                why: why.to_owned(),
            });
        }
    };
    at_least(
        "net.core.somaxconn",
        clients.clamp(4096, 65_535),
        "a crowd that connects at once overflows the master's accept queue, and waits whole seconds",
    );
    at_least(
        "net.ipv4.tcp_max_syn_backlog",
        clients.clamp(4096, 65_535),
        "connections that are being made overflow, and wait whole seconds",
    );
    at_least(
        "net.netfilter.nf_conntrack_max",
        clients * 8,
        "the firewall forgets connections; it counts each for minutes after its end",
    );
    at_least("fs.nr_open", 20_000, "no process can have more descriptors than this");
    at_least(
        "net.ipv4.tcp_max_tw_buckets",
        clients * 2,
        "ended connections are forgotten early; harmless on loopback, not on a network",
    );

    let (now, most) = machine.descriptors;
    // The master holds a connection a client at worst; a worker holds two, in tables of its own.
    let wanted = clients.min(10_000) * 2 + 128;
    let binds = most < wanted;
    found.push(Limit {
        name: "open files (ulimit -n)".into(),
        now: format!("{now}, at most {most}"),
        wanted: format!("≥ {wanted}"),
        binds,
        lift: if binds {
            format!("ulimit -Hn {wanted}  (as root; or LimitNOFILE={wanted} in the unit)")
        } else {
            String::new()
        },
        why: "connections beyond it wait; loadgen starts more workers, the master pauses accepting"
            .into(),
    });
    if let Some(range) = (machine.setting)("net.ipv4.ip_local_port_range") {
        let mut ends = range.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
        let ports = match (ends.next(), ends.next()) {
            (Some(first), Some(last)) => last.saturating_sub(first) + 1,
            _ => 0,
        };
        // The master dials every client from one address of its own, but each at another one.
        let binds = ports < 10_000;
        found.push(Limit {
            name: "net.ipv4.ip_local_port_range".into(),
            now: format!("{range} ({ports} ports)"),
            wanted: "≥ 10000 ports".into(),
            binds,
            lift: if binds {
                "sysctl -w net.ipv4.ip_local_port_range='15000 60999'".into()
            } else {
                String::new()
            },
            why: "connections from one address to one other run out of ports".into(),
        });
    }
    if let Some(pages) = (machine.setting)("net.ipv4.tcp_mem") {
        let most = pages.split_whitespace().nth(2).and_then(|word| word.parse::<u64>().ok());
        // Two sockets a connection on loopback, a page each way.
        let wanted = clients * 4;
        let binds = most.is_some_and(|most| most < wanted);
        found.push(Limit {
            name: "net.ipv4.tcp_mem".into(),
            now: format!("{pages} pages"),
            wanted: format!("the third ≥ {wanted}"),
            binds,
            lift: if binds {
                format!("sysctl -w net.ipv4.tcp_mem='{} {} {wanted}'", wanted / 2, wanted / 4 * 3)
            } else {
                String::new()
            },
            why: "the kernel drops data of all connections".into(),
        });
    }
    found
}

/// A table for people: what binds comes first, with the command that lifts it.
#[must_use]
pub fn render(limits: &[Limit], clients: u32, paint: Paint) -> String {
    let mut table = Table::new(&["limit", "now", "wanted", ""]);
    for limit in limits {
        let word = if limit.binds { paint.paint(Tone::Bad, "BINDS") } else { "ok".to_owned() };
        table.row(vec![
            Cell::from(limit.name.clone()),
            limit.now.clone().into(),
            limit.wanted.clone().into(),
            word.into(),
        ]);
    }
    let mut out = table.render(paint);
    for limit in limits.iter().filter(|limit| limit.binds) {
        out.push_str(&format!("\n{}: {}\n  {}\n", limit.name, limit.why, limit.lift));
    }
    if limits.iter().all(|limit| !limit.binds) {
        out.push_str(&format!("\nNothing binds {clients} clients here.\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(limits: &[Limit], name: &str) -> Limit {
        limits.iter().find(|limit| limit.name.starts_with(name)).cloned().unwrap()
    }

    #[test]
    fn what_binds_comes_with_the_command_that_lifts_it() {
        let setting = |name: &str| {
            Some(
                match name {
                    "net.core.somaxconn" => "128",
                    "net.ipv4.ip_local_port_range" => "32768 33767",
                    "net.ipv4.tcp_mem" => "100 200 300",
                    "net.netfilter.nf_conntrack_max" => return None,
                    _ => "1000000",
                }
                .to_owned(),
            )
        };
        let machine = Machine { setting: &setting, descriptors: (1024, 4096) };
        let limits = limits_of(&machine, 50_000);
        assert_eq!(find(&limits, "net.core.somaxconn").lift, "sysctl -w net.core.somaxconn=50000");
        assert!(find(&limits, "open files").lift.contains("ulimit -Hn 20128"));
        assert!(find(&limits, "net.ipv4.ip_local_port_range").binds);
        assert!(find(&limits, "net.ipv4.tcp_mem").lift.ends_with("200000'"));
        assert!(!find(&limits, "fs.nr_open").binds);
        assert!(limits.iter().all(|limit| !limit.name.contains("conntrack")), "there is none here");
        let text = render(&limits, 50_000, Paint { colour: false });
        assert!(
            text.contains("BINDS") && text.contains("\n  sysctl -w net.core.somaxconn=50000\n"),
            "{text}"
        );
        let machine = Machine { descriptors: (20_000, 20_000), ..machine };
        assert!(find(&limits_of(&machine, 50_000), "open files").binds);
        assert!(!find(&limits_of(&machine, 9000), "open files").binds);
    }

    #[test]
    fn this_machine_is_looked_at() {
        assert!(examine(1000).len() >= 4);
    }
}
