//! A child process that works on what strangers sent, contained (prctl(2), setrlimit(2),
//! unshare(2), close_range(2)): its own process group, an environment of nothing but `PATH`, no
//! descriptors but its three pipes, limits on memory, CPU time and files, no new privileges, no
//! sockets of a network and, where it may, a network namespace of its own, and killed when the thread
//! that started it ends, whatever ends it.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use mio::unix::pipe::{Receiver, Sender};
use mio::{Interest, Registry, Token};
use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::child_sockets;
use crate::limits::{
    VIDEO_CHILD_CPU_ALLOWANCE, VIDEO_CHILD_FILES_MAX, VIDEO_CHILD_MEMORY_BYTES_MAX,
    VIDEO_CHILD_NICENESS, VIDEO_STDERR_BYTES_MAX,
};

/// Where programs are looked for when the server itself has no `PATH`.
pub(super) const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// The first descriptor that is not one of the three pipes.
const FIRST_OTHER_DESCRIPTOR: libc::c_uint = 3;
/// One read of the standard error, in bytes.
const STDERR_READ_BYTES: usize = 4 * 1_024;

/// What a child may do.
#[derive(Debug, Clone, Default)]
pub struct Containment {
    /// The CPUs it may run on; empty: those of the server.
    pub cpus: Vec<usize>,
    /// Whether its memory is limited: not with drivers that reserve address space without measure.
    pub limit_memory: bool,
}

/// The pipes' tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct PipeTokens {
    pub(super) stdin: Token,
    pub(super) stdout: Token,
    pub(super) stderr: Token,
}

/// What came of reading or writing a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piped {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Blocked,
    /// The child has closed its end.
    Closed,
}

/// A running child. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub(super) struct ChildProcess {
    process: std::process::Child,
    group: Pid,
    /// Until all was written.
    stdin: Option<Sender>,
    stdout: Receiver,
    stderr: Receiver,
    said: Vec<u8>,
    ended: Option<ExitStatus>,
}

impl ChildProcess {
    /// Starts `program` and registers its pipes.
    ///
    /// # Errors
    /// When it is not found ([`ErrorKind::NotFound`]) or the system refuses.
    pub(super) fn start(
        program: &str,
        arguments: &[String],
        containment: &Containment,
        registry: &Registry,
        tokens: PipeTokens,
    ) -> io::Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(DEFAULT_PATH));
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", path)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        Fetters::of(containment).put_on(&mut command);
        let mut process = command.spawn()?;
        let taken = (
            process.stdin.take(),
            process.stdout.take(),
            process.stderr.take(),
        );
        let (Some(stdin), Some(stdout), Some(stderr)) = taken else {
            return Err(ErrorKind::BrokenPipe.into());
        };
        let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
        let mut child = Self {
            process,
            group: pid.ok_or(ErrorKind::InvalidData)?,
            stdin: Some(Sender::from(stdin)),
            stdout: Receiver::from(stdout),
            stderr: Receiver::from(stderr),
            said: Vec::new(),
            ended: None,
        };
        child.register(registry, tokens)?;
        Ok(child)
    }

    fn register(&mut self, registry: &Registry, tokens: PipeTokens) -> io::Result<()> {
        if let Some(stdin) = &mut self.stdin {
            stdin.set_nonblocking(true)?;
            registry.register(stdin, tokens.stdin, Interest::WRITABLE)?;
        }
        self.stdout.set_nonblocking(true)?;
        self.stderr.set_nonblocking(true)?;
        registry.register(&mut self.stdout, tokens.stdout, Interest::READABLE)?;
        registry.register(&mut self.stderr, tokens.stderr, Interest::READABLE)
    }

    /// Writes to its standard input.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Piped {
        match &mut self.stdin {
            Some(stdin) => piped(|| stdin.write(bytes)),
            None => Piped::Closed,
        }
    }

    /// Closes its standard input: it is to give what it has, and to end.
    pub(super) fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Reads from its standard output.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Piped {
        piped(|| self.stdout.read(buffer))
    }

    /// Empties its standard error, and keeps the last of it.
    pub(super) fn listen(&mut self) {
        let mut buffer = [0; STDERR_READ_BYTES];
        while let Piped::Bytes(count) = piped(|| self.stderr.read(&mut buffer)) {
            self.said
                .extend_from_slice(buffer.get(..count).unwrap_or_default());
            let surplus = self.said.len().saturating_sub(VIDEO_STDERR_BYTES_MAX);
            self.said.drain(..surplus);
        }
    }

    /// The last it wrote to its standard error, without control characters but line ends.
    pub(super) fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.said);
        let plain = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
        text.trim().chars().map(plain).collect()
    }

    /// Allows it `elapsed` on each of `cpus`, and a reserve.
    pub(super) fn renew_cpu_time(&self, elapsed: Duration, cpus: usize) {
        let seconds = elapsed.as_secs().saturating_mul(cpus as u64);
        let limit = Rlimit {
            current: Some(seconds.saturating_add(VIDEO_CHILD_CPU_ALLOWANCE.as_secs())),
            maximum: None,
        };
        if let Err(error) = rustix::process::prlimit(Some(self.group), Resource::Cpu, limit) {
            log::debug!("cannot renew a child's CPU time: {error}");
        }
    }

    /// Whether a thread of it waits for a CPU or a disk, and the CPU time that all of them have
    /// used, in ticks (proc(5)).
    pub(super) fn cpu_use(&self) -> Option<(bool, u64)> {
        let process = format!("/proc/{}", self.process.id());
        let (_, ticks) = read_stat(format!("{process}/stat"))?;
        let threads = std::fs::read_dir(format!("{process}/task")).ok()?;
        let mut states = threads.flatten().map(|thread| {
            let stat = read_stat(thread.path().join("stat"));
            stat.map(|(state, _)| state)
        });
        let waits = states.any(|state| matches!(state, Some('R' | 'D')));
        Some((waits, ticks))
    }

    /// Kills it and whatever it started.
    pub(super) fn kill(&mut self) {
        // A group that has been waited for may be another's by now.
        if self.ended.is_none() {
            // Gone already is as good.
            let _ = rustix::process::kill_process_group(self.group, Signal::KILL);
        }
    }

    /// How it ended, if it did; no zombie is left then.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.process.try_wait().ok().flatten();
        }
        self.ended
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        self.kill();
        if self.ended.is_none() {
            // After SIGKILL this takes as long as the kernel needs to free its memory.
            let _ = self.process.wait();
        }
    }
}

