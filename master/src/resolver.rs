//! The master's name service: hickory-resolver behind the engine's table and cache.
//!
//! Tens of thousands of names are looked up at once when a site is pushed, so look-ups run
//! concurrently, on one thread of their own; one that is slow holds up no other.

use engine::clock::SystemClock;
use engine::ids::HostName;
use engine::node::io::ResolveError;
use engine::resolver::{Answer, Done, Lookup, NameSettings, Resolver, TableFile};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup_ip::LookupIp;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use std::io;
use std::net::SocketAddr;
use std::thread::Builder;
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedSender};

/// Where the master finds name servers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DnsConfig {
    /// `/etc/resolv.conf` and `/etc/hosts`.
    #[default]
    System,
    /// These servers alone.
    Servers {
        /// Their addresses.
        addrs: Vec<SocketAddr>,
        /// How long to wait for each answer.
        timeout: Duration,
    },
}

enum Work {
    Look(HostName, Done),
    Reload,
}

/// Looks names up with hickory-resolver on a thread `dns` of its own, which ends with this.
#[derive(Debug)]
pub struct Dns {
    work: UnboundedSender<Work>,
}

impl Dns {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system gives no thread, or no event queue.
    pub fn start(config: DnsConfig) -> io::Result<Self> {
        let (work, mut inbox) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Builder::new().name("dns".to_owned()).spawn(move || {
            runtime.block_on(async {
                let mut resolver = build(&config);
                // The engine bounds how many are under way.
                while let Some(work) = inbox.recv().await {
                    match work {
                        Work::Look(name, done) => {
                            let resolver = resolver.clone();
                            tokio::spawn(async move {
                                let answer = match resolver {
                                    Ok(resolver) => look_up(&resolver, &name).await,
                                    Err(error) => Err(ResolveError::Failed(error)),
                                };
                                done.answer(answer);
                            });
                        }
                        Work::Reload => resolver = build(&config),
                    }
                }
            });
        })?;
        Ok(Self { work })
    }
}

impl Lookup for Dns {
    fn begin(&mut self, name: HostName, done: Done) {
        // If its thread is gone, `done` is dropped and says so.
        let _ = self.work.send(Work::Look(name, done));
    }

    fn reload(&mut self) {
        let _ = self.work.send(Work::Reload);
    }
}

/// Starts the master's resolver: the table first, then the name service. `answer` is called
/// exactly once for each request, on the resolver's thread.
///
/// # Errors
/// The operating system gives no thread, or no event queue.
pub fn start(
    table: Option<TableFile>,
    config: DnsConfig,
    answer: impl Fn(HostName, Result<Vec<SocketAddr>, ResolveError>) + Send + 'static,
) -> io::Result<Resolver> {
    let clock = SystemClock::start();
    Resolver::start(table, Dns::start(config)?, NameSettings::default(), clock, answer)
}

/// A resolver, or why there is none: the table serves on without.
fn build(config: &DnsConfig) -> Result<TokioResolver, String> {
    let provider = TokioRuntimeProvider::default();
    let builder = match config {
        DnsConfig::System => TokioResolver::builder(provider),
        DnsConfig::Servers { addrs, timeout } => {
            let server = |addr: &SocketAddr| {
                let mut server = NameServerConfig::udp_and_tcp(addr.ip());
                server.connections.iter_mut().for_each(|connection| connection.port = addr.port());
                server
            };
            let servers = addrs.iter().map(server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            let mut builder = TokioResolver::builder_with_config(config, provider);
            *builder.options_mut() = ResolverOpts::default();
            builder.options_mut().timeout = *timeout;
            builder.options_mut().attempts = 1;
            Ok(builder)
        }
    };
    let unusable = |error: NetError| {
        log::warn!("no name service: {error}; only the table of hosts has names");
        format!("no name service: {error}; check /etc/resolv.conf, then reload")
    };
    let mut builder = builder.map_err(unusable)?;
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // There is one cache, the engine's; a second would keep answers beyond their time.
    options.cache_size = 0;
    // As many as the engine lets be under way, so that none waits behind slow ones here.
    options.max_active_requests = 2 * NameSettings::default().lookups_max;
    builder.build().map_err(unusable)
}

async fn look_up(resolver: &TokioResolver, name: &HostName) -> Result<Answer, ResolveError> {
    match resolver.lookup_ip(name.as_str()).await {
        Ok(found) => Ok(answer(&found)),
        Err(error) if error.is_no_records_found() => Err(ResolveError::NoSuchName),
        Err(NetError::Timeout) => Err(ResolveError::Timeout),
        Err(error) => Err(ResolveError::Failed(error.to_string())),
    }
}

/// The addresses, valid as long as the record with the smallest TTL, aliases included.
fn answer(found: &LookupIp) -> Answer {
    let ttl = found.as_lookup().answers().iter().map(|record| record.ttl).min().unwrap_or(0);
    Answer { addrs: found.iter().collect(), ttl: Duration::from_secs(u64::from(ttl)) }
}

#[cfg(test)]
mod tests;
