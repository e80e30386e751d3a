//! Trees of files: made with odd names, copied from this machine, and compared.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, Permissions};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// Real directories of this machine that nobody here wrote.
const REAL: [&str; 2] = ["/etc", "/usr/share/doc"];
/// Entries taken of each, so that a test stays one wherever it runs.
const ENTRIES_MAX: usize = 12_000;
/// Larger files are left out.
const SIZE_MAX: u64 = 1024 * 1024;

/// What one entry is; where two trees agree in it for all paths, they are the same tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    kind: u32,
    mode: u32,
    owner: (u32, u32),
    content: Vec<u8>,
}

/// Everything below a directory by its path, the directory itself with an empty one.
pub fn entries(top: &Path) -> BTreeMap<Vec<u8>, Entry> {
    let mut found = BTreeMap::new();
    walk(top, &mut |below, path, meta| {
        let content = if meta.is_symlink() {
            fs::read_link(path).unwrap().into_os_string().into_vec()
        } else if meta.is_file() {
            engine::ids::BlobHash::of(&fs::read(path).unwrap()).0.to_vec()
        } else {
            Vec::new()
        };
        let mode = if meta.is_symlink() { 0 } else { meta.mode() & 0o7777 };
        let (kind, owner) = (meta.mode() & libc::S_IFMT, (meta.uid(), meta.gid()));
        found.insert(below.to_vec(), Entry { kind, mode, owner, content });
    });
    found
}

