//! The static table: one `name address[:port]` a line.

use crate::config::as_if_with_port;
use crate::ids::{HostName, HostNameError};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Longest table file in bytes.
const FILE_SIZE_MAX: u64 = 256 * 1024 * 1024;

/// Names and their addresses. `#` begins a comment; several lines for one name are several
/// addresses; IPv6 is written `::1` or `[::1]:port`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    names: HashMap<HostName, Vec<SocketAddr>>,
}

/// What is wrong with a table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file cannot be read.
    #[error(
        "the table of names {} cannot be read: {error}; make it, or correct `hosts_table`",
        .path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A line is not `name address[:port]`.
    #[error("{}:{line}: {problem}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        problem: LineProblem,
    },
}

/// What is wrong with a line of a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineProblem {
    /// Not two fields.
    #[error("expected `name address[:port]`, found {0:?}")]
    Fields(String),
    /// No host name.
    #[error(transparent)]
    Name(HostNameError),
    /// No address.
    #[error("{0:?} is no address; write 192.0.2.1, 192.0.2.1:7400, ::1 or [::1]:7400")]
    Address(String),
}

impl Table {
    /// Reads a table.
    ///
    /// # Errors
    /// The first wrong line's number, from 1, and what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, (usize, LineProblem)> {
        let mut names: HashMap<HostName, Vec<SocketAddr>> = HashMap::new();
        for (number, line) in (1..).zip(text.split(|b| *b == b'\n')) {
            let line = line.split(|b| *b == b'#').next().unwrap_or_default().trim_ascii();
            if line.is_empty() {
                continue;
            }
            let (name, addr) = parse_line(line).map_err(|problem| (number, problem))?;
            let addrs = names.entry(name).or_default();
            if !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        Ok(Self { names })
    }

    /// A name's addresses, with port 0 where its line has none.
    #[must_use]
    pub fn addrs(&self, name: &HostName) -> Option<&[SocketAddr]> {
        self.names.get(name).map(Vec::as_slice)
    }

    /// Every name and its addresses, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&HostName, &[SocketAddr])> {
        self.names.iter().map(|(name, addrs)| (name, addrs.as_slice()))
    }

    /// How many names it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Addresses that more than one name has, port included, with those names in order: legal,
    /// but often a slip.
    #[must_use]
    pub fn shared(&self) -> Vec<(SocketAddr, Vec<&HostName>)> {
        let mut by_addr: BTreeMap<SocketAddr, Vec<&HostName>> = BTreeMap::new();
        for (name, addrs) in &self.names {
            addrs.iter().for_each(|addr| by_addr.entry(*addr).or_default().push(name));
        }
        by_addr.values_mut().for_each(|names| names.sort());
        by_addr.into_iter().filter(|(_, names)| names.len() > 1).collect()
    }
}

fn parse_line(line: &[u8]) -> Result<(HostName, SocketAddr), LineProblem> {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let (Some(name), Some(addr), None) = (fields.next(), fields.next(), fields.next()) else {
        return Err(LineProblem::Fields(shown(line)));
    };
    let name = HostName::parse(name).map_err(LineProblem::Name)?;
    let text = shown(addr);
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(&text);
    let with_port = text.parse().ok().filter(|addr: &SocketAddr| addr.port() > 0);
    let alone = || {
        let ip = bare.parse().ok().filter(|_| as_if_with_port(&text).is_none());
        ip.map(|ip: IpAddr| SocketAddr::new(ip, 0))
    };
    Ok((name, with_port.or_else(alone).ok_or(LineProblem::Address(text))?))
}

/// What tells one content of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// A table in a file, read again when that has changed.
#[derive(Debug)]
pub struct TableFile {
    path: PathBuf,
    stamp: Stamp,
    table: Table,
}

impl TableFile {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or has a wrong line.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let stamp = stamp(path)?;
        let mut file = Self { path: path.to_owned(), stamp, table: Table::default() };
        file.load(stamp)?;
        Ok(file)
    }

    /// What it says.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Reads it again if it has changed, and tells whether it was read.
    ///
    /// # Errors
    /// It cannot be read, or has a wrong line; the table is what it was. A file that is wrong is
    /// reported once for each change.
    pub fn refresh(&mut self) -> Result<bool, TableError> {
        let stamp = stamp(&self.path)?;
        if stamp == self.stamp {
            return Ok(false);
        }
        self.load(stamp).map(|()| true)
    }

    /// Reads it again in any case.
    ///
    /// # Errors
    /// As [`TableFile::refresh`].
    pub fn reload(&mut self) -> Result<bool, TableError> {
        let stamp = stamp(&self.path)?;
        self.load(stamp).map(|()| true)
    }

    fn load(&mut self, stamp: Stamp) -> Result<(), TableError> {
        // The stamp was taken before reading: a change in between is then seen the next time.
        self.stamp = stamp;
        let text = fs::read(&self.path).map_err(read_error(&self.path))?;
        self.table = Table::parse(&text).map_err(|(line, problem)| TableError::Line {
            path: self.path.clone(),
            line,
            problem,
        })?;
        for (addr, names) in self.table.shared() {
            log::warn!("{}: {addr} is the address of {names:?}", self.path.display());
        }
        Ok(())
    }
}

fn read_error(path: &Path) -> impl FnOnce(io::Error) -> TableError {
    move |error| TableError::Read { path: path.to_owned(), error }
}

fn stamp(path: &Path) -> Result<Stamp, TableError> {
    let meta = fs::metadata(path).map_err(read_error(path))?;
    if meta.len() > FILE_SIZE_MAX {
        let error = io::Error::new(io::ErrorKind::FileTooLarge, "it is too large for a table");
        return Err(read_error(path)(error));
    }
    Ok(Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.len(),
        changed: (meta.mtime(), meta.mtime_nsec()),
    })
}

#[cfg(test)]
mod tests;
