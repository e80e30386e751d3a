use super::*;
use crate::executor::run::RunDone;
use crate::provider::rooted::temp_name;
use crate::testing::{TestEntry, TestRun, TestSite, With, exec, resource, snapshot};
use engine::release::Resource;
use engine::wire::message::{ResourceResult, outcome};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn mode_of(site: &TestSite, path: &str) -> u32 {
    site.at(path).symlink_metadata().unwrap().mode() & 0o7777
}

/// The one result of one resource.
fn result_of(site: &TestSite, resource: Resource) -> ResourceResult {
    let done = site.run(&[resource]);
    done.report.results.first().cloned().unwrap_or_else(|| ResourceResult {
        id: Vec::new(),
        outcome: outcome::UNCHANGED,
        before: String::new(),
        after: String::new(),
        error: String::new(),
        duration_us: 0,
        output: Vec::new(),
    })
}

fn everything(site: &TestSite) -> Vec<Resource> {
    let tree = [
        ("", TestEntry::Dir(0o750)),
        ("a", TestEntry::Dir(0o555)),
        ("a-b", TestEntry::File(0o644, "between")),
        ("a/empty", TestEntry::Dir(0o700)),
        ("a/file", TestEntry::File(0o4755, "setuid")),
        ("a/nothing", TestEntry::File(0o600, "")),
        ("a/\u{e4} b\n", TestEntry::File(0o644, "odd name")),
        ("link", TestEntry::Link("a/file")),
        ("loose", TestEntry::Link("/nowhere")),
    ];
    vec![
        resource("directory", "/etc").with("mode", &[b"0755"]),
        site.file("/etc/motd", b"welcome\n").with("mode", &[b"0640"]).needs(&[0]),
        site.file("/etc/bin", &[0, 255, 1]).with("mode", &[b"4711"]).needs(&[0]),
        resource("symlink", "/etc/alias").with("target", &[b"motd"]).needs(&[0]),
        resource("absent", "/etc/old").needs(&[0]),
        site.tree("/srv", &tree).with("purge", &[b"true"]),
    ]
}

#[test]
fn every_kind_is_made_as_wanted() {
    let site = TestSite::new();
    std::fs::create_dir_all(site.at("/etc/old/deep")).unwrap();
    let done = site.run(&everything(&site));
    assert!(done.is_converged(), "{:?}", done.report);
    assert_eq!(done.count(outcome::CHANGED), 5, "/etc was there");
    assert_eq!(site.read("/etc/motd"), "welcome\n");
    assert_eq!((mode_of(&site, "/etc/motd"), mode_of(&site, "/etc/bin")), (0o640, 0o4711));
    assert_eq!(std::fs::read_link(site.at("/etc/alias")).unwrap().to_str(), Some("motd"));
    assert!(!site.at("/etc/old").exists());
    assert_eq!((mode_of(&site, "/srv"), mode_of(&site, "/srv/a")), (0o750, 0o555));
    assert_eq!(mode_of(&site, "/srv/a/file"), 0o4755);
    assert_eq!(site.read("/srv/a-b"), "between");
    assert_eq!(site.read("/srv/a/\u{e4} b\n"), "odd name");
    assert!(site.at("/srv/a/empty").is_dir() && site.read("/srv/a/nothing").is_empty());
    assert_eq!(std::fs::read_link(site.at("/srv/loose")).unwrap().to_str(), Some("/nowhere"));
}

#[test]
fn s2_11_a_second_run_changes_and_writes_nothing() {
    let site = TestSite::new();
    assert!(site.run(&everything(&site)).is_converged());
    let before = snapshot(&site.root());
    let done = site.run(&everything(&site));
    assert_eq!(done.report.results, []);
    assert_eq!(done.report.checked, 6);
    assert_eq!(snapshot(&site.root()), before);
}