/// State and CPU time, in ticks, of a process or a thread (proc(5)).
fn read_stat(path: impl AsRef<Path>) -> Option<(char, u64)> {
    let stat = std::fs::read_to_string(path).ok()?;
    // After the name in parentheses: the state, and as 12th and 13th, utime and stime.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let user: u64 = fields.nth(10)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((state, user.saturating_add(system)))
}

fn piped(io: impl FnOnce() -> io::Result<usize>) -> Piped {
    match io() {
        Ok(0) => Piped::Closed,
        Ok(count) => Piped::Bytes(count),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Piped::Blocked,
        Err(error) if error.kind() == ErrorKind::Interrupted => Piped::Blocked,
        Err(_) => Piped::Closed,
    }
}

/// What a child does to itself between fork and exec.
#[derive(Clone, Copy)]
pub(super) struct Fetters {
    parent: libc::pid_t,
    cpus: Option<libc::cpu_set_t>,
    memory_bytes: Option<u64>,
    cpu_seconds: Option<u64>,
    niceness: i32,
}

#[expect(unsafe_code, reason = "cpu_set_t has no other interface")]
fn cpu_set(cpus: &[usize]) -> Option<libc::cpu_set_t> {
    // SAFETY: zeros are a valid `cpu_set_t`, the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let fits = |cpu: &&usize| **cpu < libc::CPU_SETSIZE as usize;
    let chosen: Vec<usize> = cpus.iter().filter(fits).copied().collect();
    for cpu in &chosen {
        // SAFETY: the set is ours and the number is below its size.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    (!chosen.is_empty()).then_some(set)
}

impl Fetters {
    /// Those of a child that works on pictures.
    fn of(containment: &Containment) -> Self {
        let limit_memory = containment.limit_memory;
        Self {
            cpus: cpu_set(&containment.cpus),
            memory_bytes: limit_memory.then_some(VIDEO_CHILD_MEMORY_BYTES_MAX),
            cpu_seconds: Some(VIDEO_CHILD_CPU_ALLOWANCE.as_secs()),
            niceness: VIDEO_CHILD_NICENESS,
            ..Self::with_memory(0)
        }
    }

    /// Those of a child that may have so many bytes of memory, and as much CPU time as it needs,
    /// when it needs it.
    pub(super) fn with_memory(bytes: u64) -> Self {
        Self {
            parent: rustix::process::getpid().as_raw_nonzero().get(),
            cpus: None,
            memory_bytes: Some(bytes),
            cpu_seconds: None,
            niceness: 0,
        }
    }

    /// Has the program that is to be started put them on.
    #[expect(
        unsafe_code,
        reason = "what a child may do is set between fork and exec"
    )]
    pub(super) fn put_on(self, command: &mut Command) {
        // SAFETY: the closure runs in the child of a program with threads, where only system calls
        // are safe. It makes nothing but those, by functions that neither allocate nor lock, and
        // holds only plain values.
        unsafe {
            command.pre_exec(move || self.lock());
        }
    }

    /// Runs in the child: system calls only.
    #[expect(unsafe_code, reason = "system calls without a safe wrapper")]
    fn lock(&self) -> io::Result<()> {
        // Where the kernel or the service manager forbids any of this, the child runs without it.
        // Before the limit on files: until exec those of the server are open here.
        die_first();
        limit(Resource::Core, Some(0), Some(0));
        let files = Some(VIDEO_CHILD_FILES_MAX);
        limit(Resource::Nofile, files, files);
        if self.cpu_seconds.is_some() {
            limit(Resource::Cpu, self.cpu_seconds, None);
        }
        if self.memory_bytes.is_some() {
            limit(Resource::As, self.memory_bytes, self.memory_bytes);
        }
        let _ = rustix::process::nice(self.niceness);
        // SAFETY: these calls change the child only; the set lives until after its call.
        unsafe {
            if let Some(cpus) = &self.cpus {
                let size = size_of::<libc::cpu_set_t>();
                libc::sched_setaffinity(0, size, std::ptr::from_ref(cpus));
            }
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            libc::syscall(
                libc::SYS_close_range,
                FIRST_OTHER_DESCRIPTOR,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            );
            libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET);
            // After the new user namespace, since a change of credentials may clear it.
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The server may have ended before that.
            if libc::getppid() != self.parent {
                return Err(ErrorKind::NotConnected.into());
            }
        }
        child_sockets::take_away();
        Ok(())
    }
}

