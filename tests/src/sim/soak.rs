//! A cluster to which faults happen at random, and what must hold of it then, afterwards, and
//! once it is at rest. All of a course follows from its plan: the same plan, the same trace.

use super::fault::Fault;
use super::master::MasterSettings;
use super::mutation::Mutation;
use super::{World, ip};
use engine::queue::inbox::InboxConfig;
use engine::queue::outbox::OutboxConfig;
use engine::reactor::sim::SimConfig;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// All that is not in the network after its faults must be delivered within this.
const WITHIN: Duration = Duration::from_secs(3600);
/// Between two looks at whether it is.
const LOOK: Duration = Duration::from_millis(500);

/// How large a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// A master and three clients: a hundred courses a second.
    Small,
    /// A master and 200 clients.
    Large,
}

impl Size {
    fn clients(self) -> u8 {
        match self {
            Self::Small => 3,
            Self::Large => 200,
        }
    }

    /// Times that something is thrown, and what is thrown each time.
    fn rounds(self) -> (u32, u32) {
        match self {
            Self::Small => (30, 1),
            Self::Large => (30, 6),
        }
    }

    fn poll_interval(self) -> Duration {
        match self {
            Self::Small => Duration::from_secs(60),
            Self::Large => Duration::from_secs(300),
        }
    }
}

/// What a course follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The cluster.
    pub size: Size,
    /// All chance.
    pub seed: u64,
    /// A deliberate fault of the code under test, to see it found.
    pub mutation: Option<Mutation>,
    /// Whether the trace is kept.
    pub traced: bool,
}

/// A course in which all held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// Events between nodes and their loops.
    pub events: u64,
    /// A number that any other course has not.
    pub hash: u64,
    /// Reports written and stored.
    pub reports: usize,
    /// The trace, one event a line; empty unless it was to be kept.
    pub trace: String,
}

/// A course in which something did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What.
    pub what: String,
    /// The trace up to there; empty unless it was to be kept.
    pub trace: String,
}

impl Plan {
    /// The course of this seed.
    #[must_use]
    pub fn new(size: Size, seed: u64) -> Self {
        Self { size, seed, mutation: None, traced: false }
    }