#[test]
fn every_kind_of_drift_is_put_right() {
    let site = TestSite::new();
    site.run(&everything(&site));
    let open = |path: &str, mode| {
        std::fs::set_permissions(site.at(path), PermissionsExt::from_mode(mode)).unwrap();
    };
    open("/srv/a", 0o755);
    let wanted = |site: &TestSite| {
        let done = site.run(&everything(site));
        assert!(done.is_converged(), "{:?}", done.report);
        assert_eq!(done.count(outcome::CHANGED), 1, "{:?}", done.report);
        assert!(site.run(&everything(site)).report.results.is_empty());
    };
    std::fs::write(site.at("/etc/motd"), "welcomE\n").unwrap();
    open("/srv/a", 0o555);
    wanted(&site);
    assert_eq!(site.read("/etc/motd"), "welcome\n");
    std::fs::remove_file(site.at("/etc/alias")).unwrap();
    symlink("elsewhere", site.at("/etc/alias")).unwrap();
    wanted(&site);
    std::fs::write(site.at("/etc/old"), "").unwrap();
    wanted(&site);
    std::fs::write(site.at("/srv/stray"), "").unwrap();
    std::fs::create_dir_all(site.at("/srv/strays/deep")).unwrap();
    wanted(&site);
    assert!(!site.at("/srv/stray").exists() && !site.at("/srv/strays").exists());
    open("/srv/a", 0o711);
    wanted(&site);
    // What has another type gives way: the directory is purged.
    open("/srv/a", 0o755);
    std::fs::remove_file(site.at("/srv/a/file")).unwrap();
    std::fs::create_dir_all(site.at("/srv/a/file/x")).unwrap();
    std::fs::remove_dir(site.at("/srv/a/empty")).unwrap();
    std::fs::write(site.at("/srv/a/empty"), "").unwrap();
    wanted(&site);
    assert_eq!(site.read("/srv/link"), "setuid");
    assert_eq!(mode_of(&site, "/srv/a"), 0o555);
}

#[test]
fn s2_12_a_dry_run_shows_the_difference_and_writes_nothing() {
    let site = TestSite::new();
    std::fs::create_dir(site.at("/etc")).unwrap();
    std::fs::write(site.at("/etc/motd"), "hello\n").unwrap();
    std::fs::write(site.at("/etc/old"), "").unwrap();
    std::fs::create_dir(site.at("/srv")).unwrap();
    std::fs::write(site.at("/srv/stray"), "").unwrap();
    let mut resources = everything(&site);
    resources.push(exec("e", &format!("touch {:?}", site.at("/ran"))));
    let before = snapshot(&site.root());
    let done = site.run_as(&resources, &TestRun { dry_run: true, ..TestRun::default() });
    assert_eq!(snapshot(&site.root()), before);
    let shown = done.diffs.concat();
    for part in [
        "--- a/etc/motd\n+++ b/etc/motd\n@@ -1 +1 @@\n-hello\n+welcome\n",
        "/etc/alias: absent -> symlink to motd",
        "/etc/old: 0 bytes, mode",
        "/etc/bin: absent -> 3 bytes",
        "/srv/stray: a file -> absent",
        "--- /dev/null\n+++ b/srv/a-b\n",
        "would run",
    ] {
        assert!(shown.contains(part), "{part:?} is not in:\n{shown}");
    }
    assert_eq!(done.count(outcome::CHANGED), 6, "{:?}", done.report);
}

/// What will be made before is counted on, and nothing else.
#[test]
fn a_dry_run_and_a_run_agree_on_a_missing_directory() {
    let site = TestSite::new();
    let dry = TestRun { dry_run: true, ..TestRun::default() };
    let made = [
        resource("directory", "/a"),
        site.tree("/a/t", &[("", TestEntry::Dir(0o755)), ("s", TestEntry::Dir(0o755))]).needs(&[0]),
        site.file("/a/t/s/f", b"x").needs(&[1]),
        exec("makes", &format!("mkdir {}", site.at("/e").display())),
        site.file("/e/f", b"x").needs(&[3]),
    ];
    let missing = [
        resource("directory", "/missing/parent/dir"),
        site.file("/missing/f", b"x"),
        resource("symlink", "/missing/s").with("target", &[b"x"]),
    ];
    for (resources, failed) in [(&made[..], 0), (&missing[..], 3)] {
        for how in [&dry, &TestRun::default()] {
            let done = site.run_as(resources, how);
            let outcomes = (done.count(outcome::FAILED), done.count(outcome::CHANGED));
            assert_eq!(outcomes, (failed, resources.len() - failed), "{:?}", done.report);
        }
    }
}

