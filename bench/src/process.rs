//! The program that is measured, as a child process on a core of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// The core of the program that is measured; the load comes from the next.
const CORE: usize = 0;

/// A child that listens; it is killed at the end.
pub(crate) struct Program {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Program {
    /// Starts the server on a fresh data directory, with no rate.
    pub(crate) fn server(binary: &Path, data_dir: &Path) -> Result<Self> {
        Self::server_with(
            binary,
            data_dir,
            &["--room-rate", "0", "--message-rate", "0"],
        )
    }

    /// Starts the server on a fresh data directory, with these options.
    pub(crate) fn server_with(binary: &Path, data_dir: &Path, options: &[&str]) -> Result<Self> {
        let mut command = Command::new(binary);
        command
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .args(options);
        Self::start(command).with_context(|| format!("{} does not start", binary.display()))
    }

    /// Starts the bare copier.
    pub(crate) fn copier() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("copier");
        Self::start(command).context("the copier does not start")
    }

    fn start(mut command: Command) -> Result<Self> {
        // A child inherits the core of the thread that starts it.
        pin(CORE);
        let child = command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn();
        pin(CORE + 1);
        let mut child = child?;
        let mut lines = BufReader::new(child.stderr.take().context("stderr is piped")?).lines();
        let address = loop {
            let Some(line) = lines.next() else {
                bail!("it ended before it listened");
            };
            if let Some((_, address)) = line?.split_once("http://") {
                break address.trim().parse()?;
            }
        };
        // Nobody reads what it logs later; a full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Program { child, address })
    }

    /// The processor time that it has used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Fields 14 and 15, after the name in parentheses, in ticks of 10 ms (proc(5)).
        let fields = stat.rsplit_once(')').context("no process name")?.1;
        let ticks = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse::<u64>);
        Ok(Duration::from_millis(10 * ticks.sum::<Result<u64, _>>()?))
    }

    /// The processor time that its threads of this name have used, in ticks of 10 ms.
    pub(crate) fn cpu_of(&self, name: &str) -> Result<Duration> {
        let mut ticks = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
            let (head, fields) = stat.rsplit_once(')').context("no name of a thread")?;
            if head.split_once('(').is_some_and(|(_, found)| found == name) {
                let fields = fields.split_whitespace().skip(11).take(2);
                ticks += fields.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
            }
        }
        Ok(Duration::from_millis(10 * ticks))
    }

    /// Its resident memory, in bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line
            .and_then(|line| line.split_whitespace().next())
            .context("no VmRSS")?;
        Ok(kib.parse::<u64>()? * 1024)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that is gone already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps this thread on one core, where there are two and the system lets us.
fn pin(core: usize) {
    has_two_cores();
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(id) = cores.get(core) {
        core_affinity::set_for_current(*id);
    }
}

/// Whether there is one core for the program and one for the load.
pub(crate) fn has_two_cores() -> bool {
    // Asked before the first pinning, which would hide the others.
    static HAS_TWO: OnceLock<bool> = OnceLock::new();
    *HAS_TWO
        .get_or_init(|| core_affinity::get_core_ids().is_some_and(|cores| cores.len() > CORE + 1))
}