/// When anything below a directory was last written: inode, modification, change.
pub fn stamps(top: &Path) -> BTreeMap<Vec<u8>, (u64, i64, i64, i64, i64)> {
    let mut found = BTreeMap::new();
    walk(top, &mut |below, _, m| {
        let stamp = (m.ino(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
        found.insert(below.to_vec(), stamp);
    });
    found
}

/// Fails with the first differences, if two trees differ.
pub fn assert_same(source: &Path, arrived: &Path) {
    let (wanted, found) = (entries(source), entries(arrived));
    let missing: Vec<_> = wanted.keys().filter(|path| !found.contains_key(*path)).collect();
    let stray: Vec<_> = found.keys().filter(|path| !wanted.contains_key(*path)).collect();
    let differ: Vec<_> =
        wanted.iter().filter(|(p, e)| found.get(*p).is_some_and(|f| f != *e)).collect();
    let shown = |paths: &[&Vec<u8>]| {
        paths.iter().take(5).map(|p| p.escape_ascii().to_string()).collect::<Vec<_>>()
    };
    let differ_paths: Vec<&Vec<u8>> = differ.iter().map(|(path, _)| *path).collect();
    assert!(
        missing.is_empty() && stray.is_empty() && differ.is_empty(),
        "{} missing {:?}, {} stray {:?}, {} differ {:?}",
        missing.len(),
        shown(&missing),
        stray.len(),
        shown(&stray),
        differ.len(),
        shown(&differ_paths)
    );
}

/// Visits a directory and all below it, without following a symlink.
pub fn walk(top: &Path, visit: &mut dyn FnMut(&[u8], &Path, &Metadata)) {
    let mut open = vec![top.to_owned()];
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        visit(path.strip_prefix(top).unwrap().as_os_str().as_bytes(), &path, &meta);
        if meta.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

/// Copies what can be read of this machine's own directories, with modes; gives the number of
/// entries.
pub fn copy_real(to: &Path) -> usize {
    let mut copied = 0;
    for from in REAL {
        let top = to.join(Path::new(from).file_name().unwrap());
        copied += copy(Path::new(from), &top, ENTRIES_MAX);
    }
    copied
}

fn copy(from: &Path, to: &Path, entries_max: usize) -> usize {
    let mut modes = Vec::new();
    let mut copied = 0;
    let mut open = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = open.pop() {
        let Ok(meta) = fs::symlink_metadata(&from) else { continue };
        if copied == entries_max {
            break;
        }
        if meta.is_dir() {
            let Ok(children) = fs::read_dir(&from) else { continue };
            fs::create_dir(&to).unwrap();
            modes.push((to.clone(), meta.mode()));
            open.extend(children.flatten().map(|c| (c.path(), to.join(c.file_name()))));
        } else if meta.is_symlink() {
            symlink(fs::read_link(&from).unwrap(), &to).unwrap();
        } else if meta.is_file() && meta.len() <= SIZE_MAX {
            let Ok(bytes) = fs::read(&from) else { continue };
            write(&to, &bytes, meta.mode());
        } else {
            continue;
        }
        copied += 1;
    }
    for (dir, mode) in modes.into_iter().rev() {
        fs::set_permissions(dir, Permissions::from_mode(mode & 0o7777)).unwrap();
    }
    copied
}

pub fn write(path: &Path, bytes: &[u8], mode: u32) {
    File::create(path).unwrap().write_all(bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode & 0o7777)).unwrap();
}

/// Names and shapes that break careless programs.
pub fn make_odd(top: &Path) {
    fs::create_dir(top).unwrap();
    let long = "n".repeat(255);
    let names: [&[u8]; 16] = [
        b" leading and trailing ",
        b"new\nline",
        b"tab\tand\x1bescape",
        b"\xff\xfe not UTF-8 \x80",
        b"-rf",
        b"--help",
        b"*",
        b"quote'\"`$(x)\\",
        b"{{ not_a_variable }}",
        b".hidden",
        b"...",
        b"a",
        b"a-b",
        b"a.b",
        "\u{e4}\u{308}\u{1f40e}".as_bytes(),
        long.as_bytes(),
    ];
    for (at, name) in names.into_iter().enumerate() {
        let name = Path::new(OsStr::from_bytes(name));
        write(&top.join(name), format!("file {at}\n").as_bytes(), 0o644);
        let dir = top.join("dirs").join(name);
        fs::create_dir_all(&dir).unwrap();
        write(&dir.join(name), b"", 0o600);
        fs::create_dir_all(top.join("links")).unwrap();
        symlink(name, top.join("links").join(name)).unwrap();
    }
    for (at, mode) in [0o000, 0o400, 0o755, 0o4755, 0o2750, 0o1644, 0o777].into_iter().enumerate() {
        write(&top.join(format!("mode-{at}")), &[b'm'; 3], mode);
    }
    for (at, mode) in [0o500, 0o700, 0o1777, 0o2775].into_iter().enumerate() {
        let dir = top.join(format!("dir-mode-{at}"));
        fs::create_dir(&dir).unwrap();
        write(&dir.join("inside"), b"inside\n", 0o640);
        fs::set_permissions(&dir, Permissions::from_mode(mode)).unwrap();
    }
    let targets: [&[u8]; 6] =
        [b"/", b"..", b"nowhere/at all", b"loop", b"/etc/passwd", &[b'l'; 4000]];
    for (at, target) in targets.into_iter().enumerate() {
        symlink(OsStr::from_bytes(target), top.join(format!("link-{at}"))).unwrap();
    }
    symlink("loop", top.join("loop")).unwrap();
    let mut deep = top.join("deep");
    for level in 0..60 {
        deep.push(format!("level-{level:02}-of-a-rather-long-name"));
    }
    fs::create_dir_all(&deep).unwrap();
    write(&deep.join("bottom"), b"the bottom\n", 0o644);
    fs::create_dir(top.join("wide")).unwrap();
    for n in 0..500 {
        // Half of them have the content of another one.
        write(&top.join(format!("wide/{n}")), format!("{}\n", n / 2).as_bytes(), 0o644);
    }
}

/// The bytes of all different contents of files below a directory.
pub fn distinct_bytes(top: &Path) -> u64 {
    let mut contents = BTreeMap::new();
    walk(top, &mut |_, path, meta| {
        if meta.is_file() {
            let hash = engine::ids::BlobHash::of(&fs::read(path).unwrap());
            contents.insert(hash, meta.len());
        }
    });
    contents.values().sum()
}
