//! What can happen to a cluster: to a machine, to the network, to the threads beside a loop, to
//! disks and clocks. A soak throws faults at random; [`World::calm`] ends all that last.

use super::agenda::Who;
use super::disk::{Manners, SharedDisk};
use super::line::Delay;
use super::tool::Tool;
use super::{PORT, World, ip};
use engine::reactor::sim::SimConfig;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A sort of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Stop,
    /// SIGSTOP, or SIGCONT.
    Stall,
    /// A machine loses its power: its peers' connections stay half open.
    LosePower,
    /// All that was down is started.
    Revive,
    /// Nothing passes between a client and the master, or all does again.
    Cut,
    /// An address answers nothing, or does again.
    BlackHole,
    /// There is no route to an address, or there is again.
    Unreachable,
    /// Connections between a client and the master are reset, wherever a frame is.
    Reset,
    /// They are at one end alone, and the other end learns of it when it sends.
    HalfReset,
    /// Bytes are under way for longer, or for as long as usual.
    Latency,
    /// Descriptors run out, or are there again.
    Descriptors,
    /// A part of all commits fails.
    FailingCommits,
    /// A part of all trims and reads fails.
    FailingStore,
    /// A commit takes long.
    SlowStore,
    /// A store has hardly any room left, or has again.
    FullStore,
    /// A record on a disk is damaged.
    Damage,
    /// Blobs are read and written slowly.
    SlowBlobs,
    /// The result store takes long.
    SlowSink,
    /// It fails.
    FailingSink,
    /// The name service answers late.
    SlowResolver,
    /// It does not answer.
    FailingResolver,
    /// A run of the enforcer takes long.
    SlowEnforcer,
    /// A wall clock jumps.
    ClockJump,
    /// A client gets another address.
    Move,
    /// Two clients get each other's addresses.
    Swap,
    /// A release is published.
    Publish,
    /// A stranger sends a part of a frame and no more, or bytes that are none.
    Stranger,
    /// A client has many reports at once.
    Burst,
}

impl Fault {
    /// All sorts.
    pub const ALL: [Self; 29] = [
        Self::Kill,
        Self::Stop,
        Self::Stall,
        Self::LosePower,
        Self::Revive,
        Self::Cut,
        Self::BlackHole,
        Self::Unreachable,
        Self::Reset,
        Self::HalfReset,
        Self::Latency,
        Self::Descriptors,
        Self::FailingCommits,
        Self::FailingStore,
        Self::SlowStore,
        Self::FullStore,
        Self::Damage,
        Self::SlowBlobs,
        Self::SlowSink,
        Self::FailingSink,
        Self::SlowResolver,
        Self::FailingResolver,
        Self::SlowEnforcer,
        Self::ClockJump,
        Self::Move,
        Self::Swap,
        Self::Publish,
        Self::Stranger,
        Self::Burst,
    ];
}

/// Releases of one course at most: each is three files at each client.
const REVISIONS_MAX: u64 = 4;
/// Strangers at once at most.
const STRANGERS_MAX: usize = 4;

/// A time between a microsecond and this, each magnitude as likely as another.
fn any_time(rng: &mut fastrand::Rng, most: Duration) -> Duration {
    Duration::from_micros(1).max(most.mul_f64(0.5f64.powf(rng.f64() * 20.0)))
}

impl World {
    /// A machine at random: the master as often as all clients together.
    fn anyone(&mut self) -> Who {
        match self.rng.bool() {
            true => Who::Master(self.rng.usize(..self.masters.len())),
            false => Who::Client(self.rng.usize(..self.clients.len())),
        }
    }

    fn runs(&self, who: Who) -> bool {
        match who {
            Who::Master(at) => self.master_runs(at),
            Who::Client(at) => self.client_runs(at),
        }
    }

    fn address(&self, who: Who) -> IpAddr {
        match who {
            Who::Master(at) => self.masters[at].addr.ip(),
            Who::Client(at) => self.clients[at].addr.ip(),
        }
    }

    fn disk(&self, who: Who) -> &SharedDisk {
        match who {
            Who::Master(at) => &self.masters[at].disk,
            Who::Client(at) => &self.clients[at].disk,
        }
    }

