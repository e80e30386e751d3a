use super::*;
use nix::poll::{PollFd, PollFlags, PollTimeout};

fn target(path: &str, resource: u32, below: bool) -> Target {
    Target { path: path.as_bytes().into(), resource, below }
}

/// Waits until something is noticed of these resources.
fn wait_for(watch: &mut Watch, resources: &[u32]) {
    let mut seen = BTreeSet::new();
    while !resources.iter().all(|r| seen.contains(r)) {
        let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        let ready = nix::poll::poll(&mut fds, PollTimeout::from(5000_u16)).unwrap();
        assert!(ready > 0, "only {seen:?} of {resources:?} were noticed");
        seen.extend(watch.poll_noticed().unwrap().resources);
    }
}

#[test]
fn a_path_concerns_itself_its_ancestors_and_its_owners() {
    let mut targets = vec![
        target("/a", 0, true),
        target("/a-b", 1, false),
        target("/a/b", 2, false),
        target("/c/d", 3, false),
    ];
    targets.sort();
    let affected = |path: &str| {
        let mut resources = BTreeSet::new();
        affected(&targets, path.as_bytes(), &mut resources);
        resources.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(affected("/a"), [0, 2]);
    assert_eq!(affected("/a/b"), [0, 2]);
    assert_eq!(affected("/a/x/y"), [0]);
    assert_eq!(affected("/a-b"), [1]);
    assert_eq!(affected("/c"), [3]);
    assert_eq!(affected("/c/d/e"), [] as [u32; 0], "what is in a file's place is not below it");
    assert_eq!(affected("/"), [0, 1, 2, 3]);
    assert_eq!(affected("/x"), [] as [u32; 0]);
}

#[test]
fn changes_removals_and_moves_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    std::fs::create_dir_all(at("tree/deep")).unwrap();
    std::fs::create_dir_all(at("way/to")).unwrap();
    std::fs::write(at("way/to/f"), "").unwrap();
    let root = Rooted::open(dir.path()).unwrap();
    let targets = vec![
        target("/way/to/f", 0, false),
        target("/tree", 1, true),
        target("/missing/x/f", 2, false),
    ];
    let mut watch = Watch::new(targets).unwrap();
    watch.cover(&root, None).unwrap();
    assert!(watch.poll_noticed().unwrap().is_empty());
    std::fs::write(at("way/to/f"), "x").unwrap();
    wait_for(&mut watch, &[0]);
    std::fs::write(at("tree/deep/stray"), "").unwrap();
    wait_for(&mut watch, &[1]);
    // The nearest ancestor that exists tells when the way there appears.
    std::fs::create_dir_all(at("missing/x")).unwrap();
    wait_for(&mut watch, &[2]);
    watch.cover(&root, Some(&[2].into())).unwrap();
    std::fs::write(at("missing/x/f"), "").unwrap();
    wait_for(&mut watch, &[2]);
    // An ancestor that goes away takes what is below it along.
    std::fs::rename(at("way"), at("gone")).unwrap();
    wait_for(&mut watch, &[0]);
    std::fs::remove_dir_all(at("tree")).unwrap();
    wait_for(&mut watch, &[1]);
    std::fs::create_dir_all(at("way/to")).unwrap();
    wait_for(&mut watch, &[0]);
    // What else happens beside them is not.
    watch.cover(&root, None).unwrap();
    while !watch.poll_noticed().unwrap().is_empty() {}
    std::fs::write(at("way/to/other"), "").unwrap();
    std::fs::write(at("gone/to/f"), "y").unwrap();
    std::fs::write(at("way/to/.drover-0123456789abcdef.tmp"), "").unwrap();
    assert!(watch.poll_noticed().unwrap().is_empty());
}

#[test]
fn a_system_without_watches_left_is_told() {
    for errno in [libc::ENOSPC, libc::EMFILE, libc::ENFILE] {
        let error = WatchError::of(b"/etc", io::Error::from_raw_os_error(errno)).to_string();
        assert!(error.contains("raise fs.inotify.max_user_watches"), "{error}");
    }
    let other = WatchError::of(b"/etc", io::Error::from_raw_os_error(libc::EACCES)).to_string();
    assert!(other.starts_with("cannot watch /etc: "), "{other}");
}
