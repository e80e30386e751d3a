use super::*;
use std::io::Write;
use std::os::unix::fs::symlink;

fn rooted() -> (tempfile::TempDir, Rooted) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("root/etc")).unwrap();
    std::fs::create_dir(dir.path().join("outside")).unwrap();
    let root = Rooted::open(&dir.path().join("root")).unwrap();
    (dir, root)
}

fn write(directory: &Directory, name: &[u8], content: &[u8], mode: u32) {
    let mut new = directory.new_file(name).unwrap();
    new.writer().write_all(content).unwrap();
    new.place(mode, true).unwrap();
}

#[test]
fn paths_are_checked_before_they_are_used() {
    for path in ["/", "/a", "/a/b.c", "/a/..b", "/ä b\n"] {
        assert!(is_absolute_path(path.as_bytes()), "{path}");
    }
    for path in ["", "a", "//", "/a//b", "/a/", "/.", "/a/../b", "/a/./b", "/a\0b"] {
        assert!(!is_absolute_path(path.as_bytes()), "{path}");
    }
    assert_eq!(split_path(b"/a"), (&b"/"[..], &b"a"[..]));
    assert_eq!(split_path(b"/a/b"), (&b"/a"[..], &b"b"[..]));
    assert_eq!(join_path(b"/", b"a"), b"/a");
    assert_eq!(join_path(b"/a", b""), b"/a");
}

#[test]
fn no_symlink_leads_out_of_the_root() {
    let (dir, root) = rooted();
    let outside = dir.path().join("outside");
    symlink(&outside, dir.path().join("root/absolute")).unwrap();
    symlink("../../outside", dir.path().join("root/etc/relative")).unwrap();
    symlink("/etc", dir.path().join("root/inside")).unwrap();
    // The absolute one leads to the same path inside of the root, which does not exist.
    assert!(root.directory(b"/absolute").unwrap().is_none());
    assert!(root.directory(b"/etc/relative").unwrap().is_none());
    write(&root.directory(b"/inside").unwrap().unwrap(), b"f", b"x", 0o600);
    assert!(dir.path().join("root/etc/f").exists());
    // The last part is never followed: the link itself is replaced.
    let (parent, name) = root.parent(b"/absolute").unwrap();
    write(&parent, name, b"mine", 0o644);
    assert!(std::fs::symlink_metadata(dir.path().join("root/absolute")).unwrap().is_file());
    assert_eq!(std::fs::read_dir(outside).unwrap().count(), 0);
    // Below a tree no symlink is followed at all.
    let top = root.directory(b"/").unwrap().unwrap();
    assert!(matches!(top.descend(b"inside"), Err(PathError::NotDirectory { .. })));
    assert!(matches!(top.descend(b"../outside"), Err(PathError::Form { .. })));
    assert!(matches!(top.descend(b"none"), Err(PathError::NoParent { .. })));
}

#[test]
fn descending_part_by_part_gives_the_same() {
    let (dir, root) = rooted();
    std::fs::create_dir_all(dir.path().join("root/a/b/c")).unwrap();
    symlink("/etc", dir.path().join("root/a/link")).unwrap();
    let top = root.directory(b"/").unwrap().unwrap();
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    assert!(top.descend_by_parts(b"a/b/c", flags).is_ok());
    assert_eq!(top.descend_by_parts(b"a/link", flags).unwrap_err(), Errno::ENOTDIR);
    assert_eq!(top.descend_by_parts(b"a/none", flags).unwrap_err(), Errno::ENOENT);
}

#[test]
fn a_file_takes_its_place_whole_or_not_at_all() {
    let (dir, root) = rooted();
    let path = dir.path().join("root/etc/f");
    std::fs::write(&path, "old").unwrap();
    let etc = root.directory(b"/etc").unwrap().unwrap();
    let mut new = etc.new_file(b"f").unwrap();
    new.writer().write_all(b"half").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    drop(new);
    assert_eq!(etc.names().unwrap(), [b"f".to_vec()], "what was not placed is gone");
    // What a crash left behind is no obstacle, whatever it is.
    std::fs::create_dir(dir.path().join("root/etc").join(temp_name(b"f"))).unwrap();
    write(&etc, b"f", b"new", 0o4755);
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    assert_eq!(etc.stat(b"f").unwrap().unwrap().mode, 0o4755);
    assert_eq!(etc.names().unwrap().len(), 1);
    assert!(is_temp_name(temp_name(b"f").as_bytes()) && !is_temp_name(b".drover-x.tmp"));
}

#[test]
fn trees_are_removed_and_symlinks_are_not_followed() {
    let (dir, root) = rooted();
    let deep = dir.path().join("root/etc/d/e/f/g");
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("x"), "x").unwrap();
    std::fs::write(dir.path().join("outside/keep"), "x").unwrap();
    symlink(dir.path().join("outside"), deep.join("link")).unwrap();
    let etc = root.directory(b"/etc").unwrap().unwrap();
    etc.remove_tree(b"d").unwrap();
    etc.remove_tree(b"d").unwrap();
    assert!(etc.names().unwrap().is_empty());
    assert!(dir.path().join("outside/keep").exists());
}

#[test]
fn errors_say_what_is_in_the_way() {
    let (dir, root) = rooted();
    std::fs::write(dir.path().join("root/etc/f"), "").unwrap();
    assert!(matches!(root.parent(b"/etc/f/g"), Err(PathError::NotDirectory { .. })));
    assert!(matches!(root.parent(b"/no/g"), Err(PathError::NoParent { .. })));
    assert!(matches!(root.parent(b"/"), Err(PathError::Form { .. })));
    assert!(matches!(root.parent(b"etc"), Err(PathError::Form { .. })));
    assert!(Rooted::open(&dir.path().join("none")).is_err());
}
