//! Users and groups by name: `/etc/passwd` and `/etc/group` first, then `getent`, which knows
//! what the name service switch knows (a static binary has none of its own).

use super::command::{Command, CommandEnd};
use crate::executor::stop::StopSwitch;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A name service that answers later than this is taken for silent.
const GETENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Which table a name is looked up in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccountKind {
    /// `passwd`.
    User,
    /// `group`.
    Group,
}

impl AccountKind {
    fn database(self) -> &'static str {
        match self {
            Self::User => "passwd",
            Self::Group => "group",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }
}

/// Why a name has no number.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Nobody knows it.
    #[error("there is no {kind} {name:?} on this host; create it first, or name another")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The table cannot be read.
    #[error("cannot read {path:?}: {source}")]
    Read {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Looks names up; remembers the answers for one run.
pub struct Accounts {
    directory: PathBuf,
    getent: bool,
    known: Mutex<HashMap<(AccountKind, Vec<u8>), u32>>,
}

impl Accounts {
    /// The accounts of this machine.
    #[must_use]
    pub fn of_system() -> Self {
        Self { directory: "/etc".into(), getent: true, known: Mutex::default() }
    }

    /// The number of a name; a name of digits is its own number.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn find(
        &self,
        kind: AccountKind,
        name: &[u8],
        stop: &StopSwitch,
    ) -> Result<u32, AccountError> {
        let text = String::from_utf8_lossy(name);
        match text.parse() {
            // To `chown` the highest means "as it is": nobody has it.
            Ok(u32::MAX) => {}
            Ok(id) => return Ok(id),
            Err(_) => {}
        }
        let key = (kind, name.to_vec());
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = lock().get(&key) {
            return Ok(*id);
        }
        let found = match self.in_file(kind, name)? {
            None if self.getent => by_getent(kind, name, stop),
            found => found,
        };
        let unknown = || AccountError::Unknown { kind: kind.name(), name: text.into_owned() };
        let id = found.ok_or_else(unknown)?;
        lock().insert(key, id);
        Ok(id)
    }

    fn in_file(&self, kind: AccountKind, name: &[u8]) -> Result<Option<u32>, AccountError> {
        let path = self.directory.join(kind.database());
        match std::fs::read(&path) {
            Ok(table) => Ok(find_in_table(&table, name)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(AccountError::Read { path, source }),
        }
    }
}

/// `name:password:number:…`, a line each.
fn find_in_table(table: &[u8], name: &[u8]) -> Option<u32> {
    table.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line.split(|b| *b == b':');
        if fields.next() != Some(name) {
            return None;
        }
        std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()
    })
}

fn by_getent(kind: AccountKind, name: &[u8], stop: &StopSwitch) -> Option<u32> {
    // A name that begins with a dash would be read as an option.
    if name.is_empty() || name.starts_with(b"-") {
        return None;
    }
    let argv = [b"getent".to_vec(), kind.database().into(), name.to_vec()];
    let run = Command { argv: &argv, cwd: None, env: &[], timeout: GETENT_TIMEOUT }.run(stop);
    match run {
        Ok(done) if done.end == CommandEnd::Exited(0) => find_in_table(&done.output, name),
        // No getent, or no such name: the same to the one who asks.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_the_tables_and_digits_need_none() {
        let dir = tempfile::tempdir().unwrap();
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\n\n#c\nbad:x\nworse:x:no:1\ndeploy:x:1007:1008::/:\n";
        std::fs::write(dir.path().join("passwd"), passwd).unwrap();
        let accounts =
            Accounts { directory: dir.path().into(), getent: false, known: Mutex::default() };
        let stop = StopSwitch::new().unwrap();
        let find = |kind, name: &[u8]| accounts.find(kind, name, &stop);
        assert_eq!(find(AccountKind::User, b"deploy").unwrap(), 1007);
        assert_eq!(find(AccountKind::User, b"4711").unwrap(), 4711);
        for unknown in
            [&b"4294967295"[..], b"4294967296", b"bad", b"worse", b"", b"-h", b"\xff", b"deploy:x"]
        {
            let error = find(AccountKind::User, unknown).unwrap_err().to_string();
            assert!(error.contains("create it first"), "{error}");
        }
        assert!(find(AccountKind::Group, b"root").is_err(), "there is no group file");
    }

    #[test]
    fn the_system_knows_root() {
        let stop = StopSwitch::new().unwrap();
        let accounts = Accounts { directory: "/nowhere".into(), ..Accounts::of_system() };
        assert_eq!(accounts.find(AccountKind::User, b"root", &stop).unwrap(), 0, "by getent");
        assert!(Accounts::of_system().find(AccountKind::Group, b"no-such-group", &stop).is_err());
    }
}
