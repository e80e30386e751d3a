//! Tests of publishing: what is in force afterwards, and what is said of it.

use super::*;
use engine::ids::{BlobHash, Revision};
use engine::release::{AssignmentError, ManifestBlob, TrustedKeys, decode};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

const NOW: WallMs = WallMs(1_000_000);

struct Fixture {
    dir: TempDir,
    key: SigningKey,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self { dir: TempDir::new().unwrap(), key: SigningKey::generate().unwrap() };
        fixture.write("key", &fixture.key.to_text());
        fixture.set_key_mode(0o600);
        fixture.write("site/site.toml", "site = \"test\"\nassignment_lifetime = \"1h\"\n");
        fixture.write(
            "site/hosts.yaml",
            "hosts:\n- host: db-1\n  policies: [db]\n- host: \"*-1\"\n  policies: [web]\n- host: \"*\"\n",
        );
        fixture.write(
            "site/policies/web/policy.yaml",
            "resources:\n- file: /motd\n  source: motd\n- file: /kept\n  source: kept\n",
        );
        fixture.write("site/policies/web/files/motd", "one");
        fixture.write("site/policies/web/files/kept", "kept");
        fixture.write("site/policies/db/policy.yaml", "resources:\n- absent: /tmp/x\n");
        fixture
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn set_key_mode(&self, mode: u32) {
        fs::set_permissions(self.args().signing_key, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn args(&self) -> PublishArgs {
        let at = |name: &str| self.dir.path().join(name);
        PublishArgs::new(at("site"), at("state"), at("key"))
    }

    fn store(&self) -> ReleaseStore {
        ReleaseStore::new(self.dir.path().join("state"))
    }

    fn publish(&self) -> PublishResult {
        publish(&self.args(), NOW, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"))
    }

    fn fails(&self, args: &PublishArgs) -> PublishError {
        publish(args, NOW, &mut |_| {}).unwrap_err()
    }
}

fn names(changes: &[HostChange]) -> Vec<String> {
    changes.iter().map(|c| format!("{} {}", c.name, c.change)).collect()
}

/// Every path below a directory with its size and time.
fn snapshot(dir: &Path) -> Vec<(std::path::PathBuf, u64, std::time::SystemTime)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        all.push((entry.path(), metadata.len(), metadata.modified().unwrap()));
        if metadata.is_dir() {
            all.extend(snapshot(&entry.path()));
        }
    }
    all.sort();
    all
}

#[test]
fn s1_15_each_line_gets_an_assignment_that_only_its_hosts_accept() {
    let fixture = Fixture::new();
    let result = fixture.publish();
    assert_eq!((result.outcome, result.revision, result.previous), (Outcome::Published, 1, None));
    assert_eq!((result.lines, result.sets), (3, 3));
    let store = fixture.store();
    let release = store.open_current().unwrap().unwrap();
    let trusted = TrustedKeys::Only(vec![fixture.key.public()]);
    let accept = |line: usize, host: &str, held: u64, wall: u64| {
        let bytes = &release.lines[line].assignment;
        trusted.accept(bytes, &host.parse().unwrap(), Revision(held), WallMs(wall))
    };
    let now = NOW.0 + 1;
    for (host, meant) in [("db-1", 0), ("web-1", 1), ("web-2", 2)] {
        for line in 0..3 {
            match accept(line, host, 0, now) {
                Ok(a) => {
                    assert_eq!(line, meant, "{host}");
                    assert_eq!((a.manifest, a.revision), (release.lines[line].manifest, 1));
                    assert_eq!((a.issued_ms, a.expires_ms), (NOW.0, NOW.0 + 3_600_000));
                }
                Err(AssignmentError::OtherHost { .. }) => assert_ne!(line, meant, "{host}"),
                Err(e) => panic!("{host} {line}: {e}"),
            }
        }
    }
    assert!(matches!(accept(1, "web-1", 1, now), Err(AssignmentError::NotNewer { .. })));
    assert!(matches!(
        accept(1, "web-1", 0, NOW.0 + 3_600_000),
        Err(AssignmentError::Expired { .. })
    ));
    // The manifest that was signed is there, and so is all that it lists.
    let line = &release.lines[1];
    let bytes = store.read_blob(BlobHash(line.manifest), line.manifest_size).unwrap();
    let manifest: ManifestBlob = decode(&bytes).unwrap();
    assert_eq!(manifest.files.len(), 2);
    for file in &manifest.files {
        assert_eq!(release.size_of(&file.name, BlobHash(file.hash)), Some(file.size));
        store.read_blob(BlobHash(file.hash), file.size).unwrap();
    }
    assert!(release.size_of(b"@catalog", BlobHash(manifest.catalog)).is_some());
    assert!(release.size_of(b"@manifest", BlobHash(line.manifest)).is_some());
    // The second revision replaces the first.
    fixture.write("site/policies/web/files/motd", "two");
    assert_eq!(fixture.publish().revision, 2);
    let release = store.open_current().unwrap().unwrap();
    let bytes = &release.lines[1].assignment;
    let host = "web-1".parse().unwrap();
    assert_eq!(trusted.accept(bytes, &host, Revision(1), NOW).unwrap().revision, 2);
}

#[test]
fn what_has_not_changed_is_not_published_again() {
    let fixture = Fixture::new();
    assert_eq!(fixture.publish().blobs_new, 8);
    let before = snapshot(&fixture.dir.path().join("state/blobs"));
    let again = fixture.publish();
    assert_eq!((again.outcome, again.revision, again.previous), (Outcome::Unchanged, 1, Some(1)));
    assert!(again.to_text().starts_with("nothing changed: revision 1 of site test stays in force"));
    // One is damaged, and keeps its size; another is gone.
    let blobs: Vec<_> = before.iter().map(|(path, ..)| path).filter(|p| p.is_file()).collect();
    let first = std::fs::read(blobs[0]).unwrap();
    std::fs::write(blobs[0], vec![b'?'; first.len()]).unwrap();
    std::fs::remove_file(blobs[1]).unwrap();
    let repaired = fixture.publish();
    assert_eq!((repaired.outcome, repaired.blobs_new), (Outcome::Unchanged, 2));
    let text = repaired.to_text();
    assert!(text.contains("warning: 2 blobs of it, missing or damaged, written again"), "{text}");
    assert_eq!(std::fs::read(blobs[0]).unwrap(), first);
    let before = snapshot(&fixture.dir.path().join("state/blobs"));
    let forced = publish(&PublishArgs { force: true, ..fixture.args() }, NOW, &mut |_| {}).unwrap();
    assert_eq!((forced.outcome, forced.revision, forced.blobs_new), (Outcome::Published, 2, 0));
    assert!(forced.changes.is_empty());
    assert_eq!(snapshot(&fixture.dir.path().join("state/blobs")), before);
    // A new key, a new lifetime and a new order of lines are changes, though no blob is new.
    fixture.write("key", &SigningKey::generate().unwrap().to_text());
    let dry = PublishArgs { dry_run: true, ..fixture.args() };
    for done in [publish(&dry, NOW, &mut |_| {}).unwrap(), fixture.publish()] {
        let told = "the signing key is another than that of revision 2: hosts refuse this unless";
        assert!(done.to_text().contains(told), "{}", done.to_text());
        assert_eq!(done.revision, 3);
    }
    fixture.write("site/site.toml", "site = \"test\"\n");
    assert_eq!(fixture.publish().revision, 4);
    fixture.write(
        "site/hosts.yaml",
        "hosts:\n- host: \"*-1\"\n  policies: [web]\n- host: \"db-*\"\n  policies: [db]\n",
    );
    assert_eq!(fixture.publish().revision, 5);
    fixture.write(
        "site/hosts.yaml",
        "hosts:\n- host: \"db-*\"\n  policies: [db]\n- host: \"*-1\"\n  policies: [web]\n",
    );
    assert_eq!(fixture.publish().revision, 6);
    let high = publish(&PublishArgs { revision_min: 100, ..fixture.args() }, NOW, &mut |_| {});
    assert_eq!(high.unwrap().revision, 100);
    let typo = publish(&PublishArgs { revision_min: u64::MAX, ..fixture.args() }, NOW, &mut |_| {});
    let told = typo.unwrap_err().to_string();
    assert!(told.contains("is far above 100, the last revision"), "{told}");
}

#[test]
fn a_dry_run_says_what_would_change_and_writes_nothing() {
    let fixture = Fixture::new();
    fs::remove_file(fixture.dir.path().join("key")).unwrap();
    let args = PublishArgs { dry_run: true, ..fixture.args() };
    let dry = |args: &PublishArgs| publish(args, NOW, &mut |_| {}).unwrap();
    let first = dry(&args);
    assert_eq!((first.outcome, first.revision, first.previous), (Outcome::DryRun, 1, None));
    assert!(!fixture.dir.path().join("state").exists());
    fixture.write("key", &fixture.key.to_text());
    fixture.set_key_mode(0o600);
    fixture.publish();
    let known = ["web-1", "web-9", "db-1", "other-1"].map(|n| n.parse().unwrap()).to_vec();
    let args = PublishArgs { known_hosts: known, ..args };
    let same = dry(&args);
    assert!(same.changes.is_empty(), "{:?}", same.changes);
    assert!(same.to_text().contains("nothing changes for any host"));
    fixture.write("site/policies/web/files/motd", "two");
    fixture.write("site/policies/web/files/new", "new");
    fixture.write(
        "site/policies/web/policy.yaml",
        "resources:\n- file: /motd\n  source: motd\n- file: /new\n  source: new\n",
    );
    let before = snapshot(fixture.dir.path());
    let changed = dry(&args);
    assert_eq!(snapshot(fixture.dir.path()), before);
    assert_eq!(
        changed.changes.files,
        Counted {
            added: vec!["policies/web/files/new".into()],
            changed: vec!["policies/web/files/motd".into()],
            removed: vec!["policies/web/files/kept".into()],
        }
    );
    assert_eq!(
        changed.changes.resources,
        Counted {
            added: vec!["file /new".into()],
            changed: vec!["file /motd".into()],
            removed: vec!["file /kept".into()],
        }
    );
    assert_eq!(names(&changed.changes.lines), ["*-1 changed"]);
    assert_eq!(names(&changed.changes.hosts), ["other-1 changed", "web-1 changed"]);
    let text = changed.to_text();
    for part in [
        "dry run: site test is good",
        "files: 1 added, 1 changed, 1 removed\n  + policies/web/files/new\n  ~ policies/web/files/motd\n  - policies/web/files/kept\n",
        "hosts affected: 2\n  other-1 (changed)\n  web-1 (changed)\n",
    ] {
        assert!(text.contains(part), "{text}");
    }
    // What it said is what happens.
    let published = publish(&PublishArgs { dry_run: false, ..args }, NOW, &mut |_| {}).unwrap();
    assert_eq!((published.revision, published.changes), (changed.revision, changed.changes));
}

#[test]
fn a_damaged_release_is_replaced_by_a_higher_one() {
    let fixture = Fixture::new();
    fixture.publish();
    fs::write(fixture.dir.path().join("state/releases/1/index"), "").unwrap();
    let result = fixture.publish();
    assert_eq!((result.outcome, result.revision), (Outcome::Published, 2));
    assert!(
        result.warnings.iter().any(|w| w.contains("releases/1/index is damaged")),
        "{:?}",
        result.warnings
    );
    assert_eq!(fixture.store().open_current().unwrap().unwrap().revision, 2);
    // A catalog that is gone keeps nothing from being published either.
    for blob in fixture.store().open_current().unwrap().unwrap().blobs {
        fs::remove_file(fixture.store().blob_path(BlobHash(blob.hash))).unwrap();
    }
    fixture.write("site/policies/web/files/motd", "two");
    let result = fixture.publish();
    assert_eq!((result.revision, result.blobs_new), (3, 8));
    assert!(result.warnings.iter().any(|w| w.contains("what changes cannot be told")));
}

#[test]
fn mistakes_keep_the_release_in_force() {
    let fixture = Fixture::new();
    fixture.publish();
    let before = snapshot(&fixture.dir.path().join("state"));
    fixture.write("site/policies/web/files/motd", "two");
    fixture.write("site/policies/db/policy.yaml", "resources:\n- absnt: /x\n");
    let error = fixture.fails(&fixture.args());
    assert!(error.to_string().starts_with("policies/db/policy.yaml:2: "), "{error}");
    let after = snapshot(&fixture.dir.path().join("state"));
    let is_state = |(path, ..): &&(std::path::PathBuf, u64, std::time::SystemTime)| path.is_file();
    assert!(before.iter().filter(is_state).eq(after.iter().filter(is_state)));
}

#[test]
fn what_stands_in_the_way_says_what_to_do() {
    let fixture = Fixture::new();
    let lock = fixture.store().lock().unwrap();
    assert!(
        fixture.fails(&fixture.args()).to_string().contains("another `drover publish` is writing")
    );
    drop(lock);
    fixture.publish();
    fixture.write("site/site.toml", "site = \"other\"\n");
    let error = fixture.fails(&fixture.args()).to_string();
    assert!(error.contains("releases of the site \"test\", not of \"other\""), "{error}");
    fixture.write("key", "ssh-ed25519 AAAA");
    let error = fixture.fails(&fixture.args()).to_string();
    assert!(
        error.contains("key: this is no Drover key: it must begin with \"drover-signing-key-1 \""),
        "{error}"
    );
    fs::remove_file(fixture.dir.path().join("key")).unwrap();
    let error = fixture.fails(&fixture.args()).to_string();
    assert!(
        error.contains("cannot read the signing key") && error.ends_with("`drover init` makes one"),
        "{error}"
    );
}

#[test]
fn an_assignment_that_fits_no_message_is_a_clear_error() {
    let fixture = Fixture::new();
    let names: Vec<_> = (0..5000).map(|n| format!("host-with-a-long-name-{n}.example")).collect();
    fixture.write(
        "site/hosts.yaml",
        &format!("hosts:\n- host: [{}]\n- host: \"*\"\n", names.join(", ")),
    );
    let error = fixture.fails(&fixture.args());
    assert!(matches!(&error, PublishError::AssignmentSize { excludes: 5000, .. }), "{error}");
    assert!(error.to_string().starts_with("hosts.yaml:3: "), "{error}");
    // Without the glob behind them nobody needs to be excluded.
    fixture.write("site/hosts.yaml", &format!("hosts:\n- host: [{}]\n", names.join(", ")));
    let result = fixture.publish();
    assert_eq!((result.lines, result.sets), (5000, 1));
}

#[test]
fn a_tree_of_many_files_is_published_and_not_copied_twice() {
    let fixture = Fixture::new();
    fixture.write("site/policies/web/policy.yaml", "resources:\n- directory: /t\n  source: t\n");
    for n in 0..500 {
        fixture.write(&format!("site/policies/web/files/t/{}/{n}", n % 20), &format!("file {n}"));
    }
    let mut last = Progress::default();
    let result = publish(&fixture.args(), NOW, &mut |p| last = p).unwrap();
    assert_eq!((result.read.files, last.files), (500, 500));
    fixture.write("site/policies/web/files/t/0/0", "changed");
    let result = fixture.publish();
    // The file, its tree, the catalog and the manifest.
    assert_eq!(result.blobs_new, 4);
    assert_eq!(result.changes.files.changed, ["policies/web/files/t", "policies/web/files/t/0/0"]);
}

#[test]
fn an_inventory_that_was_emptied_is_not_published_by_mistake() {
    let fixture = Fixture::new();
    fixture.publish();
    fixture.write("site/hosts.yaml", "hosts: []\n");
    let error = fixture.fails(&fixture.args()).to_string();
    assert!(error.starts_with("the inventory has no host any more, and had "), "{error}");
    let forced = publish(&PublishArgs { force: true, ..fixture.args() }, NOW, &mut |_| {}).unwrap();
    assert_eq!((forced.outcome, forced.lines), (Outcome::Published, 0));
}

#[test]
fn a_signing_key_that_others_may_use_is_refused() {
    let fixture = Fixture::new();
    for mode in [0o644, 0o640, 0o602, 0o610] {
        fixture.set_key_mode(mode);
        let error = fixture.fails(&fixture.args()).to_string();
        let cure = format!("run `chmod 600 {}`", fixture.args().signing_key.display());
        assert!(error.contains("others than its owner may use the signing key"), "{error}");
        assert!(error.ends_with(&cure) && error.contains(&format!("{mode:04o}")), "{error}");
        assert!(fixture.store().open_current().unwrap().is_none(), "nothing was published");
        let dry = PublishArgs { dry_run: true, ..fixture.args() };
        let warnings = publish(&dry, NOW, &mut |_| {}).unwrap().warnings;
        assert_eq!(warnings, [format!("a publish would be refused: {error}")]);
    }
    for mode in [0o400, 0o600] {
        fixture.set_key_mode(mode);
        fixture.publish();
    }
}

#[test]
fn a_signing_key_that_may_not_be_read_says_whose_it_is() {
    let path = "key".into();
    let error = |kind: io::ErrorKind| PublishError::KeyFile { path, source: kind.into() };
    let error = error(io::ErrorKind::PermissionDenied).to_string();
    assert!(error.ends_with("run drover as the user that it belongs to"), "{error}");
}
