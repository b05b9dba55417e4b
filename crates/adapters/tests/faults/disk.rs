//! A disk that fails when it is told to: the system calls that write and sync, in front of the C library's.
//!
//! This executable defines the functions itself, so that SQLite (linked into it), DuckDB (a shared library) and fjall (by way of
//! the standard library) all call these. They fail for files below a folder that was named, and for nothing else.
#![allow(unsafe_code, reason = "what stands in front of the C library has its signatures")]

use std::ffi::{c_int, c_long, c_void};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// How calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Writing: no space left. Of the call that finds the disk full, half is written.
    Full,
    /// Writing: an error of the device.
    Write,
    /// Syncing: an error of the device.
    Sync,
}

struct Armed {
    folder: PathBuf,
    fault: Fault,
    /// How many calls go well first.
    passes: usize,
    /// Whether it goes on after the first call that fails.
    lasts: bool,
    failed: usize,
}

/// A fault; dropped, the disk is well again.
pub struct Failing(PathBuf);

static ARMED: Mutex<Vec<Armed>> = Mutex::new(Vec::new());
/// Whether there is any, so that calls are cheap where there is none.
static ANY: AtomicBool = AtomicBool::new(false);

fn armed<T>(act: impl FnOnce(&mut Vec<Armed>) -> T) -> T {
    act(&mut ARMED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Has calls on files below `folder` fail, after `passes` that do not: one, or all until the answer is dropped.
pub fn fail(folder: &Path, fault: Fault, passes: usize, lasts: bool) -> Failing {
    let folder = folder.canonicalize().expect("the folder is there");
    armed(|all| all.push(Armed { folder: folder.clone(), fault, passes, lasts, failed: 0 }));
    ANY.store(true, Ordering::SeqCst);
    Failing(folder)
}

impl Failing {
    /// How many calls have failed.
    pub fn failed(&self) -> usize {
        armed(|all| all.iter().find(|armed| armed.folder == self.0).map_or(0, |armed| armed.failed))
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        armed(|all| all.retain(|armed| armed.folder != self.0));
    }
}

/// What is to become of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passes,
    Half,
    Fails(c_int),
}

fn verdict(file: c_int, writes: bool) -> Verdict {
    if !ANY.load(Ordering::Relaxed) {
        return Verdict::Passes;
    }
    let Ok(path) = std::fs::read_link(format!("/proc/self/fd/{file}")) else { return Verdict::Passes };
    armed(|all| {
        let about = |armed: &&mut Armed| path.starts_with(&armed.folder) && writes == (armed.fault != Fault::Sync);
        let Some(armed) = all.iter_mut().find(about) else { return Verdict::Passes };
        if armed.passes > 0 {
            armed.passes -= 1;
            return Verdict::Passes;
        }
        if armed.failed > 0 && !armed.lasts {
            return Verdict::Passes;
        }
        armed.failed += 1;
        match armed.fault {
            Fault::Full if armed.failed == 1 && armed.lasts => Verdict::Half,
            Fault::Full => Verdict::Fails(libc::ENOSPC),
            Fault::Write | Fault::Sync => Verdict::Fails(libc::EIO),
        }
    })
}

fn fails(error: c_int) -> c_long {
    // SAFETY: errno is this thread's.
    unsafe { *libc::__errno_location() = error };
    -1
}

/// A call that writes `length` bytes.
fn writing(file: c_int, length: usize, call: impl Fn(usize) -> c_long) -> isize {
    let written = match verdict(file, true) {
        Verdict::Passes => call(length),
        Verdict::Half if length > 1 => call(length / 2),
        Verdict::Half => fails(libc::ENOSPC),
        Verdict::Fails(error) => fails(error),
    };
    written as isize
}

/// A call that is carried out as a whole or not at all.
fn whole(file: c_int, writes: bool, call: impl Fn() -> c_long) -> c_long {
    match verdict(file, writes) {
        Verdict::Passes => call(),
        Verdict::Half => fails(libc::ENOSPC),
        Verdict::Fails(error) => fails(error),
    }
}

// SAFETY of all: the arguments go to the system as they came.

#[unsafe(no_mangle)]
extern "C" fn write(file: c_int, bytes: *const c_void, length: usize) -> isize {
    writing(file, length, |length| unsafe { libc::syscall(libc::SYS_write, file, bytes, length) })
}

#[unsafe(no_mangle)]
extern "C" fn writev(file: c_int, parts: *const libc::iovec, count: c_int) -> isize {
    whole(file, true, || unsafe { libc::syscall(libc::SYS_writev, file, parts, count) }) as isize
}

#[unsafe(no_mangle)]
extern "C" fn pwrite(file: c_int, bytes: *const c_void, length: usize, at: i64) -> isize {
    writing(file, length, |length| unsafe { libc::syscall(libc::SYS_pwrite64, file, bytes, length, at) })
}

#[unsafe(no_mangle)]
extern "C" fn pwrite64(file: c_int, bytes: *const c_void, length: usize, at: i64) -> isize {
    pwrite(file, bytes, length, at)
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate(file: c_int, length: i64) -> c_int {
    let call = || unsafe { libc::syscall(libc::SYS_ftruncate, file, length) };
    // A file that becomes shorter needs no space. (Should the device fail even then, DuckDB ends the process.)
    let is_shorter = std::fs::metadata(format!("/proc/self/fd/{file}")).is_ok_and(|it| it.len() >= length as u64);
    if is_shorter { call() as c_int } else { whole(file, true, call) as c_int }
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate64(file: c_int, length: i64) -> c_int {
    ftruncate(file, length)
}

#[unsafe(no_mangle)]
extern "C" fn fsync(file: c_int) -> c_int {
    whole(file, false, || unsafe { libc::syscall(libc::SYS_fsync, file) }) as c_int
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(file: c_int) -> c_int {
    whole(file, false, || unsafe { libc::syscall(libc::SYS_fdatasync, file) }) as c_int
}
