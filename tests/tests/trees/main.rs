//! Trees and files, from a site to its clients: real processes on loopback addresses.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod arrival;
mod cache;
mod churn;
mod cluster;
mod cut;
mod tree;
mod watch;
