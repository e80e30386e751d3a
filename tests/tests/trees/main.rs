//! Trees and files, from a site to its clients: real processes on loopback addresses.

mod arrival;
mod cache;
mod churn;
mod cluster;
mod cut;
mod tree;
mod watch;
