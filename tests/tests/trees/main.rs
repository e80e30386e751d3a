//! Trees and files, from a site to its clients: real processes on loopback addresses.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod arrival;
mod cache;
mod churn;
mod cut;
mod tree;
mod watch;

use std::fmt::Display;
use std::fs;
use std::path::Path;
use tests::system::{Cluster, Daemon};

/// The host number of the first client; those of the others follow.
const HOST: u8 = 2;

/// A site whose one policy has these resources, with the hosts `h0`, `h1` and `h2`. Nothing is
/// published yet.
fn site(resources: &str) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.client_extra = "poll_interval = \"10s\"\n".to_owned();
    cluster.write_hosts(&[("h0", HOST), ("h1", HOST + 1), ("h2", HOST + 2)]);
    fs::create_dir_all(cluster.files()).unwrap();
    cluster.write_policy(&format!("resources:\n{resources}"));
    cluster
}

fn name(client: impl Display) -> String {
    format!("h{client}")
}

fn start(cluster: &Cluster, number: u8) -> Daemon {
    cluster.client(&name(number), HOST + number)
}

/// The sizes of all files below a directory; for caches.
fn sizes_below(dir: &Path) -> u64 {
    let mut sum = 0;
    tree::walk(dir, &mut |_, _, meta| sum += if meta.is_file() { meta.len() } else { 0 });
    sum
}