#[test]
fn s1_5_a_flipped_byte_in_a_cached_blob_never_gets_into_place() {
    let site = TestSite::new();
    std::fs::write(site.at("/f"), "before").unwrap();
    let file = site.file("/f", b"content");
    let hash = engine::ids::BlobHash::of(b"content");
    for broken in [&b"cOntent"[..], b"conten", b"content!", b""] {
        std::fs::write(site.cache().path(hash), broken).unwrap();
        let done = site.run(std::slice::from_ref(&file));
        assert_eq!(done.count(outcome::FAILED), 1);
        assert_eq!(done.to_fetch.iter().collect::<Vec<_>>(), [&hash]);
        assert_eq!(site.read("/f"), "before");
    }
    std::fs::remove_file(site.cache().path(hash)).unwrap();
    assert_eq!(site.run(std::slice::from_ref(&file)).to_fetch.len(), 1);
    site.add_blob(b"content");
    assert!(site.run(&[file]).is_converged());
    assert_eq!(site.read("/f"), "content");
}

#[test]
fn a_broken_entry_of_a_tree_does_not_hold_up_the_others() {
    let site = TestSite::new();
    let entries = [
        ("", TestEntry::Dir(0o755)),
        ("bad", TestEntry::File(0o644, "bad")),
        ("good", TestEntry::File(0o644, "good")),
    ];
    let tree = site.tree("/t", &entries);
    let bad = engine::ids::BlobHash::of(b"bad");
    std::fs::write(site.cache().path(bad), "dab").unwrap();
    let done = site.run(&[tree]);
    assert_eq!((done.count(outcome::FAILED), done.to_fetch.contains(&bad)), (1, true));
    assert!(done.report.results[0].error.contains("1 of 3 entries"), "{:?}", done.report);
    assert_eq!(site.read("/t/good"), "good");
}

#[test]
fn what_stands_in_the_way_is_told_and_kept() {
    let site = TestSite::new();
    std::fs::create_dir(site.at("/dir")).unwrap();
    std::fs::write(site.at("/dir/keep"), "x").unwrap();
    std::fs::write(site.at("/file"), "x").unwrap();
    for (wanted, words) in [
        (
            site.file("/dir", b""),
            "/dir is a directory with something in it, not a file; move that away, or let the directory around it be purged",
        ),
        (
            resource("symlink", "/dir").with("target", &[b"x"]),
            "/dir is a directory with something in it, not a symlink; move that away",
        ),
        (resource("directory", "/file"), "is a file, not a directory"),
        (site.file("/file/below", b""), "is not a directory"),
        (
            site.file("/none/below/f", b""),
            "does not exist; create it, or add `directory: /none/below` to the policy if it lacks that",
        ),
    ] {
        let result = result_of(&site, wanted);
        assert_eq!(result.outcome, outcome::FAILED);
        assert!(result.error.contains(words), "{}", result.error);
    }
    assert_eq!((site.read("/dir/keep"), site.read("/file")), ("x".into(), "x".into()));
    // Nothing is lost with a symlink or an empty path, so these give way.
    symlink("nowhere", site.at("/link")).unwrap();
    assert_eq!(result_of(&site, site.file("/link", b"y")).outcome, outcome::CHANGED);
    assert_eq!(site.read("/link"), "y");
    let purging = resource("directory", "/file").with("purge", &[b"true"]);
    assert_eq!(result_of(&site, purging).outcome, outcome::CHANGED);
    assert_eq!(result_of(&site, resource("absent", "/none/x")).outcome, outcome::UNCHANGED);
    assert_eq!(result_of(&site, resource("absent", "/link/x")).outcome, outcome::UNCHANGED);
}

#[test]
fn s2_15_an_empty_directory_gives_way_to_what_is_managed() {
    let site = TestSite::new();
    let link = resource("symlink", "/link").with("target", &[b"f"]);
    let tree = [("", TestEntry::Dir(0o755)), ("in", TestEntry::File(0o644, "t"))];
    let resources = [site.file("/f", b"managed"), link, site.tree("/tree", &tree)];
    for name in ["/f", "/link", "/tree/in"] {
        std::fs::create_dir_all(site.at(name)).unwrap();
    }
    let shown = site.run_as(&resources, &TestRun { dry_run: true, ..TestRun::default() });
    assert!(shown.diffs.concat().contains("+managed"), "{:?}", shown.diffs);
    assert!(site.at("/f").is_dir() && site.at("/link").is_dir(), "it is a dry run");
    let done = site.run(&resources);
    assert!(done.is_converged() && done.count(outcome::CHANGED) == 3, "{:?}", done.report);
    assert!(done.report.results[0].before.starts_with("a directory"), "{:?}", done.report);
    assert_eq!((site.read("/f"), site.read("/tree/in")), ("managed".into(), "t".into()));
    assert_eq!(std::fs::read_link(site.at("/link")).unwrap(), std::path::Path::new("f"));
}

