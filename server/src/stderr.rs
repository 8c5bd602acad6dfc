//! The lines that the program logs, on their way to stderr: who logs never waits, and never fails.
//!
//! Lines gather in a bounded buffer, which a thread of its own writes. What finds the buffer full, and
//! what cannot be written (a full disk, a pipe whose reader has gone), is lost; how many lines that
//! were is logged as soon as there is a way again.

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most bytes that wait to be written: past it lines are lost.
const WAITING_BYTES_MAX: usize = 256 << 10;

/// How soon a target that can take nothing at the moment is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// Takes whole lines, one a write.
#[derive(Default)]
pub(crate) struct Lines {
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Lines that are lost and not told of yet.
    lost: u64,
    is_writing: bool,
}

impl Lines {
    /// Starts the thread that writes to stderr; `count` gets how many lines were lost.
    ///
    /// # Errors
    /// What the system says where it starts no thread.
    pub(crate) fn start(count: fn(u64)) -> io::Result<Arc<Self>> {
        // A descriptor 2 that was closed is /dev/null by now, which Rust's runtime sees to: no file that
        // is opened later is taken for stderr.
        Self::start_to(io::stderr(), move |lost| {
            count(lost);
            tracing::warn!("{lost} lines of this log are lost, as they could not be written");
        })
    }

    fn start_to(
        target: impl Write + Send + 'static,
        tell_lost: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let lines = Arc::new(Lines::default());
        let of_thread = Arc::clone(&lines);
        std::thread::Builder::new()
            .name("stderr".into())
            .spawn(move || of_thread.write_on(target, tell_lost))?;
        Ok(lines)
    }

    /// Waits until everything is written or lost, for so long at most.
    pub(crate) fn flush(&self, time_max: Duration) {
        let is_busy = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        let waited = self
            .written
            .wait_timeout_while(self.lock(), time_max, is_busy);
        drop(waited);
    }

    fn write_on(&self, target: impl Write, tell_lost: impl Fn(u64)) {
        let mut out = Out {
            target,
            is_cut: false,
        };
        loop {
            let lines = self.take();
            match out.write(&lines) {
                Ok(()) => {
                    let lost = std::mem::take(&mut self.lock().lost);
                    if lost > 0 {
                        tell_lost(lost);
                    }
                }
                Err(rest) => self.lock().lost += count(rest),
            }
        }
    }