    /// SIGSTOP to a machine that runs, or SIGCONT.
    pub fn stall(&mut self, who: Who, on: bool) {
        let net = self.site.net.clone();
        let Some(machine) = self.machine(who) else { return };
        machine.set_stalled(on);
        net.set_stopped(machine.process(), on);
        self.agenda.poke(who);
        let what = if on { "stall" } else { "go on" };
        self.fate(self.address(who), what);
    }

    /// Whether a machine runs and is not stopped.
    fn is_awake(&mut self, who: Who) -> bool {
        self.machine(who).is_some_and(|machine| !machine.is_stalled())
    }

    /// A machine's power is gone: its disk keeps what was committed, and nobody is told.
    pub fn lose_power(&mut self, who: Who) {
        let net = self.site.net.clone();
        let Some(machine) = self.machine(who) else { return };
        net.lose(machine.process());
        net.set_black_hole(self.address(who), true);
        self.kill(who);
    }

    fn kill(&mut self, who: Who) {
        match who {
            Who::Master(at) => self.kill_master(at),
            Who::Client(at) => self.kill_client(at),
        }
    }

    fn start(&mut self, who: Who) {
        self.site.net.set_black_hole(self.address(who), false);
        match who {
            Who::Master(at) => self.start_master(at),
            Who::Client(at) => self.start_client(at),
        }
    }

    fn everyone(&self) -> impl Iterator<Item = Who> + use<> {
        let masters = (0..self.masters.len()).map(Who::Master);
        masters.chain((0..self.clients.len()).map(Who::Client))
    }

    /// Starts all machines that do not run.
    pub fn revive(&mut self) {
        for who in self.everyone() {
            if !self.runs(who) {
                self.start(who);
            }
        }
    }

    /// A client starts again at another address, and its name leads there.
    pub fn move_client(&mut self, at: usize, to: SocketAddr) {
        let did_run = self.client_runs(at);
        self.kill_client(at);
        let seat = &mut self.clients[at];
        seat.addr = to;
        self.site.names.borrow_mut().insert(seat.name.clone(), vec![to]);
        if did_run {
            self.start_client(at);
        }
    }

