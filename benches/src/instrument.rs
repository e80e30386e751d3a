//! What counts the work of a process: an allocator of its own, callgrind, strace.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// One that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instrument {
    /// [`crate::allocator`], within the process: `allocations` and `allocated_bytes`. What C code
    /// allocates is not seen.
    Allocator,
    /// Of valgrind: `instructions`, those of all threads outside of the kernel.
    Callgrind,
    /// System calls of all threads, by name.
    Strace,
}

/// What was counted, by name.
pub type Counted = BTreeMap<String, i64>;

impl fmt::Display for Instrument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Allocator => "allocator",
            Self::Callgrind => "callgrind",
            Self::Strace => "strace",
        })
    }
}

impl Instrument {
    /// All.
    pub const ALL: [Self; 3] = [Self::Allocator, Self::Callgrind, Self::Strace];

    /// The words under which a program is run, so that what it does is counted into this file.
    #[must_use]
    pub fn words(self, file: &Path) -> Vec<String> {
        let file = file.display();
        let words: &[&str] = match self {
            Self::Allocator => &[],
            Self::Callgrind => &[
                "valgrind",
                "--quiet",
                "--tool=callgrind",
                &format!("--callgrind-out-file={file}"),
            ],
            Self::Strace => &["strace", "-f", "-qq", "-c", "-o", &file.to_string()],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Why it cannot be used on this machine; `None` if it can.
    #[must_use]
    pub fn hindrance(self) -> Option<String> {
        let [program, words @ ..] = &self.words(Path::new("/dev/null"))[..] else { return None };
        let tried = Command::new(program).args(words).arg("true").stdin(Stdio::null()).output();
        match tried {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(format!("there is no {program} here (Debian's package {program})"))
            }
            Err(error) => Some(format!("{program} cannot be started: {error}")),
            Ok(output) if !output.status.success() => {
                let said = String::from_utf8_lossy(&output.stderr);
                let last = said.lines().last().unwrap_or("it says nothing").to_owned();
                Some(format!("{program} does not work here: {last}"))
            }
            Ok(_) => None,
        }
    }

    /// What was counted, from the file; `None` of the allocator, which leaves none.
    ///
    /// # Errors
    /// There is no such file, or it is of another form.
    pub fn read(self, file: &Path) -> io::Result<Option<Counted>> {
        let parse = match self {
            Self::Allocator => return Ok(None),
            Self::Callgrind => instructions,
            Self::Strace => calls,
        };
        let unread = || io::Error::other(format!("no counts of {self} are in {}", file.display()));
        parse(&std::fs::read_to_string(file)?).ok_or_else(unread).map(Some)
    }
}

/// From callgrind's file, whose last line but blank ones is the sum.
fn instructions(text: &str) -> Option<Counted> {
    let mut sums = text.lines().filter_map(|line| line.strip_prefix("totals: "));
    let sum = sums.next_back()?.trim().parse().ok()?;
    Some(Counted::from([("instructions".to_owned(), sum)]))
}

/// From strace's table: `% time  seconds  usecs/call  calls  [errors]  syscall`.
fn calls(text: &str) -> Option<Counted> {
    let mut counted = Counted::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [share, _, _, calls, .., name] = words[..] else { continue };
        if share.parse::<f64>().is_ok() && name != "total" {
            counted.insert(name.to_owned(), calls.parse().ok()?);
        }
    }
    (!counted.is_empty()).then_some(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_callgrind_are_read() {
        let text = "# callgrind format\nevents: Ir\nfn=(1)\n0 12\n\ntotals: 12345\n";
        assert_eq!(instructions(text), Some(Counted::from([("instructions".to_owned(), 12_345)])));
        assert_eq!(instructions("events: Ir\nsummary: 5\n"), None);
    }

    #[test]
    fn tables_of_strace_are_read() {
        let text = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 90.00    0.010000          10      1000         7 recvfrom
 10.00    0.000100           1       100           writev
------ ----------- ----------- --------- --------- ----------------
100.00    0.010100           9      1100         7 total
";
        let expected = [("recvfrom".to_owned(), 1000), ("writev".to_owned(), 100)];
        assert_eq!(calls(text), Some(Counted::from(expected)));
        assert_eq!(calls("strace: ptrace(PTRACE_TRACEME): not permitted\n"), None);
    }
}
