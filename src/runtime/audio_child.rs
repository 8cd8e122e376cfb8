//! ffmpeg as the child of a transcode worker, for the audio codecs that only it decodes: contained
//! as those of `child`, fed and read through pipes that never block, killed when its stream ends, or
//! the worker, whatever ends that.
//!
//! A worker waits for its inbox, not for descriptors: while it has children, it looks at their
//! pipes every few milliseconds. Such streams are rare, and few in number.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio};

use rustix::fs::OFlags;

use super::child::{DEFAULT_PATH, Fetters};
use crate::transcode::{ChildAction, ChildId, Ended};

/// Most children of a worker: more codecs of this kind at once are not believed.
const CHILDREN_MAX: usize = 32;
/// Bytes that wait for a child that does not read: seconds of sound, so it is stuck.
const QUEUE_BYTES_MAX: usize = 256 * 1_024;
/// One read from a child, in bytes, and reads from it in a turn.
const READ_BYTES: usize = 16 * 1_024;
const READS_PER_TURN: usize = 16;
/// Memory that a child may have, in bytes: four times what the newest ffmpeg takes for sound.
const MEMORY_BYTES_MAX: u64 = 1 << 30;

/// A worker's children.
#[derive(Debug)]
pub(super) struct Children {
    /// ffmpeg: a name to look for in `PATH`, or a path.
    program: String,
    children: BTreeMap<ChildId, Child>,
}

#[derive(Debug)]
struct Child {
    process: Process,
    input: ChildStdin,
    output: ChildStdout,
    queue: VecDeque<u8>,
}