    /// Throws one fault, or ends one of its sort; some have nothing to happen to.
    pub fn throw(&mut self, fault: Fault) {
        let who = self.anyone();
        let client = self.rng.usize(..self.clients.len());
        let (address, master) = (self.clients[client].addr.ip(), self.masters[0].addr.ip());
        let net = self.site.net.clone();
        let (on, share) = (self.rng.bool(), self.rng.f64());
        let mut rng = self.rng.fork();
        let mut up_to = |secs: u64| any_time(&mut rng, Duration::from_secs(secs));
        match fault {
            Fault::Kill if self.runs(who) => self.kill(who),
            Fault::Stop if self.is_awake(who) => match who {
                Who::Master(at) => self.stop_master(at),
                Who::Client(at) => self.stop_client(at),
            },
            Fault::Stall => {
                let is_awake = self.is_awake(who);
                self.stall(who, is_awake);
            }
            Fault::LosePower if self.runs(who) => self.lose_power(who),
            Fault::Revive => self.revive(),
            Fault::Cut if on => net.cut(address, master),
            Fault::Cut => net.heal(address, master),
            Fault::BlackHole => net.set_black_hole(self.address(who), on),
            Fault::Unreachable => net.set_unreachable(self.address(who), on),
            Fault::Reset => {
                net.reset(address, master);
                net.reset(master, address);
            }
            Fault::HalfReset if on => net.reset(address, master),
            Fault::HalfReset => net.reset(master, address),
            Fault::Latency if on => net.set_latency(up_to(1), up_to(2)),
            Fault::Latency => self.usual_latency(),
            Fault::Descriptors => {
                // Its listeners, and hardly a connection.
                let max = if on { 2 + self.rng.usize(..4) } else { usize::MAX };
                if let Some(machine) = self.machine(who) {
                    net.set_descriptors_max(machine.process(), max);
                }
            }
            Fault::FailingCommits => self.behave(|m| m.commits_failing = share * share),
            Fault::FailingStore => self.behave(|m| {
                (m.trims_failing, m.reads_failing) = (share, share * share);
            }),
            Fault::SlowStore => self.behave(|m| m.store = Delay(up_to(1), up_to(2))),
            Fault::FullStore => {
                let more = self.rng.u64(..2_000);
                let mut disk = self.disk(who).borrow_mut();
                let room = disk.state().bytes + more;
                disk.store.faults().quota_bytes = on.then_some(room);
            }
            Fault::Damage => {
                self.disk(who).borrow_mut().damage(&mut rng);
                self.fate(self.address(who), "damage");
            }
            Fault::SlowBlobs => self.behave(|m| m.blobs = Delay(up_to(1), up_to(5))),
            Fault::SlowSink => self.behave(|m| m.sink = Delay(up_to(1), up_to(60))),
            Fault::FailingSink => self.behave(|m| m.batches_failing = share),
            Fault::SlowResolver => self.behave(|m| m.resolver = Delay(up_to(1), up_to(30))),
            Fault::FailingResolver => self.behave(|m| m.lookups_failing = share),
            Fault::SlowEnforcer => self.behave(|m| m.enforcer = Delay(up_to(1), up_to(10))),
            Fault::ClockJump => {
                let most = if on { 5 * 86_400_000 } else { 3_000 };
                let ms = self.rng.i64(-most..=most);
                if let Some(machine) = self.machine(who) {
                    machine.skew_ms().set(ms);
                }
            }
            Fault::Move => {
                let host = u8::try_from(client % 200).expect("it is below 200") + 1;
                let to = ip(self.rng.u8(2..9), host);
                let is_free = self.clients.iter().all(|seat| seat.addr.ip() != to);
                if is_free {
                    self.move_client(client, SocketAddr::new(to, PORT + 1));
                }
            }
            Fault::Swap => {
                let other = self.rng.usize(..self.clients.len());
                let (a, b) = (self.clients[client].addr, self.clients[other].addr);
                let runs = [client, other].map(|at| self.client_runs(at));
                self.kill_client(client);
                self.kill_client(other);
                self.move_client(client, b);
                self.move_client(other, a);
                for (at, did_run) in [client, other].into_iter().zip(runs) {
                    if did_run && !self.client_runs(at) {
                        self.start_client(at);
                    }
                }
            }
            Fault::Publish if self.newest().0 < REVISIONS_MAX => {
                let size = self.rng.usize(..self.file_size_max);
                self.publish(0, &["*"], size);
            }
            Fault::Stranger if self.tools.len() < STRANGERS_MAX => {
                let Ok(mut tool) = Tool::dial(&net, ip(9, 9), self.masters[0].addr) else { return };
                let bytes: Vec<u8> = match on {
                    true => b"DRV1\x01\x45\x02\0\x10\0\0\0"[..self.rng.usize(1..12)].to_vec(),
                    false => (0..60).map(|_| self.rng.u8(..)).collect(),
                };
                tool.send_bytes(&bytes);
                self.tools.push(tool);
            }
            Fault::Burst if self.client_runs(client) => {
                for _ in 0..self.rng.u32(2..20) {
                    self.act(client, Duration::from_micros(100));
                }
            }
            // Nothing is there to which it could happen.
            _ => {}
        }
    }

    fn usual_latency(&mut self) {
        let SimConfig { latency_min, latency_max, .. } = self.network;
        self.site.net.set_latency(latency_min, latency_max);
    }

    /// Ends all faults that last, but for machines that do not run.
    pub fn calm(&mut self) {
        let net = self.site.net.clone();
        net.heal_all();
        self.usual_latency();
        *self.site.manners.borrow_mut() = Manners::default();
        for who in self.everyone() {
            self.stall(who, false);
            if let Some(machine) = self.machine(who) {
                machine.skew_ms().set(0);
                net.set_descriptors_max(machine.process(), usize::MAX);
            }
        }
        for disk in self.disks() {
            disk.borrow_mut().store.faults().quota_bytes = None;
        }
    }
}
