use super::*;
use clap::CommandFactory;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_an_example_that_is_a_command() {
    fn check(command: &clap::Command, path: &str) {
        for sub in command.get_subcommands() {
            let path = format!("{path} {}", sub.get_name());
            if sub.has_subcommands() {
                check(sub, &path);
                continue;
            }
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> = help
                .lines()
                .filter_map(|l| l.strip_prefix("  "))
                .filter(|l| l.starts_with("drover"))
                .collect();
            assert!(!examples.is_empty(), "{path} has no example");
            assert!(examples.iter().any(|e| e.starts_with(&path)), "{path} is not in {examples:?}");
            for example in examples {
                // What follows two spaces explains; what follows a pipe is another program.
                let line = example.split("  ").next().unwrap().split(" | ").next().unwrap();
                let words = line.split(' ').map(|w| w.trim_matches('\''));
                assert!(Cli::try_parse_from(words).is_ok(), "{line}");
            }
        }
    }
    check(&Cli::command(), "drover");
}

#[test]
fn wrong_usage_is_status_2() {
    let status = |args: &[&str]| {
        let args = args.iter().map(OsString::from);
        format!("{:?}", main(std::iter::once("drover".into()).chain(args)))
    };
    let usage = format!("{:?}", ExitCode::from(2));
    assert_eq!(status(&["hots"]), usage);
    assert_eq!(status(&["reports", "--since", "soon"]), usage);
    assert_eq!(status(&["hosts", "--config", "/nonexistent/master.toml"]), usage);
}
