//! `loadgen`: thousands of simulated clients.

fn main() -> std::process::ExitCode {
    loadgen::cli::main(std::env::args_os())
}
