//! What a catalog says of a resource, read and checked.

use super::EXEC_TIMEOUT_DEFAULT;
use crate::provider::rooted::{is_absolute_path, shown};
use engine::ids::BlobHash;
use engine::release::ArchivedResource;
use std::time::Duration;

/// One resource, as this client understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// A regular file with content from the release.
    File(FileSpec),
    /// Nothing may be at this path.
    Absent {
        /// Which.
        path: Vec<u8>,
    },
    /// A directory, perhaps with all that is in it.
    Directory(DirectorySpec),
    /// A symlink.
    Symlink {
        /// Where.
        path: Vec<u8>,
        /// Where to.
        target: Vec<u8>,
    },
    /// A command.
    Exec(ExecSpec),
}

/// Owner and group by name or number; `None` is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnerSpec {
    /// User.
    pub owner: Option<Vec<u8>>,
    /// Group.
    pub group: Option<Vec<u8>>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// Where.
    pub path: Vec<u8>,
    /// Its content.
    pub hash: BlobHash,
    /// Bytes of its content.
    pub size: u64,
    /// Permission bits; `None` leaves them, and gives a new file 0644.
    pub mode: Option<u32>,
    /// Whose.
    pub owner: OwnerSpec,
}

/// A directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectorySpec {
    /// Where.
    pub path: Vec<u8>,
    /// Its own permission bits; `None` takes the tree's, or leaves them.
    pub mode: Option<u32>,
    /// Whose.
    pub owner: OwnerSpec,
    /// Whether owner and group are those of all that is in it, too.
    pub recurse: bool,
    /// Whether what is neither in the tree nor managed otherwise is removed.
    pub purge: bool,
    /// What is in it.
    pub tree: Option<BlobHash>,
}

impl DirectorySpec {
    /// Whether it manages more than the directory itself.
    #[must_use]
    pub fn reaches_below(&self) -> bool {
        self.tree.is_some() || self.recurse || self.purge
    }
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSpec {
    /// Program and arguments.
    pub command: Vec<Vec<u8>>,
    /// It runs only if this path is missing.
    pub creates: Option<Vec<u8>>,
    /// It runs only if this command fails; empty: no condition.
    pub unless: Vec<Vec<u8>>,
    /// It runs only if this command succeeds; empty: no condition.
    pub only_if: Vec<Vec<u8>>,
    /// Its process group is ended after this.
    pub timeout: Duration,
    /// Where it runs.
    pub cwd: Option<Vec<u8>>,
    /// `NAME=VALUE`.
    pub env: Vec<Vec<u8>>,
}

/// What a catalog says that this client does not understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A kind.
    #[error(
        "this version of drover-client has no resources of kind {kind:?} (it has file, absent, directory, symlink, exec): update it"
    )]
    UnknownKind {
        /// Which.
        kind: String,
    },
    /// An attribute.
    #[error(
        "this version of drover-client does not know the attribute {attribute:?} of {kind}: update it"
    )]
    UnknownAttribute {
        /// Of which kind.
        kind: String,
        /// Which.
        attribute: String,
    },
    /// An attribute that must be there is not.
    #[error("the {kind} lacks its {attribute}: publish again")]
    MissingAttribute {
        /// Of which kind.
        kind: String,
        /// Which.
        attribute: &'static str,
    },
    /// A value that is none.
    #[error("{attribute} is {found:?}: {expected}")]
    BadValue {
        /// Of which attribute.
        attribute: &'static str,
        /// The value.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
}

struct Attributes<'a> {
    resource: &'a ArchivedResource,
}

impl<'a> Attributes<'a> {
    fn values(&self, key: &str) -> Option<impl Iterator<Item = &'a [u8]> + use<'a>> {
        let attribute = self.resource.attributes.iter().find(|a| a.key.as_str() == key)?;
        Some(attribute.values.iter().map(|v| v.as_slice()))
    }

    fn list(&self, key: &str) -> Vec<Vec<u8>> {
        self.values(key).into_iter().flatten().map(<[u8]>::to_vec).collect()
    }

    fn value(&self, key: &str) -> Option<&'a [u8]> {
        self.values(key)?.next()
    }

    fn owned(&self, key: &str) -> Option<Vec<u8>> {
        self.value(key).map(<[u8]>::to_vec)
    }

    fn parsed<T>(
        &self,
        key: &'static str,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, SpecError> {
        let Some(found) = self.value(key) else { return Ok(None) };
        let parsed = std::str::from_utf8(found).ok().and_then(parse);
        let bad = || SpecError::BadValue { attribute: key, found: shown(found), expected };
        parsed.ok_or_else(bad).map(Some)
    }

    fn flag(&self, key: &'static str) -> Result<bool, SpecError> {
        let flag = self.parsed(key, "write true or false", |t| t.parse().ok())?;
        Ok(flag.unwrap_or(false))
    }

    fn mode(&self) -> Result<Option<u32>, SpecError> {
        let octal = |t: &str| u32::from_str_radix(t, 8).ok().filter(|m| *m <= 0o7777);
        self.parsed("mode", "write octal digits, such as 0644", octal)
    }

    fn hash(&self, key: &'static str) -> Result<Option<BlobHash>, SpecError> {
        let Some(found) = self.value(key) else { return Ok(None) };
        let expected = "it must have 32 bytes: publish again";
        let bad = |_| SpecError::BadValue { attribute: key, found: shown(found), expected };
        found.try_into().map(|h| Some(BlobHash(h))).map_err(bad)
    }

    fn owner(&self) -> OwnerSpec {
        OwnerSpec { owner: self.owned("owner"), group: self.owned("group") }
    }

    fn missing(&self, attribute: &'static str) -> SpecError {
        SpecError::MissingAttribute { kind: self.resource.kind.as_str().to_owned(), attribute }
    }

    /// The resource's name, which is a path.
    fn path(&self) -> Result<Vec<u8>, SpecError> {
        absolute("name", self.resource.name.as_slice())
    }
}

