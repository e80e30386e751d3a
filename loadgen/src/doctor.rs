//! What of this machine will bind a load, before it does: each limit, what is wanted, and the
//! command that lifts it.

use crate::kernel;
use master::config::LimitsConfig;
use master::descriptors::BESIDE_CONNECTIONS;
use master::table::{Cell, Paint, Table, Tone};
use serde::Serialize;

/// Ports that one address should have for connections to one other.
const PORTS_MIN: u64 = 10_000;

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
    /// Most descriptors that a process may have.
    descriptors_max: u64,
}

/// Looks at this machine for a load of so many clients.
#[must_use]
pub fn examine(clients: u32) -> Vec<Limit> {
    let (_, descriptors_max) = kernel::descriptors_max();
    limits_of(&Machine { setting: &kernel::setting, descriptors_max }, u64::from(clients))
}

/// A limit of the kernel that is one number.
struct AtLeast {
    name: &'static str,
    wanted: u64,
    why: &'static str,
}

impl Limit {
    /// A limit that binds if there is a command that lifts it.
    fn new(name: &str, now: String, wanted: String, lift: Option<String>, why: &str) -> Self {
        Self {
            name: name.to_owned(),
            now,
            wanted,
            binds: lift.is_some(),
            lift: lift.unwrap_or_default(),
            why: why.to_owned(),
        }
    }
}

fn limits_of(machine: &Machine<'_>, clients: u64) -> Vec<Limit> {
    let descriptors = descriptors_wanted(clients);
    let numbers = [
        AtLeast {
            name: "net.core.somaxconn",
            wanted: clients.clamp(4096, 65_535),
            why: "a crowd that connects at once overflows the master's accept queue, and waits whole seconds",
        },
        AtLeast {
            name: "net.ipv4.tcp_max_syn_backlog",
            wanted: clients.clamp(4096, 65_535),
            why: "connections that are being made overflow, and wait whole seconds",
        },
        AtLeast {
            name: "net.netfilter.nf_conntrack_max",
            wanted: clients * 8,
            why: "the firewall forgets connections; it counts each for minutes after its end",
        },
        AtLeast {
            name: "fs.nr_open",
            wanted: descriptors,
            why: "no process can have more descriptors than this, whatever `ulimit -n` says",
        },
        AtLeast {
            name: "net.ipv4.tcp_max_tw_buckets",
            wanted: clients * 2,
            why: "ended connections are forgotten early; harmless on loopback, not on a network",
        },
    ];
    let mut found: Vec<Limit> =
        numbers.iter().filter_map(|number| at_least(machine, number)).collect();
    found.push(open_files(machine.descriptors_max, descriptors));
    found.extend(local_ports(machine));
    found.extend(socket_memory(machine, clients));
    found
}

fn at_least(machine: &Machine<'_>, limit: &AtLeast) -> Option<Limit> {
    let AtLeast { name, wanted, why } = limit;
    let now: u64 = (machine.setting)(name)?.parse().ok()?;
    let lift = (now < *wanted).then(|| format!("sysctl -w {name}={wanted}"));
    Some(Limit::new(name, now.to_string(), format!("≥ {wanted}"), lift, why))
}

/// Descriptors that the master wants: one for each client at worst, up to as many connections as
/// it takes unless it is configured otherwise. The generator is content with fewer: it takes more
/// workers, each with a table of its own.
fn descriptors_wanted(clients: u64) -> u64 {
    let taken = LimitsConfig::default().connections_max as u64;
    clients.min(taken) + BESIDE_CONNECTIONS as u64
}

fn open_files(most: u64, wanted: u64) -> Limit {
    let lift = (most < wanted)
        .then(|| format!("ulimit -Hn {wanted}  (as root; or LimitNOFILE={wanted} in the unit)"));
    let now = if most == u64::MAX { "unlimited".to_owned() } else { format!("at most {most}") };
    let why = "the master pauses accepting, and connections beyond it wait";
    Limit::new("open files (ulimit -n)", now, format!("≥ {wanted}"), lift, why)
}

fn local_ports(machine: &Machine<'_>) -> Option<Limit> {
    const NAME: &str = "net.ipv4.ip_local_port_range";
    let range = (machine.setting)(NAME)?;
    let mut ends = range.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
    let (first, last) = (ends.next()?, ends.next()?);
    let ports = (last + 1).saturating_sub(first);
    // The master dials every client from one address of its own, but each at another one.
    let lift = (ports < PORTS_MIN).then(|| format!("sysctl -w {NAME}='15000 60999'"));
    let why = "connections from one address to one other run out of ports";
    let now = format!("{range} ({ports} ports)");
    Some(Limit::new(NAME, now, format!("≥ {PORTS_MIN} ports"), lift, why))
}

fn socket_memory(machine: &Machine<'_>, clients: u64) -> Option<Limit> {
    const NAME: &str = "net.ipv4.tcp_mem";
    let pages = (machine.setting)(NAME)?;
    let most: u64 = pages.split_whitespace().nth(2)?.parse().ok()?;
    // Two sockets a connection on loopback, a page each way.
    let wanted = clients * 4;
    let lift = (most < wanted)
        .then(|| format!("sysctl -w {NAME}='{} {} {wanted}'", wanted / 2, wanted / 4 * 3));
    let why = "the kernel drops data of all connections";
    Some(Limit::new(NAME, format!("{pages} pages"), format!("the third ≥ {wanted}"), lift, why))
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
        let machine = Machine { setting: &setting, descriptors_max: 4096 };
        let limits = limits_of(&machine, 50_000);
        assert_eq!(find(&limits, "net.core.somaxconn").lift, "sysctl -w net.core.somaxconn=50000");
        assert!(find(&limits, "open files").lift.contains("ulimit -Hn 16128"));
        assert!(find(&limits, "net.ipv4.ip_local_port_range").binds);
        assert!(find(&limits, "net.ipv4.tcp_mem").lift.ends_with("200000'"));
        assert!(!find(&limits, "fs.nr_open").binds);
        assert!(limits.iter().all(|limit| !limit.name.contains("conntrack")), "there is none here");
        let text = render(&limits, 50_000, Paint { colour: false });
        assert!(
            text.contains("BINDS") && text.contains("\n  sysctl -w net.core.somaxconn=50000\n"),
            "{text}"
        );
    }

    /// The generator takes more workers where one would have too few; it is the master that binds.
    #[test]
    fn descriptors_bind_only_where_the_master_wants_them() {
        let at_most = |descriptors_max, nr_open: &str, clients| {
            let setting = |name: &str| (name == "fs.nr_open").then(|| nr_open.to_owned());
            let limits = limits_of(&Machine { setting: &setting, descriptors_max }, clients);
            (find(&limits, "open files").binds, find(&limits, "fs.nr_open").binds)
        };
        assert_eq!(at_most(20_000, "20000", 50_000), (false, false));
        assert_eq!(at_most(9128, "9128", 9000), (false, false));
        assert_eq!(at_most(9127, "1048576", 9000), (true, false));
        assert_eq!(at_most(u64::MAX, "16000", 50_000), (false, true));
    }

    #[test]
    fn this_machine_is_looked_at() {
        assert!(examine(1000).len() >= 4);
    }
}
