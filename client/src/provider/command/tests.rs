use super::*;

fn argv(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|w| w.as_bytes().to_vec()).collect()
}

fn sh(script: &str, timeout: Duration, stop: &StopSwitch) -> CommandDone {
    let argv = argv(&["/bin/sh", "-c", script]);
    Command { argv: &argv, cwd: None, env: &[], timeout }.run(stop).unwrap()
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn ends_and_output_are_told() {
    let stop = StopSwitch::new().unwrap();
    let done = sh("echo out; echo err >&2; exit 3", LONG, &stop);
    assert_eq!(done.end, CommandEnd::Exited(3));
    assert_eq!(done.output, b"out\nerr\n");
    assert_eq!(sh("kill -9 $$", LONG, &stop).end, CommandEnd::Killed(9));
    // One that closes its output is waited for all the same.
    let done = sh("exec >&- 2>&-; sleep 0.1; exit 4", LONG, &stop);
    assert_eq!(done.end, CommandEnd::Exited(4));
}

#[test]
fn environment_and_directory_are_the_given_ones() {
    let stop = StopSwitch::new().unwrap();
    let argv = argv(&["sh", "-c", "pwd; echo $A; echo ${CARGO:-none}; cat"]);
    let env = [b"A=b=c".to_vec()];
    let command = Command { argv: &argv, cwd: Some(b"/tmp"), env: &env, timeout: LONG };
    assert_eq!(command.run(&stop).unwrap().output, b"/tmp\nb=c\nnone\n");
}

#[test]
fn a_command_has_the_standard_descriptors_and_no_other() {
    let stop = StopSwitch::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = engine::queue::lmdb::LmdbConfig::new(dir.path());
    let _queue = engine::queue::lmdb::LmdbStore::open(config).unwrap();
    // One that a careless parent of ours has left open.
    let (left_open, _) = io::pipe().unwrap();
    let inherited = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty());
    nix::fcntl::fcntl(&left_open, inherited).unwrap();
    let done = sh("ls /proc/$$/fd; true", LONG, &stop);
    assert_eq!(String::from_utf8_lossy(&done.output), "0\n1\n2\n");
}

/// Runs a command until the test that started this one kills it.
#[test]
fn runs_until_killed() {
    let Some(fifo) = std::env::var_os("DROVER_COMMAND_TEST_CHILD") else { return };
    let fifo = std::path::PathBuf::from(fifo);
    let script = format!("exec > {}; echo; exec sleep 60", fifo.display());
    sh(&script, LONG, &StopSwitch::new().unwrap());
}

/// As long as the command lives, it has the pipe open; nobody but the system can end it.
#[test]
fn a_command_ends_when_the_client_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut client = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["provider::command::tests::runs_until_killed", "--exact"])
        .env("DROVER_COMMAND_TEST_CHILD", &fifo)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut reader = std::fs::File::open(&fifo).unwrap();
    reader.read_exact(&mut [0]).unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
    let mut ended = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    let told = nix::poll::poll(&mut ended, PollTimeout::from(20_000_u16)).unwrap();
    assert_eq!(told, 1, "the command goes on");
}

#[test]
fn what_cannot_start_is_an_error() {
    let stop = StopSwitch::new().unwrap();
    for words in [&["/no/such/program"][..], &[]] {
        let argv = argv(words);
        let command = Command { argv: &argv, cwd: None, env: &[], timeout: LONG };
        assert!(command.run(&stop).is_err());
    }
    let argv = argv(&["true"]);
    let command = Command { argv: &argv, cwd: Some(b"/no/such"), env: &[], timeout: LONG };
    assert!(command.run(&stop).is_err());
}

#[test]
fn s1_59_output_is_bounded_and_keeps_both_ends() {
    let stop = StopSwitch::new().unwrap();
    let done = sh("echo first; head -c 300000 /dev/zero; echo last", LONG, &stop);
    assert_eq!(done.end, CommandEnd::Exited(0));
    assert!(done.output.len() < 2 * OUTPUT_HALF_MAX + 100, "{}", done.output.len());
    assert!(done.output.starts_with(b"first\n") && done.output.ends_with(b"last\n"));
    assert!(String::from_utf8_lossy(&done.output).contains("bytes left out"));
}

/// The processes of a group, zombies not counted.
fn group_members(group: u32) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let stats = entries.filter_map(|e| std::fs::read_to_string(e.path().join("stat")).ok());
    let in_group = |stat: &String| {
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        fields.first() != Some(&"Z") && fields.get(2) == Some(&group.to_string().as_str())
    };
    stats.filter(in_group).count()
}

#[test]
fn a_timeout_ends_the_whole_group() {
    let stop = StopSwitch::new().unwrap();
    // The grandchild ignores the polite signal, and the leader dies of it.
    let script = "sh -c 'trap \"\" TERM; sleep 60 & wait; sleep 60' & echo $$; sleep 60";
    let done = sh(script, Duration::from_millis(300), &stop);
    assert_eq!(done.end, CommandEnd::TimedOut);
    let group: u32 = String::from_utf8_lossy(&done.output).trim().parse().unwrap();
    // They were killed, but it is their new parent that reaps them.
    for _ in 0..200 {
        if group_members(group) == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} processes of the group still live", group_members(group));
}

#[test]
fn s1_27_a_stop_lets_a_command_finish_within_its_time() {
    let stop = StopSwitch::new().unwrap();
    let done = std::thread::scope(|scope| {
        let running = scope.spawn(|| sh("sleep 0.3; echo done", LONG, &stop));
        stop.pull(LONG);
        running.join().unwrap()
    });
    assert_eq!((done.end, &done.output[..]), (CommandEnd::Exited(0), &b"done\n"[..]));
}

#[test]
fn s1_27_a_stop_whose_time_is_over_ends_a_command() {
    let stop = StopSwitch::new().unwrap();
    let clock = SystemClock::start();
    let done = std::thread::scope(|scope| {
        let running = scope.spawn(|| sh("echo $$; sleep 60", LONG, &stop));
        stop.pull(Duration::from_millis(200));
        running.join().unwrap()
    });
    assert_eq!(done.end, CommandEnd::Interrupted);
    assert!(micros_since(&clock, Instant(0)) < 30_000_000);
}
