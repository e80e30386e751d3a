//! What a process takes of the machine, as the kernel tells it.

use std::fs;

/// Clock ticks a second in `/proc`: 100 on every Linux that Drover is for.
const TICKS: f64 = 100.0;

/// Resident memory of this process, bytes; 0 if `/proc` does not say.
#[must_use]
pub fn resident_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|n| n.parse().ok());
    1024 * kib.unwrap_or(0u64)
}

/// CPU time of this process, seconds; 0 if `/proc` does not say.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "ticks of 10 ms")]
pub fn cpu_s() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in parentheses, which may contain anything.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / TICKS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        let resident = resident_bytes();
        assert!((100 << 10..1 << 34).contains(&resident), "{resident} bytes");
        let before = cpu_s();
        let mut rng = fastrand::Rng::with_seed(1);
        // Work until the kernel's own count of ticks has moved.
        while cpu_s() <= before {
            std::hint::black_box((0..100_000).map(|_| rng.u64(..) & 1).sum::<u64>());
        }
        assert!(cpu_s() < before + 60.0);
    }
}