    /// What waits, once there is something.
    fn take(&self) -> Vec<u8> {
        let mut state = self.lock();
        state.is_writing = false;
        self.written.notify_all();
        let filled = self
            .filled
            .wait_while(state, |state| state.waiting.is_empty());
        let mut state = filled.unwrap_or_else(PoisonError::into_inner);
        state.is_writing = true;
        std::mem::take(&mut state.waiting)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > WAITING_BYTES_MAX {
            state.lost += count(line);
        } else {
            state.waiting.extend_from_slice(line);
            self.filled.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that end in these octets.
fn count(octets: &[u8]) -> u64 {
    octets.iter().filter(|&&octet| octet == b'\n').count() as u64
}

struct Out<W> {
    target: W,
    /// What was written last is no whole line.
    is_cut: bool,
}

impl<W: Write> Out<W> {
    /// Writes lines, or gives back what of them is lost.
    fn write<'a>(&mut self, lines: &'a [u8]) -> Result<(), &'a [u8]> {
        if self.is_cut {
            self.write_all(b"\n").map_err(|_| lines)?;
        }
        self.write_all(lines)
    }

    fn write_all<'a>(&mut self, mut octets: &'a [u8]) -> Result<(), &'a [u8]> {
        while !octets.is_empty() {
            match self.target.write(octets) {
                Ok(0) => return Err(octets),
                Ok(count) => {
                    self.is_cut = octets[count - 1] != b'\n';
                    octets = &octets[count..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Whoever started the program may have made a pipe or a terminal that does not block.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(RETRY_AFTER);
                }
                Err(_) => return Err(octets),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// How long anything may take that is expected to happen.
    const SOON: Duration = Duration::from_secs(20);

    /// A target that answers each write as it is told, and tells what it took.
    struct Target {
        answers: Receiver<io::Result<usize>>,
        taken: Sender<Vec<u8>>,
    }

    impl Write for Target {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            // Nobody answers any more: as a pipe that nobody reads.
            let Ok(answer) = self.answers.recv() else {
                loop {
                    std::thread::park();
                }
            };
            let count = answer?.min(octets.len());
            drop(self.taken.send(octets[..count].to_vec()));
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    type Bench = (Arc<Lines>, Sender<io::Result<usize>>, Receiver<Vec<u8>>);

    fn start() -> Bench {
        let (answer, answers) = channel();
        let (taken, took) = channel();
        let (give, given) = channel::<Arc<Lines>>();
        let lines = Lines::start_to(Target { answers, taken }, move |lost| {
            let lines = given.recv().unwrap();
            writeln!(&*lines, "{lost} lost").unwrap();
        });
        let lines = lines.unwrap();
        for _ in 0..8 {
            give.send(Arc::clone(&lines)).unwrap();
        }
        (lines, answer, took)
    }

    fn log(lines: &Lines, line: &str) {
        let mut lines = lines;
        lines.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Everything that goes out until these words do.
    fn read_until(took: &Receiver<Vec<u8>>, words: &str) -> String {
        let mut read = String::new();
        while !read.contains(words) {
            let octets = took.recv_timeout(SOON);
            let octets = octets.unwrap_or_else(|_| panic!("no `{words}` in {read:?}"));
            read += std::str::from_utf8(&octets).unwrap();
        }
        read
    }

    /// Waits until the thread has taken all that waits.
    fn until_taken(lines: &Lines) {
        while !lines.lock().waiting.is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn lines_go_out_in_their_order_however_many_writes_it_takes() {
        let (lines, answer, took) = start();
        answer.send(Ok(3)).unwrap();
        answer.send(Err(ErrorKind::Interrupted.into())).unwrap();
        answer.send(Err(ErrorKind::WouldBlock.into())).unwrap();
        (0..20).for_each(|_| answer.send(Ok(usize::MAX)).unwrap());
        for number in 0..5 {
            log(&lines, &format!("line {number}"));
        }
        lines.flush(SOON);
        let expected: String = (0..5).map(|number| format!("line {number}\n")).collect();
        assert_eq!(read_until(&took, "line 4\n"), expected);
    }

    #[test]
    fn what_cannot_be_written_is_lost_counted_and_told() {
        for kind in [ErrorKind::StorageFull, ErrorKind::BrokenPipe] {
            let (lines, answer, took) = start();
            let failed = || answer.send(Err(kind.into())).unwrap();
            for line in ["one", "two\nthree"] {
                failed();
                log(&lines, line);
                lines.flush(SOON);
            }
            // There is room for half a line, which is lost all the same.
            answer.send(Ok(2)).unwrap();
            failed();
            log(&lines, "four");
            lines.flush(SOON);
            (0..20).for_each(|_| answer.send(Ok(usize::MAX)).unwrap());
            log(&lines, "five");
            assert_eq!(read_until(&took, "lost\n"), "fo\nfive\n4 lost\n");
            lines.flush(SOON);
            log(&lines, "six");
            assert_eq!(read_until(&took, "six\n"), "six\n", "told once");
        }
    }

    #[test]
    fn a_target_that_takes_nothing_holds_nobody_up_and_little_waits_for_it() {
        let (lines, answer, took) = start();
        log(&lines, "first");
        until_taken(&lines);
        let line = "x".repeat(99);
        for _ in 0..10_000 {
            log(&lines, &line);
        }
        assert!(lines.lock().waiting.len() <= WAITING_BYTES_MAX);
        let lost = 10_000 - WAITING_BYTES_MAX / 100;
        assert_eq!(lines.lock().lost, lost as u64);
        // Nor does it hold up the end.
        lines.flush(Duration::from_millis(50));
        (0..20).for_each(|_| answer.send(Ok(usize::MAX)).unwrap());
        let read = read_until(&took, "lost\n");
        assert!(read.starts_with("first\nxxx"));
        assert!(read.ends_with(&format!("x\n{lost} lost\n")));
        assert_eq!(read.lines().count(), 10_002 - lost);
    }

    #[test]
    fn what_waits_is_written_before_the_end() {
        let (lines, answer, took) = start();
        log(&lines, "last words");
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            answer.send(Ok(usize::MAX)).unwrap();
            answer
        });
        lines.flush(SOON);
        assert_eq!(took.try_recv().as_deref(), Ok(&b"last words\n"[..]));
        drop(writer.join().unwrap());
    }
}
