//! What else the machine did while a bench ran: figures taken beside others' work say so.

use loadgen::kernel::Stolen;

/// The machine when a bench began.
#[derive(Debug, Clone, Copy)]
pub struct Machine(Stolen);

impl Machine {
    /// As it is now.
    #[must_use]
    pub fn look() -> Self {
        Self(Stolen::read())
    }

    /// Prints its load, and what its host has taken of it since.
    pub fn tell(&self) {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or("unknown");
        let stolen = match Stolen::read().share_since(&self.0) {
            Some(share) => Stolen::told(share),
            None => "its host took less than 3 % of its processor time".to_owned(),
        };
        println!("machine: load {load}; {stolen}");
    }
}
