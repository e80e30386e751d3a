//! Masters and clients as real processes: real sockets, real disks, real signals.

mod happy;
mod idle;
mod killed;
mod limits;
mod mistakes;
mod peers;
mod stopped;
