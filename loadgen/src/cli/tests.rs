use super::*;
use clap::CommandFactory;

fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once(&"loadgen").chain(args))
}

#[test]
fn the_command_line_is_sound_and_every_command_has_an_example() {
    Cli::command().debug_assert();
    for command in Cli::command().get_subcommands() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains(&format!("loadgen {}", command.get_name())), "{help}");
    }
}

#[test]
fn steady_ends_after_a_time_or_with_the_goal() {
    let workload = |args: &[&str]| match parse(args).unwrap().command {
        Command::Workload(workload) => match *workload {
            Workload::Steady { duration, until_all, expect_revision, .. } => {
                (duration, until_all, expect_revision)
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let minute = Duration::from_secs(60);
    assert_eq!(workload(&["steady"]), (minute, false, None));
    assert_eq!(workload(&["steady", "--for", "5m"]), (5 * minute, false, None));
    let until = workload(&["steady", "--expect-revision", "2", "--until-all"]);
    assert_eq!(until, (minute, true, Some(2)));
    for wrong in [
        &["steady", "--until-all"][..],
        &["steady", "--until-all", "--expect-revision", "2", "--for", "5m"],
        &["steady", "--expect-revision", "0"],
        &["steady", "--interval", "10"],
        &["steady", "--clients", "0"],
        &["storm", "--clients", "1000001"],
        &["storm", "--master", "localhost"],
        &["hosts"],
        &["check", "--journal", "x"],
    ] {
        let error = parse(wrong).unwrap_err();
        assert_eq!(error.exit_code(), Exit::Usage as i32, "{wrong:?}");
    }
}

#[test]
fn the_program_says_how_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).into_os_string();
    let main =
        |args: &[OsString]| main(std::iter::once("loadgen".into()).chain(args.iter().cloned()));
    let code = |exit: Exit| format!("{:?}", ExitCode::from(exit as u8));
    let table =
        ["hosts".into(), "--clients".into(), "3".into(), "--hosts-table".into(), path("hosts")];
    assert_eq!(format!("{:?}", main(&table)), code(Exit::Reached));
    let text = std::fs::read_to_string(path("hosts")).unwrap();
    assert!(text.ends_with("lg-00003.load.test 127.1.1.3:7402\n"), "{text}");

    let unwritable = [table[..4].to_vec(), vec![path("no/such/directory")]].concat();
    assert_eq!(format!("{:?}", main(&unwritable)), code(Exit::Internal));
    std::fs::write(path("journal"), "lg-1.x 1 1\n").unwrap();
    let check = ["check".into(), "--journal".into(), path("journal"), "--control".into()];
    let check = [&check[..], &[path("no.sock")]].concat();
    // Nobody listens there; a running master would be waited for.
    assert_eq!(format!("{:?}", main(&check)), code(Exit::Unreachable));
    assert_eq!(format!("{:?}", main(&["nonsense".into()])), code(Exit::Usage));
}

#[test]
fn a_report_of_an_earlier_run_is_overwritten_only_if_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let storm = |more: &[&str]| {
        // Nobody listens there.
        let words = ["loadgen", "storm", "--master", "127.0.0.1:1", "--out"].map(OsString::from);
        let rest = more.iter().map(OsString::from);
        format!("{:?}", main(words.into_iter().chain([out.clone().into()]).chain(rest)))
    };
    let code = |exit: Exit| format!("{:?}", ExitCode::from(exit as u8));
    assert_eq!(storm(&[]), code(Exit::Unreachable));
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("notes.txt"), "mine").unwrap();
    assert_eq!(storm(&[]), code(Exit::Unreachable));
    std::fs::write(out.join("latency.hlog"), "of another run").unwrap();
    assert_eq!(storm(&[]), code(Exit::Usage));
    assert_eq!(storm(&["--force"]), code(Exit::Unreachable));
    // A run that did not begin takes nothing away.
    assert!(out.join("latency.hlog").exists() && out.join("notes.txt").exists());
    let path = out.join("latency.hlog");
    let said = LoadError::EarlierReport { path }.to_string();
    assert!(said.ends_with("take another --out, or overwrite what that run left with --force"));
}
