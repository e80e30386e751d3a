//! Every program of Drover in one: `drover-process drover …`, `drover-process client …`. Tests
//! of real processes start this, since Cargo builds it for them, whatever they were built with.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let program = args.next().unwrap_or_default();
    match program.to_str() {
        Some("drover") => master::cli::main(std::iter::once(program).chain(args)),
        Some("client") => client::cli::main(args),
        _ => {
            eprintln!("usage: drover-process drover|client ARGUMENTS");
            ExitCode::from(2)
        }
    }
}