fn limit(resource: Resource, current: Option<u64>, maximum: Option<u64>) {
    let _ = rustix::process::setrlimit(resource, Rlimit { current, maximum });
}

/// Should the machine run out of memory, a child is to be killed rather than the server.
fn die_first() {
    use rustix::fs::{Mode, OFlags, open};
    let file = open(c"/proc/self/oom_score_adj", OFlags::WRONLY, Mode::empty());
    if let Ok(file) = file {
        let _ = rustix::io::write(file, b"500");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use mio::Poll;

    use super::*;

    const TOKENS: PipeTokens = PipeTokens {
        stdin: Token(1),
        stdout: Token(2),
        stderr: Token(3),
    };

    fn start(registry: &Registry, script: &str) -> io::Result<ChildProcess> {
        let arguments = ["-c".to_owned(), script.to_owned()];
        let containment = Containment {
            cpus: Vec::new(),
            limit_memory: true,
        };
        ChildProcess::start("sh", &arguments, &containment, registry, TOKENS)
    }

    fn wait_for(mut done: impl FnMut() -> bool) {
        let deadline: Instant = super::super::now() + Duration::from_secs(60);
        while !done() {
            assert!(super::super::now() < deadline, "it takes too long");
            std::thread::yield_now();
        }
    }

    /// What a child has said when it has ended.
    fn said_in_all(child: &mut ChildProcess) -> String {
        wait_for(|| {
            child.listen();
            child.ended().is_some()
        });
        child.listen();
        child.said()
    }

    fn is_gone(pid: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        !stat.is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[test]
    fn a_child_dies_with_the_thread_that_started_it() {
        let poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let starter = std::thread::spawn(move || {
            let child = start(&registry, "exec sleep 60").unwrap();
            let pid = child.process.id();
            assert!(!is_gone(pid));
            // Nobody is left to kill it but the kernel.
            std::mem::forget(child);
            pid
        });
        let pid = starter.join().unwrap();
        wait_for(|| is_gone(pid));
    }

    #[test]
    fn killing_a_child_kills_what_it_started_and_leaves_no_zombie() {
        let poll = Poll::new().unwrap();
        let mut child = start(poll.registry(), "sleep 60 & echo $!; wait").unwrap();
        let mut buffer = [0; 64];
        let mut text = String::new();
        wait_for(|| {
            if let Piped::Bytes(count) = child.read(&mut buffer) {
                text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
            }
            text.ends_with('\n')
        });
        let grandchild: u32 = text.trim().parse().unwrap();
        let pid = child.process.id();
        assert!(!is_gone(grandchild));
        child.kill();
        wait_for(|| child.ended().is_some());
        wait_for(|| is_gone(grandchild));
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_child_that_wants_too_much_memory_does_not_get_it() {
        let poll = Poll::new().unwrap();
        let mut child = start(
            poll.registry(),
            "dd if=/dev/zero of=/dev/null bs=5G count=1",
        )
        .unwrap();
        wait_for(|| child.ended().is_some());
        child.listen();
        assert!(child.said().contains("memory"), "{}", child.said());
    }

    #[test]
    fn a_child_opens_no_socket_of_a_network() {
        let poll = Poll::new().unwrap();
        let script = "for to in 127.0.0.1 ::1; do \
                      bash -c \"exec 3<>/dev/udp/$to/9\" || bash -c \"exec 3<>/dev/tcp/$to/9\"; \
                      done; echo done >&2";
        let mut child = start(poll.registry(), script).unwrap();
        let said = said_in_all(&mut child);
        assert!(said.contains("done"), "{said}");
        // Not by the network namespace, where it would be unreachable.
        let refused = said.matches("socket: Permission denied").count();
        assert_eq!(refused, 4, "{said}");
    }

    #[test]
    fn a_child_dies_before_a_server_that_has_many_descriptors_open() {
        // More than the child itself may have.
        let open = |_| std::fs::File::open("/dev/null").unwrap();
        let descriptors: Vec<_> = (0..100).map(open).collect();
        let poll = Poll::new().unwrap();
        let mut child = start(poll.registry(), "cat /proc/self/oom_score_adj >&2").unwrap();
        assert_eq!(said_in_all(&mut child), "500");
        drop(descriptors);
    }

    #[test]
    fn only_the_last_of_what_a_child_says_is_kept() {
        let poll = Poll::new().unwrap();
        let script = "i=0; while [ $i -lt 2000 ]; do echo \"line $i\" >&2; i=$((i+1)); done; \
                      printf 'a\\033[31mb\\n' >&2";
        let mut child = start(poll.registry(), script).unwrap();
        let said = said_in_all(&mut child);
        assert!(said.len() <= VIDEO_STDERR_BYTES_MAX);
        assert!(said.ends_with("line 1999\na [31mb"), "{said}");
    }

    #[test]
    fn a_child_s_cpu_time_can_be_renewed_while_it_runs() {
        let poll = Poll::new().unwrap();
        let child = start(poll.registry(), "exec sleep 60").unwrap();
        child.renew_cpu_time(Duration::from_secs(100), 2);
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.process.id()));
        let limits = limits.unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max cpu time"));
        assert_eq!(line.unwrap().split_whitespace().nth(3), Some("260"));
    }

    #[test]
    fn a_child_that_computes_is_told_from_one_that_sleeps() {
        let poll = Poll::new().unwrap();
        let computes = start(poll.registry(), "while :; do :; done").unwrap();
        wait_for(|| {
            computes
                .cpu_use()
                .is_some_and(|(waits, ticks)| waits && ticks > 0)
        });
        let sleeps = start(poll.registry(), "exec sleep 60").unwrap();
        wait_for(|| sleeps.cpu_use().is_some_and(|(waits, _)| !waits));
    }

    #[test]
    fn a_program_that_is_not_there_is_not_found() {
        let poll = Poll::new().unwrap();
        let missing = ChildProcess::start(
            "no-such-program",
            &[],
            &Containment::default(),
            poll.registry(),
            TOKENS,
        );
        assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    }
}
