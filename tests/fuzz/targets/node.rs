//! Sequences of everything that can happen to a whole node, master or client, in virtual time:
//! frames of all kinds, ends, timeouts, answers of the threads beside the loop, failing disks,
//! kills. `src/world.rs` says what must hold whatever comes.

#![no_main]

use fuzz::client::Client;
use fuzz::input::Input;
use fuzz::master::Master;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let (role, seed) = (input.byte(), input.byte());
    match role % 2 {
        0 => Master::new(seed).run(&mut input),
        _ => Client::new(seed).run(&mut input),
    }
});