fn absolute(attribute: &'static str, path: &[u8]) -> Result<Vec<u8>, SpecError> {
    // `/etc/ssh/` names the same as `/etc/ssh`.
    let path = path.strip_suffix(b"/").filter(|p| !p.is_empty()).unwrap_or(path);
    let expected = "write an absolute path without '.', '..' or '//'";
    match is_absolute_path(path) {
        true => Ok(path.to_vec()),
        false => Err(SpecError::BadValue { attribute, found: shown(path), expected }),
    }
}

/// What a policy may say of each kind.
const KINDS: [(&str, &[&str]); 5] = [
    ("file", &["blob", "hash", "size", "mode", "owner", "group"]),
    ("absent", &[]),
    (
        "directory",
        &["mode", "owner", "group", "recurse", "purge", "tree", "tree_blob", "tree_size"],
    ),
    ("symlink", &["target"]),
    ("exec", &["command", "creates", "unless", "only_if", "timeout_ms", "cwd", "env"]),
];

impl Spec {
    /// Reads a resource of a catalog.
    ///
    /// # Errors
    /// [`SpecError`]: what this client does not understand is an error, never ignored.
    pub fn read(resource: &ArchivedResource) -> Result<Self, SpecError> {
        let kind = resource.kind.as_str();
        let known = KINDS.iter().find(|(name, _)| *name == kind);
        let (_, keys) = known.ok_or_else(|| SpecError::UnknownKind { kind: kind.to_owned() })?;
        if let Some(odd) = resource.attributes.iter().find(|a| !keys.contains(&a.key.as_str())) {
            let attribute = odd.key.as_str().to_owned();
            return Err(SpecError::UnknownAttribute { kind: kind.to_owned(), attribute });
        }
        let attributes = Attributes { resource };
        match kind {
            "file" => attributes.file().map(Self::File),
            "absent" => Ok(Self::Absent { path: attributes.path()? }),
            "directory" => attributes.directory().map(Self::Directory),
            "symlink" => attributes.symlink(),
            _ => attributes.exec().map(Self::Exec),
        }
    }
}

impl Attributes<'_> {
    fn file(&self) -> Result<FileSpec, SpecError> {
        let size = self.parsed("size", "it must be a number: publish again", |t| t.parse().ok())?;
        Ok(FileSpec {
            path: self.path()?,
            hash: self.hash("hash")?.ok_or_else(|| self.missing("hash"))?,
            size: size.ok_or_else(|| self.missing("size"))?,
            mode: self.mode()?,
            owner: self.owner(),
        })
    }

    fn directory(&self) -> Result<DirectorySpec, SpecError> {
        Ok(DirectorySpec {
            path: self.path()?,
            mode: self.mode()?,
            owner: self.owner(),
            recurse: self.flag("recurse")?,
            purge: self.flag("purge")?,
            tree: self.hash("tree")?,
        })
    }

    fn symlink(&self) -> Result<Spec, SpecError> {
        let target = self.owned("target").ok_or_else(|| self.missing("target"))?;
        if target.is_empty() || target.contains(&0) {
            let expected = "write the path that it leads to";
            let found = shown(&target);
            return Err(SpecError::BadValue { attribute: "target", found, expected });
        }
        Ok(Spec::Symlink { path: self.path()?, target })
    }

    fn exec(&self) -> Result<ExecSpec, SpecError> {
        let command = self.list("command");
        if command.is_empty() {
            return Err(self.missing("command"));
        }
        let (unless, only_if, env) = (self.list("unless"), self.list("only_if"), self.list("env"));
        let all =
            [("command", &command), ("unless", &unless), ("only_if", &only_if), ("env", &env)];
        for (attribute, words) in all {
            if let Some(word) = words.iter().find(|w| w.contains(&0)) {
                let expected = "a zero byte cannot be passed to a command";
                return Err(SpecError::BadValue { attribute, found: shown(word), expected });
            }
        }
        let is_pair = |p: &&Vec<u8>| p.iter().position(|b| *b == b'=').is_some_and(|at| at > 0);
        if let Some(odd) = env.iter().find(|p| !is_pair(p)) {
            let expected = "write NAME=VALUE";
            return Err(SpecError::BadValue { attribute: "env", found: shown(odd), expected });
        }
        let path = |key| self.value(key).map(|p| absolute(key, p)).transpose();
        let ms =
            self.parsed("timeout_ms", "it must be a number: publish again", |t| t.parse().ok());
        Ok(ExecSpec {
            creates: path("creates")?,
            cwd: path("cwd")?,
            timeout: ms?.map_or(EXEC_TIMEOUT_DEFAULT, Duration::from_millis),
            command,
            unless,
            only_if,
            env,
        })
    }
}