    /// Plays it.
    ///
    /// # Errors
    /// What did not hold; a panic anywhere in it is one.
    pub fn play(&self) -> Result<Course, Failure> {
        let mut world = self.world();
        let played = catch_unwind(AssertUnwindSafe(|| self.course(&mut world)));
        let trace = if self.traced { text_of(&world) } else { String::new() };
        let (events, hash) = {
            let trace = world.site.trace.borrow();
            (trace.len(), trace.hash())
        };
        let reports = world.results.borrow().reports.len();
        match played {
            Ok(()) => Ok(Course { events, hash, reports, trace }),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                Err(Failure { what: text.unwrap_or_else(|| "a panic".to_owned()), trace })
            }
        }
    }

    /// A cluster whose network and bounds are drawn too: what is never reached is never tried.
    fn world(&self) -> World {
        let mut rng = fastrand::Rng::with_seed(self.seed ^ 0x5eed_0f50_a450_a450);
        let any = |of: &[usize], rng: &mut fastrand::Rng| of[rng.usize(..of.len())];
        let piece_max = any(&[40, 400, 1500, 16 * 1024], &mut rng);
        let latency_max = any(&[1, 20, 100], &mut rng) as u64;
        let network = SimConfig {
            latency_min: Duration::from_micros(50),
            latency_max: Duration::from_millis(latency_max),
            piece_max,
            // Not so small that a peer is slower than is tolerated.
            window: any(&[16 * 1024, 256 * 1024], &mut rng),
        };
        let mut world = World::with(self.seed, network, self.mutation);
        // Several chunks in some small clusters; in large ones there are 200 copies of each.
        world.file_size_max = (piece_max * 60).min(match self.size {
            Size::Small => 900_000,
            Size::Large => 200_000,
        });
        world.site.trace.borrow_mut().keep(if self.traced { usize::MAX } else { 0 });
        let mut settings = MasterSettings::default();
        let kib = 1024;
        let high = any(&[kib, 8 * kib, 1 << 30], &mut rng) as u64;
        settings.inbox = InboxConfig {
            gathering_records_max: any(&[2, 20, 1000], &mut rng),
            gathering_bytes_max: any(&[2 * kib, 300_000], &mut rng),
            bytes_high: high,
            bytes_low: high / 4 * 3,
            read_records_max: any(&[1, 20, 1000], &mut rng),
            trim_records: any(&[1, 20, 65_536], &mut rng) as u64,
            ..InboxConfig::default()
        };
        let limits = &mut settings.limits;
        limits.connections_max = match self.size {
            Size::Small => any(&[2, 4, 64], &mut rng),
            Size::Large => any(&[20, 500], &mut rng),
        };
        limits.listen_backlog = u32::try_from(any(&[4, 4096], &mut rng)).expect("it is small");
        limits.read_budget = any(&[300, 64 * kib], &mut rng);
        limits.events_max = any(&[1, 4, 64], &mut rng);
        limits.requests_budget = any(&[1, 16], &mut rng);
        settings.downstream.in_flight_max = any(&[1, 4, 256], &mut rng);
        world.add_master(ip(0, 1), settings);
        let size = rng.usize(..world.file_size_max);
        world.publish(0, &["*"], size);
        world.start_master(0);
        let outbox = OutboxConfig {
            durable_bytes_max: any(&[4 * kib, 64 * kib * kib], &mut rng) as u64,
            window_frames: any(&[1, 5, 1000], &mut rng),
            window_bytes: any(&[kib, 256 * kib], &mut rng),
            read_bytes_max: any(&[kib, 128 * kib], &mut rng),
            ..OutboxConfig::default()
        };
        for n in 0..self.size.clients() {
            let at = world.add_client(&format!("c{n}"), ip(1, n + 1));
            let settings = &mut world.clients[at].settings;
            settings.outbox = outbox;
            settings.poll_interval = self.size.poll_interval();
            world.start_client(at);
        }
        world
    }

    fn course(&self, world: &mut World) {
        // Some sorts at a time: many at once hide what one alone, or two, would show.
        let mut sorts: Vec<Fault> = Fault::ALL.into_iter().filter(|_| world.rng.bool()).collect();
        sorts.push(Fault::Revive);
        let (rounds, throws) = self.size.rounds();
        for _ in 0..rounds {
            for _ in 0..world.rng.u32(0..3 * throws) {
                let at = world.rng.usize(..world.clients.len());
                if world.client_runs(at) {
                    world.act(at, Duration::from_millis(2));
                }
            }
            for _ in 0..throws {
                let fault = sorts[world.rng.usize(..sorts.len())];
                world.throw(fault);
            }
            if world.rng.u8(..4) == 0 {
                world.revive();
            }
            // From less than a byte takes to longer than most deadlines.
            let pause = Duration::from_micros(1 << world.rng.u32(4..=25)).mul_f64(world.rng.f64());
            world.run(pause);
        }
        world.calm();
        world.run(Duration::from_secs(30));
        world.revive();
        self.converge(world);
        let in_order = world.results.borrow().in_order();
        assert!(in_order, "seed {:#x}: out of order", self.seed);
        let mut again = world.results.borrow().again.clone();
        // Of a record that was damaged a master that starts cannot know that it has it.
        let damaged = world.damaged();
        again.retain(|origin| !damaged.contains(origin));
        assert!(again.is_empty(), "seed {:#x}: stored again: {again:?}", self.seed);
        world.assert_exactly_once();
        world.assert_rest();
    }

    fn converge(&self, world: &mut World) {
        let until = world.now() + WITHIN;
        while !(world.is_current() && world.is_drained()) {
            if world.now() >= until {
                let told = world.tell();
                panic!("seed {:#x}: not delivered in {WITHIN:?}: {told}", self.seed);
            }
            world.run(LOOK);
            // One that was told to stop may have taken its time.
            world.revive();
        }
    }
}

fn text_of(world: &World) -> String {
    let trace = world.site.trace.borrow();
    trace.events().iter().fold(String::new(), |mut text, event| {
        let _ = writeln!(text, "{event}");
        text
    })
}
