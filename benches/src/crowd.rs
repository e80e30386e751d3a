//! Clients that all come at once, each with one durable message.

use crate::child::answer;
use crate::minimal::{self, Ends, Load, Requests, padded, report};
use engine::clock::SystemClock;
use engine::limits::HEADER_SIZE;
use std::io;
use std::net::SocketAddr;

/// In a process of its own: for every line of its input a crowd of so many clients comes to the
/// server, each with a frame of this size. Says after how many seconds all were connected, and all
/// answered.
///
/// # Errors
/// A connection fails, or nobody listens to what it says.
pub fn come(to: SocketAddr, clients: u32, frame: usize) -> io::Result<()> {
    let clock = SystemClock::start();
    let mut load = Load {
        ends: Ends::Server(to),
        requests: Requests::of_hosts(clients, &padded(frame, report)),
        answer_size: HEADER_SIZE,
        transactions: clients,
        window: clients as usize,
    };
    let mut seq = 0;
    answer(|| {
        seq += 1;
        load.requests.renumber(seq);
        let took = minimal::run(&load, clock)?;
        Ok(format!("{} {}", took.connected.as_secs_f64(), took.all.as_secs_f64()))
    })
}
