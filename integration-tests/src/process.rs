//! Processes that end with the test process, however that one ends.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::until;

/// A running process. Killed when dropped; its output is printed if a test fails meanwhile.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    child: Mutex<Child>,
    output: Output,
    /// Whether its output is to be read no more.
    deaf: Arc<AtomicBool>,
}

/// Everything a process has written so far, both streams together.
type Output = Arc<Mutex<Vec<String>>>;

impl Process {
    /// Starts a program found on the path.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        Self::start_with(name, program, args, &[])
    }

    /// The same, with more variables in its environment.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start_with<A: AsRef<OsStr>>(
        name: &str,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = A>,
        variables: &[(String, String)],
    ) -> Self {
        // The kernel kills the child when the thread that started it ends: no guard of ours could
        // run if this process is killed.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            // Signals may be ignored here: under `nohup`, or in the background of a script.
            .args(["env", "--default-signal"])
            .arg(program)
            .args(args)
            .envs(variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = spawn_from_lasting_thread(command)
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let (output, deaf) = (Output::default(), Arc::<AtomicBool>::default());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        collect(stdout.expect("piped"), output.clone(), deaf.clone());
        collect(stderr.expect("piped"), output.clone(), deaf.clone());
        Self {
            name: name.into(),
            pid: Pid::from_child(&child),
            child: Mutex::new(child),
            output,
            deaf,
        }
    }

    /// Returns its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal.
    ///
    /// # Panics
    ///
    /// If there is no such process any more.
    pub fn signal(&self, signal: Signal) {
        assert!(self.ended().is_none(), "{} ended", self.name);
        kill_process(self.pid, signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Sends a signal by its number, to more processes too.
    ///
    /// # Panics
    ///
    /// If there is no such process any more.
    pub fn signal_number(&self, number: i32, more: Option<Pid>) {
        let pids = [Some(self.pid), more].into_iter().flatten();
        let pids = pids.map(|pid| pid.as_raw_nonzero().to_string());
        let sent = Command::new("kill")
            .arg(format!("-{number}"))
            .args(pids)
            .status();
        let sent = sent.expect("`kill` is installed");
        assert!(sent.success(), "{}: signal {number}", self.name);
    }

    /// Returns the first of its own children, if it has any.
    pub fn first_child(&self) -> Option<Pid> {
        let pid = self.pid.as_raw_nonzero();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let first = children.split_whitespace().next()?.parse().ok()?;
        Pid::from_raw(first)
    }

    /// Kills it without goodbye, and waits until it is gone. Fine if it already is.
    pub fn kill(&self) {
        let mut child = self.child();
        // An error means that it has ended by itself.
        drop(child.kill());
        drop(child.wait());
    }

    /// Returns how it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("our own child")
    }

    /// Waits until it ends by itself and all that it wrote has been read.
    pub async fn end(&self) -> ExitStatus {
        until(&format!("{} ends", self.name), async || {
            let ended = self.ended().filter(|_| self.is_read());
            ended.ok_or_else(|| self.output())
        })
        .await
    }

    /// Reads one more line of each stream, and then closes it, as a log's reader does that ends.
    /// Whatever the process writes later fails.
    pub fn hang_up(&self) {
        self.deaf.store(true, Ordering::Relaxed);
    }

    /// Returns how many of its streams are read.
    pub fn streams_read(&self) -> usize {
        Arc::strong_count(&self.output) - 1
    }

    /// Whether both streams have ended: each has a reader that lasts as long as the stream.
    fn is_read(&self) -> bool {
        self.streams_read() == 0
    }

    /// Waits for a line of output, and returns what `find` makes of it.
    ///
    /// # Panics
    ///
    /// If it never comes, or the process ends first.
    pub async fn line<T>(&self, goal: &str, find: impl Fn(&str) -> Option<T>) -> T {
        until(goal, async || {
            // Looked at before the output, so that no last line is missed.
            let ended = self.ended();
            let found = self.lines(|lines| lines.iter().find_map(|line| find(line)));
            found.ok_or_else(|| {
                let output = self.output();
                assert!(ended.is_none(), "{} ended: {output}", self.name);
                output
            })
        })
        .await
    }

    /// Returns everything it has written so far.
    pub fn output(&self) -> String {
        self.lines(|lines| lines.join("\n"))
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines<T>(&self, read: impl FnOnce(&[String]) -> T) -> T {
        read(&self.output.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- {} wrote:\n{}", self.name, self.output());
        }
    }
}

/// Starts a command from a thread that lasts as long as this process. Tests run in threads of
/// their own, and what several tests share must not end with the first of them.
fn spawn_from_lasting_thread(command: Command) -> std::io::Result<Child> {
    type Request = (Command, mpsc::Sender<std::io::Result<Child>>);
    static NURSERY: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let nursery = NURSERY.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, reply) in receiver {
                reply.send(command.spawn()).expect("somebody waits");
            }
        });
        sender
    });
    let (reply, child) = mpsc::channel();
    nursery.send((command, reply)).expect("the thread lasts");
    child.recv().expect("the thread lasts")
}

fn collect(stream: impl Read + Send + 'static, output: Output, deaf: Arc<AtomicBool>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut lines = output.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push(line);
            if deaf.load(Ordering::Relaxed) {
                return;
            }
        }
    });
}
