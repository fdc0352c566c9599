use std::{
    ffi::OsStr,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::measure::process::descendants;

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that is killed with all its descendants when dropped.
pub struct Process {
    child: Child,
}

impl Process {
    /// A command for `program`, bound to `core` if given.
    pub fn command(program: impl AsRef<OsStr>, core: Option<usize>) -> Command {
        match core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(program);
                command
            }
            None => Command::new(program),
        }
    }

    /// Starts the command in a process group of its own, without input.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null());
        Self::spawn(command)
    }

    /// Like [`Process::start`], with a pipe as input.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start_with_input(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped());
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Result<Self> {
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child process, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Checks that the process still runs.
    ///
    /// # Errors
    /// If the process has ended, with its exit status.
    pub fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("the process ended: {status}"),
            None => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let below = descendants(self.id());
        if let Some(group) = Pid::from_raw(self.id() as i32) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        for pid in below.into_iter().filter_map(|pid| Pid::from_raw(pid as i32)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// The path of this program, which also runs the raw write loop and the worker processes.
///
/// # Errors
/// If the system does not know the path.
pub fn own_binary() -> Result<PathBuf> {
    std::env::current_exe().context("the system does not know the path of this program")
}

/// A free port of the loopback interface.
///
/// # Errors
/// If there is no free port.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Waits until the process accepts connections at the address.
///
/// # Errors
/// If the process ends, or does not listen within 20 s.
pub fn wait_until_listening(process: &mut Process, address: SocketAddr) -> Result<()> {
    let began = Instant::now();
    while TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err() {
        process.still_runs()?;
        if began.elapsed() > PATIENCE {
            bail!("no server listens on {address} after {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
