//! A network of a bench's own, in which accept queues may be as long as wanted: where one that is
//! too short overflows, the system loses connects for a second or more, or resets them.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The argument with which a bench begins anew inside.
pub const INSIDE: &str = "inside";

/// Begins this program anew, with [`INSIDE`] as its argument; returns only if that fails.
#[must_use]
pub fn enter() -> io::Error {
    match std::env::current_exe() {
        Ok(own) => Command::new("unshare").arg("-rn").arg(own).arg(INSIDE).exec(),
        Err(error) => error,
    }
}

/// Inside: brings up the loopback interface.
///
/// # Errors
/// The program `ip` is missing, or may not.
pub fn bring_up() -> io::Result<()> {
    if Command::new("ip").args(["link", "set", "lo", "up"]).status()?.success() {
        return Ok(());
    }
    Err(io::Error::other("the network of this bench's own does not come up"))
}

/// Inside: accept queues may be so long from now on.
///
/// # Errors
/// It is not a network of this bench's own.
pub fn allow_accept_queue(connections: u32) -> io::Result<()> {
    for name in ["core/somaxconn", "ipv4/tcp_max_syn_backlog"] {
        std::fs::write(format!("/proc/sys/net/{name}"), connections.to_string())?;
    }
    Ok(())
}