#[test]
fn a_purge_leaves_alone_what_others_manage() {
    let site = TestSite::new();
    let resources = [
        resource("directory", "/conf.d").with("purge", &[b"true"]),
        site.file("/conf.d/mine", b"m").needs(&[0]),
        resource("directory", "/conf.d/sub").needs(&[0]),
        site.file("/conf.d/sub/theirs", b"t").needs(&[2]),
    ];
    assert!(site.run(&resources).is_converged());
    std::fs::write(site.at("/conf.d/stray"), "").unwrap();
    std::fs::write(site.at("/conf.d/mine-too"), "").unwrap();
    // As it is while another run writes it, and what a crash has left of something else.
    let being_written = |name: &[u8]| site.at("/conf.d").join(temp_name(name));
    std::fs::write(being_written(b"mine"), "").unwrap();
    std::fs::write(being_written(b"gone"), "").unwrap();
    let done = site.run(&resources);
    assert_eq!(done.count(outcome::CHANGED), 1);
    assert_eq!(
        (site.read("/conf.d/mine"), site.read("/conf.d/sub/theirs")),
        ("m".into(), "t".into())
    );
    assert!(!site.at("/conf.d/stray").exists() && !site.at("/conf.d/mine-too").exists());
    assert!(being_written(b"mine").exists() && !being_written(b"gone").exists());
}

#[test]
fn a_tree_cannot_lead_out_of_its_directory() {
    let site = TestSite::new();
    std::fs::create_dir(site.at("/outside")).unwrap();
    std::fs::create_dir(site.at("/t")).unwrap();
    symlink("/outside", site.at("/t/link")).unwrap();
    for path in ["../outside/x", "link/x", "a//x", "/x", "./x"] {
        let entries = [("", TestEntry::Dir(0o755)), (path, TestEntry::File(0o644, "x"))];
        let result = result_of(&site, site.tree("/t", &entries));
        assert_eq!(result.outcome, outcome::FAILED, "{path}");
    }
    assert_eq!(std::fs::read_dir(site.at("/outside")).unwrap().count(), 0);
}

#[test]
fn what_is_not_understood_fails_alone_and_says_so() {
    let site = TestSite::new();
    for (odd, words) in [
        (resource("package", "nginx"), "no resources of kind \"package\""),
        (site.file("/f", b"").with("flavour", &[b"x"]), "attribute \"flavour\" of file"),
        (site.file("/f", b"").with("mode", &[b"0999"]), "octal"),
        (site.file("/f", b"").with("mode", &[b"77777"]), "octal"),
        (site.file("/f/../g", b""), "absolute path"),
        (site.file("f", b""), "absolute path"),
        (resource("file", "/f").with("size", &[b"1"]), "lacks its hash"),
        (resource("file", "/f").with("hash", &[b"1"]).with("size", &[b"1"]), "32 bytes"),
        (resource("symlink", "/f"), "lacks its target"),
        (resource("directory", "/f").with("purge", &[b"maybe"]), "true or false"),
        (resource("exec", "e"), "lacks its command"),
        (exec("e", "true").with("env", &[b"=x"]), "NAME=VALUE"),
        (exec("e", "true").with("timeout_ms", &[b"soon"]), "number"),
        (site.file("/f", b"").with("owner", &[b"no-such-user"]), "create it first"),
    ] {
        let done = site.run(&[odd.clone(), site.file("/good", b"g")]);
        assert_eq!(done.count(outcome::FAILED), 1, "{odd:?}");
        let error = &done.report.results[0].error;
        assert!(error.contains(words), "{error}");
        assert_eq!(site.read("/good"), "g");
    }
}

#[test]
fn commands_run_only_when_they_are_due() {
    let site = TestSite::new();
    let log = site.at("/log");
    let run = |resource: Resource| {
        let _ = std::fs::remove_file(&log);
        let result = result_of(&site, resource);
        (result.outcome, log.exists())
    };
    let touch = || exec("touch", &format!("echo ran >> {log:?}"));
    std::fs::write(site.at("/exists"), "").unwrap();
    assert_eq!(run(touch()), (outcome::CHANGED, true));
    assert_eq!(run(touch().with("creates", &[b"/exists"])), (outcome::UNCHANGED, false));
    assert_eq!(run(touch().with("creates", &[b"/missing/x"])), (outcome::CHANGED, true));
    assert_eq!(run(touch().with("unless", &[b"true"])), (outcome::UNCHANGED, false));
    assert_eq!(run(touch().with("unless", &[b"false"])), (outcome::CHANGED, true));
    assert_eq!(run(touch().with("only_if", &[b"false"])), (outcome::UNCHANGED, false));
    assert_eq!(run(touch().with("only_if", &[b"true"])), (outcome::CHANGED, true));
    assert_eq!(run(touch().with("only_if", &[b"/no/such"])), (outcome::FAILED, false));
}

