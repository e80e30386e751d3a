//! Processes that a bench starts: of its own program, pinned to a processor and told by lines what
//! to do, or of somebody else's. They are gone when the bench is.

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

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
        self.ask("go")
    }

    /// Gives it an order, and returns what it says then.
    ///
    /// # Errors
    /// It has ended.
    pub fn ask(&mut self, order: &str) -> io::Result<String> {
        if let Some(to) = &mut self.to {
            writeln!(to, "{order}")?;
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
}

fn cpu(child: &Child) -> io::Result<Duration> {
    let pid = Pid::from_raw(child.id().cast_signed());
    Ok(clock_getcpuclockid(pid)?.now()?.into())
}

impl Drop for Helper {
    fn drop(&mut self) {
        // The end of its input ends it; if it does not listen, it is ended.
        self.to = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In such a process: calls `act` for every line, and says what it returns.
///
/// # Errors
/// `act` fails, or nobody listens any more.
pub fn answer(mut act: impl FnMut() -> io::Result<String>) -> io::Result<()> {
    obey(|_| {
        println!("{}", act()?);
        Ok(())
    })
}

/// In such a process: calls `act` with every order, until no more can come. It allocates nothing for
/// that, so that what `act` allocates can be counted.
///
/// # Errors
/// `act` fails.
pub fn obey(mut act: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
    let mut line = String::new();
    while io::stdin().read_line(&mut line)? > 0 {
        act(line.trim_end())?;
        line.clear();
    }
    Ok(())
}

/// A server of somebody else's, to compare with; it ends with this.
#[derive(Debug)]
pub struct Foreign {
    child: Child,
    /// Where it listens.
    pub at: SocketAddr,
}

impl Foreign {
    /// Starts a program on these processors with the arguments that are made for an address of
    /// this machine where nobody listens; `None`, said aloud, if there is no such program.
    ///
    /// # Errors
    /// It does not listen there.
    pub fn start(
        processors: &str,
        program: &str,
        package: &str,
        args: impl FnOnce(SocketAddr) -> io::Result<Vec<String>>,
    ) -> io::Result<Option<Self>> {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        // Where Debian has its servers is not in everybody's search path.
        let dirs = std::env::split_paths(&paths).chain([PathBuf::from("/usr/sbin")]);
        let Some(path) = dirs.map(|dir| dir.join(program)).find(|path| path.is_file()) else {
            println!("there is no {program} here: it is left out (Debian's package {package})");
            return Ok(None);
        };
        let at = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let child = Command::new("taskset")
            .args(["-c", processors])
            .arg(path)
            .args(args(at)?)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let server = Self { child, at };
        let begun = Instant::now();
        while TcpStream::connect(at).is_err() {
            if begun.elapsed() > Duration::from_secs(10) {
                return Err(io::Error::other(format!("{program} does not listen")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(server))
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process of which it can be told how much it has worked.
pub trait Worker {
    /// CPU time that it has taken, of all its threads.
    ///
    /// # Errors
    /// It has ended.
    fn cpu(&self) -> io::Result<Duration>;
}

impl Worker for Helper {
    fn cpu(&self) -> io::Result<Duration> {
        cpu(&self.child)
    }
}

impl Worker for Foreign {
    fn cpu(&self) -> io::Result<Duration> {
        cpu(&self.child)
    }
}
