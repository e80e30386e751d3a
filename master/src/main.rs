//! `drover`: the master's daemon and the operator's commands.

fn main() -> std::process::ExitCode {
    master::cli::main(std::env::args_os())
}