#[test]
fn s1_59_a_command_that_fails_is_told_with_its_output() {
    let site = TestSite::new();
    let failing = exec("check", "echo out; echo err >&2; exit 3");
    let result = result_of(&site, failing);
    assert_eq!(result.id, b"exec check");
    assert_eq!((result.outcome, &result.output[..]), (outcome::FAILED, &b"out\nerr\n"[..]));
    assert!(result.error.contains("exit status 3") && result.duration_us > 0);
    let slow = exec("slow", "sleep 60").with("timeout_ms", &[b"100"]);
    assert!(result_of(&site, slow).error.contains("longer than its timeout"));
}

#[test]
fn below_a_root_commands_run_only_if_that_is_allowed() {
    let site = TestSite::new();
    let resources =
        [exec("touch", &format!("touch {:?}", site.at("/ran"))), site.file("/f", b"").needs(&[0])];
    let done = site.run_as(&resources, &TestRun { allow_exec: false, ..TestRun::default() });
    assert_eq!(done.count(outcome::SKIPPED), 1);
    assert!(done.report.results[0].error.contains("allow_exec = true"));
    assert!(!site.at("/ran").exists());
    assert!(done.is_converged() && site.at("/f").exists(), "nothing failed, so nothing is held up");
}

#[test]
fn owners_are_set_by_root_and_skipped_by_others() {
    let site = TestSite::new();
    let tree = [("", TestEntry::Dir(0o2755)), ("f", TestEntry::File(0o4755, "t"))];
    let resources = [
        site.file("/f", b"x").with("owner", &[b"1234"]).with("mode", &[b"4755"]),
        site.tree("/t", &tree).with("group", &[b"4321"]),
    ];
    let may_chown = nix::unistd::geteuid().is_root();
    let told = |done: &RunDone, what: &str| {
        let file = done.report.results.iter().find(|result| result.id == b"file /f").unwrap();
        assert_eq!(file.after.contains("owner 1234:"), may_chown, "{what}: {}", file.after);
        assert_eq!(
            file.after.contains("changing them needs root"),
            !may_chown,
            "{what}: {}",
            file.after
        );
    };
    told(&site.run_as(&resources, &TestRun { dry_run: true, ..TestRun::default() }), "a dry run");
    let done = site.run(&resources);
    told(&done, "a run");
    assert!(done.is_converged(), "{:?}", done.report);
    if may_chown {
        assert_eq!(site.at("/f").metadata().unwrap().uid(), 1234);
        assert_eq!(site.at("/t/f").metadata().unwrap().gid(), 4321);
        std::os::unix::fs::chown(site.at("/f"), Some(0), None).unwrap();
        std::os::unix::fs::chown(site.at("/t"), None, Some(0)).unwrap();
        assert_eq!(site.run(&resources).count(outcome::CHANGED), 2);
        assert_eq!(site.at("/f").metadata().unwrap().uid(), 1234);
        assert!(site.run(&resources).report.results.is_empty());
        // A content that changes keeps the owner of whom the policy says nothing.
        std::os::unix::fs::chown(site.at("/f"), Some(77), Some(78)).unwrap();
        site.run(&[site.file("/f", b"y")]);
        let found = site.at("/f").metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (77, 78));
    } else {
        assert_eq!(site.run(&resources).count(outcome::SKIPPED), 2);
    }
    assert_eq!((mode_of(&site, "/t/f"), mode_of(&site, "/t")), (0o4755, 0o2755));
}

#[test]
fn managed_paths_concern_what_leads_to_them() {
    let paths = [b"/a/b".to_vec(), b"/a-c".to_vec()].into();
    let managed = ManagedPaths { paths, ..ManagedPaths::default() };
    for (path, concerned) in [("/a", true), ("/a/b", true), ("/a/b/c", false), ("/a-", false)] {
        assert_eq!(managed.concern(path.as_bytes()), concerned, "{path}");
    }
}
