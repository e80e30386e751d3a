//! Operators' commands as the daemon takes them, and its answers as the commands read them.

#![no_main]

use engine::ids::Listener;
use engine::time::WallMs;
use engine::wire::message::{ControlReq, ControlResp};
use engine::wire::{Frame, FrameBuf, Kind, access};
use fuzz::input::Input;
use fuzz::master::Master;
use fuzz::{frames, world::Heard};
use libfuzzer_sys::fuzz_target;
use master::control::{
    ControlError, HostsPage, IdsPage, Probed, Published, PushPiece, QueuePage, QueueStat,
    QueueVerified, ReportDetail, ReportsPage, Status, verb,
};
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    match input.below(4) {
        0 => answer(&mut input),
        1 => {
            let verb = input.text(12);
            ask(vec![ControlReq { verb, arguments: input.rest().to_vec() }]);
        }
        _ => {
            let mut commands = Vec::new();
            while !input.is_empty() && commands.len() < 8 {
                commands.push(frames::command(&mut input));
            }
            ask(commands);
        }
    }
});

/// Each command is answered, or left to a thread whose answer is awaited; never both, never
/// neither. A peer that sends it through the port for peers is refused.
fn ask(commands: Vec<ControlReq>) {
    let mut master = Master::new(0);
    let world = &mut master.world;
    let operator = world.accept(Listener::Control, 1).expect("there is room");
    let stranger = world.accept(Listener::Peers, 2).expect("there is room");
    for command in commands {
        let frame = FrameBuf::message(None, &command, |_| {}).to_vec();
        world.heard.clear();
        world.bytes(stranger, &frame);
        let refused = |heard: &Heard| {
            matches!(heard, Heard::Frame(conn, header, _)
                if *conn == stranger && header.kind == Kind::NACK)
        };
        assert!(world.heard.len() == 1 && world.heard.iter().all(refused), "{:?}", world.heard);
        world.heard.clear();
        let waiting = (world.effects.len(), world.names.len());
        world.bytes(operator, &frame);
        let asked = (world.effects.len(), world.names.len()) != waiting;
        let is_push = command.verb == verb::PUSH;
        if is_push && world.heard.is_empty() {
            // Its operator is told in a moment how far it is.
            world.advance(Duration::from_millis(250));
        }
        let heard = std::mem::take(&mut world.heard);
        for heard in &heard {
            let Heard::Frame(conn, header, bytes) = heard else { panic!("{heard:?}") };
            assert_eq!((*conn, header.kind), (operator, Kind::CONTROL_RESP));
            check_answer(bytes);
        }
        // One push may be the end of another: the same host is not dialled too often.
        assert!(is_push || heard.len() <= 1, "{} answers to one command", heard.len());
        assert!(asked || !heard.is_empty(), "{:?} is neither answered nor asked on", command.verb);
        // What the result store is asked is bounded, whatever the command says.
        let silent_before = WallMs(5);
        if let Some(Err(error)) =
            master::admin::query(&command.verb, &command.arguments, silent_before)
        {
            assert!(!error.error.is_empty());
        }
    }
}

fn check_answer(bytes: &[u8]) {
    let frame = Frame::parse(bytes).expect("it was sent");
    let answer = access::<ControlResp>(&frame).expect("it was sent");
    if !answer.ok {
        assert!(answer.last, "nothing comes after a refusal");
        let error: ControlError = serde_json::from_slice(&answer.body).expect("it was sent");
        assert!(!error.error.is_empty(), "a refusal says why");
    }
}

/// The daemon's answers, as the commands read them: what can be read can be written, and read.
fn answer(input: &mut Input<'_>) {
    let which = input.byte();
    let json = input.rest();
    match which % 12 {
        0 => round::<ControlError>(json),
        1 => round::<Status>(json),
        2 => round::<HostsPage>(json),
        3 => round::<ReportsPage>(json),
        4 => round::<ReportDetail>(json),
        5 => round::<IdsPage>(json),
        6 => round::<PushPiece>(json),
        7 => round::<Probed>(json),
        8 => round::<Published>(json),
        9 => round::<QueueStat>(json),
        10 => round::<QueuePage>(json),
        _ => round::<QueueVerified>(json),
    }
}

fn round<T: DeserializeOwned + Serialize>(json: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(json) else { return };
    let written = serde_json::to_vec(&value).expect("answers have text keys only");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(serde_json::to_vec(&again).ok(), Some(written));
}
