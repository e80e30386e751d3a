//! `drover-client`: see the library.

fn main() -> std::process::ExitCode {
    client::cli::main(std::env::args_os().skip(1))
}
