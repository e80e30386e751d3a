//! Masters and clients as real processes: real sockets, real disks, real signals.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer, in its helpers too")]

mod clients;
mod commands;
mod faults;
mod happy;
mod idle;
mod killed;
mod limits;
mod load;
mod mistakes;
mod mounts;
mod newer;
mod owner;
mod peers;
mod recovery;
mod stopped;
mod warnings;
mod workers;
mod workloads;
