//! Processes that a bench starts from its own program: pinned to a processor, told by lines what
//! to do, and gone when the bench is.

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A process of the same program with other arguments.
#[derive(Debug)]
pub struct Helper {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts this program with these arguments on these processors: `1`, or `0,1`.
    ///
    /// # Errors
    /// There is no `taskset`, or no process.
    pub fn start(processors: &str, args: &[String]) -> io::Result<Self> {
        Self::under(&["taskset", "-c", processors].map(str::to_owned), args)
    }

    /// Starts this program with these arguments under another one, which these words begin; under
    /// none if there are no words.
    ///
    /// # Errors
    /// There is no such program, or no process.
    pub fn under(words: &[String], args: &[String]) -> io::Result<Self> {
        let own = std::env::current_exe()?;
        let mut command = match words {
            [] => Command::new(own),
            [program, words @ ..] => {
                let mut command = Command::new(program);
                command.args(words).arg(own);
                command
            }
        };
        let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (to, from) = pipes.ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { child, to: Some(to), from: BufReader::new(from) })
    }

    /// The next line that it says.
    ///
    /// # Errors
    /// It has ended.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            return Err(io::Error::other("a process of this bench has ended early"));
        }
        Ok(line.trim_end().to_owned())
    }

    /// Has it do what it does, once, and returns what it says then.
    ///
    /// # Errors
    /// It has ended.
    pub fn go(&mut self) -> io::Result<String> {
        if let Some(to) = &mut self.to {
            writeln!(to, "go")?;
        }
        self.line()
    }

    /// Ends its input, and with it what it does; returns what it says then.
    ///
    /// # Errors
    /// It fails.
    pub fn end(mut self) -> io::Result<String> {
        self.to = None;
        let mut said = String::new();
        self.from.read_to_string(&mut said)?;
        let status = self.child.wait()?;
        if !status.success() {
            return Err(io::Error::other(format!("a process of this bench has failed: {status}")));
        }
        Ok(said.trim_end().to_owned())
    }

    /// Its number to the system.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time that it has taken.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu(&self) -> io::Result<Duration> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        Ok(clock_getcpuclockid(pid)?.now()?.into())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // The end of its input ends it; if it does not listen, it is ended.
        self.to = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In such a process: calls `act` for every line, and says what it returns. It allocates nothing
/// for that, so that what `act` allocates can be counted.
///
/// # Errors
/// `act` fails, or nobody listens any more.
pub fn answer(mut act: impl FnMut() -> io::Result<String>) -> io::Result<()> {
    let mut line = String::new();
    while io::stdin().read_line(&mut line)? > 0 {
        line.clear();
        println!("{}", act()?);
    }
    Ok(())
}