impl Children {
    /// None yet; they will run `program`.
    pub(super) fn new(program: String) -> Self {
        Self {
            program,
            children: BTreeMap::new(),
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// Does what is to be done; says if a child is no more for it.
    pub(super) fn act(&mut self, action: ChildAction) -> Option<(ChildId, Ended)> {
        match action {
            ChildAction::Start { child, arguments } => {
                if self.children.len() >= CHILDREN_MAX {
                    return Some((child, Ended::TooMany));
                }
                match Child::start(&self.program, &arguments) {
                    Ok(started) => {
                        self.children.insert(child, started);
                        None
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        Some((child, Ended::Missing))
                    }
                    Err(error) => {
                        log::warn!("cannot start {}: {error}", self.program);
                        Some((child, Ended::Gone))
                    }
                }
            }
            ChildAction::Write { child, bytes } => {
                let running = self.children.get_mut(&child)?;
                running.queue.extend(bytes);
                let well = running.queue.len() <= QUEUE_BYTES_MAX && running.write().is_ok();
                if well {
                    return None;
                }
                self.children.remove(&child);
                Some((child, Ended::Gone))
            }
            ChildAction::Stop { child } => {
                self.children.remove(&child);
                None
            }
        }
    }

    /// Looks at all pipes: gives what came out to `output`, and returns the children that ended.
    pub(super) fn serve(&mut self, output: &mut dyn FnMut(ChildId, &[u8])) -> Vec<ChildId> {
        let mut ended = Vec::new();
        for (id, child) in &mut self.children {
            let alive = child.write().is_ok();
            let more = child.read(&mut |bytes| output(*id, bytes));
            if !alive || !matches!(more, Ok(true)) {
                ended.push(*id);
            }
        }
        for id in &ended {
            self.children.remove(id);
        }
        ended
    }
}

impl Child {
    fn start(program: &str, arguments: &[String]) -> io::Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        let program = find(program, &path).ok_or(io::ErrorKind::NotFound)?;
        Self::start_program(&program, arguments)
    }

    fn start_program(program: &Path, arguments: &[String]) -> io::Result<Self> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        // It takes little CPU time, and what it gives is waited for.
        Fetters::with_memory(MEMORY_BYTES_MAX).put_on(&mut command);
        let mut process = command.spawn()?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let prepared = pipes
            .ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))
            .and_then(|(input, output)| {
                unblock(&input)?;
                unblock(&output)?;
                Ok((input, output))
            });
        match prepared {
            Ok((input, output)) => Ok(Self {
                process,
                input,
                output,
                queue: VecDeque::new(),
            }),
            Err(error) => {
                end(&mut process);
                Err(error)
            }
        }
    }

    /// Writes what the child takes now.
    fn write(&mut self) -> io::Result<()> {
        while !self.queue.is_empty() {
            let (bytes, _) = self.queue.as_slices();
            match self.input.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.queue.drain(..written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what there is; whether more may come.
    fn read(&mut self, output: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        let mut buffer = [0; READ_BYTES];
        for _ in 0..READS_PER_TURN {
            match self.output.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(read) => output(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// Kills a process and takes its exit status, so that no zombie stays.
fn end(process: &mut Process) {
    if let Err(error) = process.kill() {
        log::warn!("cannot end ffmpeg: {error}");
        return;
    }
    if let Err(error) = process.wait() {
        log::warn!("cannot see the end of ffmpeg: {error}");
    }
}

fn unblock(pipe: &impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(pipe)?;
    rustix::fs::fcntl_setfl(pipe, flags | OFlags::NONBLOCK)?;
    Ok(())
}

/// The program's file: its own path, or in the folders of `path`.
fn find(program: &str, path: &OsStr) -> Option<PathBuf> {
    let named = Some(Path::new(program)).filter(|file| file.is_absolute());
    if let Some(file) = named {
        return is_program(file).then(|| file.to_owned());
    }
    std::env::split_paths(path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_absolute() && is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file.metadata();
    metadata.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_dies_with_its_worker() {
        let worker = std::thread::spawn(|| {
            let child = Child::start_program(Path::new("/bin/sleep"), &["60".to_owned()]).unwrap();
            let pid = child.process.id();
            // Nobody is left to kill it but the kernel.
            std::mem::forget(child);
            pid
        });
        let stat = format!("/proc/{}/stat", worker.join().unwrap());
        let deadline = super::super::now() + std::time::Duration::from_secs(60);
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(super::super::now() < deadline, "it lives on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn program_that_is_not_in_the_path_is_missing() {
        for path in ["/nonexistent:relative", ""] {
            assert_eq!(find("ffmpeg", OsStr::new(path)), None);
        }
        assert_eq!(find("/nonexistent/ffmpeg", OsStr::new("/bin")), None);
        let found = find("sleep", OsStr::new("/nonexistent:/bin"));
        assert_eq!(found, Some("/bin/sleep".into()));
    }

    #[test]
    fn program_that_the_operator_named_is_the_one_that_runs() {
        let mut children = Children::new("/bin/cat".into());
        let child = ChildId(7);
        let start = ChildAction::Start {
            child,
            arguments: Vec::new(),
        };
        assert_eq!(children.act(start), None);
        let bytes = b"sound".to_vec();
        assert_eq!(children.act(ChildAction::Write { child, bytes }), None);
        let deadline = super::super::now() + std::time::Duration::from_secs(60);
        let mut heard = Vec::new();
        while heard != b"sound" {
            assert!(super::super::now() < deadline, "it gave {heard:?}");
            let ended = children.serve(&mut |_, bytes| heard.extend_from_slice(bytes));
            assert!(ended.is_empty(), "it ended");
            std::thread::yield_now();
        }
        let mut missing = Children::new("/nonexistent/ffmpeg".into());
        let start = ChildAction::Start {
            child,
            arguments: Vec::new(),
        };
        assert_eq!(missing.act(start), Some((child, Ended::Missing)));
    }

    #[test]
    fn one_too_many_is_told_from_one_that_ended() {
        let mut children = Children::new("/bin/cat".into());
        let most = u64::try_from(CHILDREN_MAX).unwrap();
        let mut start = |number| {
            let (child, arguments) = (ChildId(number), Vec::new());
            children.act(ChildAction::Start { child, arguments })
        };
        for number in 0..most {
            assert_eq!(start(number), None);
        }
        assert_eq!(start(most), Some((ChildId(most), Ended::TooMany)));
    }
}
