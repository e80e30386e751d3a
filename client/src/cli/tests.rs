use super::*;
use crate::testing::{TestSite, exec};
use engine::release::{Assignment, CATALOG_SCHEMA, Resource};
use engine::sign::SigningKey;
use engine::wire::encode;

/// A site whose release was accepted: its configuration file.
fn accepted(site: &TestSite, resources: Vec<Resource>) -> PathBuf {
    let assigned = site.publish(5, resources);
    let key = SigningKey::generate().unwrap();
    let assignment = Assignment {
        schema: CATALOG_SCHEMA,
        pattern: "web-*".into(),
        excludes: vec![],
        revision: 5,
        manifest: assigned.manifest.0,
        manifest_size: 1,
        issued_ms: 0,
        // Long over: expiry limits acceptance, never enforcement.
        expires_ms: 1,
    };
    let bytes = encode(&assignment.sign(&key));
    std::fs::write(site.state().join("assignment"), bytes).unwrap();
    let path = site.state().join("client.toml");
    let text = format!(
        "name = 'web-1'\ntrusted_keys = ['{}']\nstate_dir = {:?}\nroot = {:?}\nallow_exec = true\n",
        key.public(),
        site.state(),
        site.root()
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn run(words: &[&str], config: &std::path::Path) -> CliResult<ExitCode> {
    let arguments = words.iter().map(OsString::from);
    let mut arguments: Vec<OsString> = arguments.collect();
    arguments.extend(["--config".into(), config.into()]);
    dispatch(&Options::parse(arguments)?)
}

#[test]
fn s2_22_the_last_accepted_assignment_is_applied_without_a_master() {
    let site = TestSite::new();
    let config = accepted(&site, vec![site.file("/f", b"x")]);
    assert_eq!(run(&["apply", "--once", "--dry-run"], &config).unwrap(), ExitCode::SUCCESS);
    assert!(!site.at("/f").exists());
    assert_eq!(run(&["apply", "--once", "--json"], &config).unwrap(), ExitCode::SUCCESS);
    assert_eq!(site.read("/f"), "x");
    assert_eq!(run(&["status"], &config).unwrap(), ExitCode::from(EXIT_NOT_RUNNING));
}

/// The daemon may take on the next revision meanwhile: what this one needs stays until its end.
#[test]
fn nothing_is_collected_while_a_command_applies() {
    let site = TestSite::new();
    let fifo = site.at("/fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let waits = exec("waits", &format!("cat {}", fifo.display()));
    let config = accepted(&site, vec![waits, site.file("/f", b"x")]);
    let cache = BlobCache::open(&Config::read(&config).unwrap().cache_dir(), false).unwrap();
    let applying = std::thread::spawn(move || run(&["apply", "--once"], &config).is_ok());
    // Opening waits until the command reads.
    let go = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    assert!(cache.collect(&[]).unwrap().held);
    drop(go);
    assert!(applying.join().unwrap());
    assert_eq!(site.read("/f"), "x");
    assert!(cache.collect(&[]).unwrap().removed > 0);
}

#[test]
fn the_exit_status_tells_of_failures() {
    let site = TestSite::new();
    let config = accepted(&site, vec![exec("fails", "false")]);
    assert_eq!(run(&["apply", "--once"], &config).unwrap(), ExitCode::FAILURE);
}

#[test]
fn what_cannot_be_used_says_what_to_do() {
    let site = TestSite::new();
    let config = accepted(&site, vec![]);
    let error = |words: &[&str]| run(words, &config).unwrap_err().to_string();
    assert!(error(&["apply"]).contains("--once"));
    assert!(error(&["aply"]).contains("run, apply, status and facts"));
    assert!(error(&["apply", "--once", "--parallel", "0"]).contains("1 or more"));
    let option = error(&["apply", "--frob"]);
    assert!(option.contains("--frob") && option.ends_with("; see drover-client apply --help"));
    let path = site.state().join("assignment");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let damaged = error(&["apply", "--once"]);
    assert!(damaged.contains("is damaged"), "{damaged}");
    std::fs::remove_file(&path).unwrap();
    assert!(error(&["apply", "--once"]).contains("no assignment yet"));
    std::fs::remove_file(&config).unwrap();
    assert!(error(&["apply", "--once"]).contains("--config"));
}

#[test]
fn every_command_has_help_with_examples() {
    for command in ["run", "apply", "status", "facts"] {
        let options = Options::parse([command.into(), "--help".into()]).unwrap();
        assert_eq!(dispatch(&options).unwrap(), ExitCode::SUCCESS);
        let helped = Options::parse(["help".into(), command.into()]).unwrap();
        assert_eq!(helped, options);
    }
    assert!(Options::parse(["help".into()]).unwrap().help);
    assert!(
        [HELP_RUN, HELP_APPLY, HELP_STATUS, HELP_FACTS].iter().all(|h| h.contains("Examples:"))
    );
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    assert_eq!(printable_lines("a\x1b[2Jb\n\t"), "a\\u{1b}[2Jb\n\t");
}
