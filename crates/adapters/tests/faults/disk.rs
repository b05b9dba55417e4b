//! A disk that fails or crashes on request: replaces the C library's system calls that write and
//! sync.
//!
//! This executable defines the functions itself, so that SQLite (linked into it), DuckDB (a shared
//! library) and fjall (through the standard library) all call them. They fail only for files below
//! a named folder.
#![expect(unsafe_code, reason = "replacements of C functions have C signatures")]

use std::ffi::{c_int, c_long, c_void};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The way in which calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Writes find no space left. The first failing call writes half of its bytes.
    Full,
    /// Writes fail with a device error.
    Write,
    /// Syncs fail with a device error.
    Sync,
    /// A write is interrupted in the middle: what a crash leaves then is copied.
    Crash,
}

struct Armed {
    folder: PathBuf,
    fault: Fault,
    /// The number of calls that succeed first.
    passes: usize,
    /// Whether calls keep failing after the first failure.
    lasts: bool,
    failed: usize,
    /// Where a crash leaves its files.
    image: PathBuf,
}

/// An active fault. The disk works again when it is dropped.
pub(crate) struct Failing(PathBuf);

static ARMED: Mutex<Vec<Armed>> = Mutex::new(Vec::new());
/// Whether any fault is active. Keeps calls cheap without one.
static ANY: AtomicBool = AtomicBool::new(false);

fn armed<T>(act: impl FnOnce(&mut Vec<Armed>) -> T) -> T {
    act(&mut ARMED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Makes calls on files below `folder` fail, after `passes` successful ones: one call, or all until
/// the guard is dropped.
pub(crate) fn fail(folder: &Path, fault: Fault, passes: usize, lasts: bool) -> Failing {
    arm(folder, fault, passes, lasts, PathBuf::new())
}

/// Copies the files below `folder` to `image` in the middle of a write to one of them, after
/// `passes` writes. Writes to a write-ahead log are left alone.
pub(crate) fn crash(folder: &Path, passes: usize, image: &Path) -> Failing {
    arm(folder, Fault::Crash, passes, false, image.to_owned())
}

fn arm(folder: &Path, fault: Fault, passes: usize, lasts: bool, image: PathBuf) -> Failing {
    let folder = folder.canonicalize().expect("the folder exists");
    armed(|all| all.push(Armed { folder: folder.clone(), fault, passes, lasts, failed: 0, image }));
    ANY.store(true, Ordering::SeqCst);
    Failing(folder)
}

impl Failing {
    /// Returns how many calls have failed.
    pub(crate) fn failed(&self) -> usize {
        armed(|all| all.iter().find(|armed| armed.folder == self.0).map_or(0, |armed| armed.failed))
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        armed(|all| all.retain(|armed| armed.folder != self.0));
    }
}

/// What happens to a call.
enum Verdict {
    Passes,
    Half,
    Fails(c_int),
    Crashes { folder: PathBuf, image: PathBuf },
}

fn verdict(file: c_int, writes: bool) -> Verdict {
    if !ANY.load(Ordering::Relaxed) {
        return Verdict::Passes;
    }
    let Ok(path) = std::fs::read_link(format!("/proc/self/fd/{file}")) else { return Verdict::Passes };
    armed(|all| {
        let about = |armed: &&mut Armed| match armed.fault {
            Fault::Sync => !writes,
            Fault::Crash => writes && path.extension().is_none_or(|extension| extension != "wal"),
            Fault::Full | Fault::Write => writes,
        };
        let about = |armed: &&mut Armed| path.starts_with(&armed.folder) && about(armed);
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
            Fault::Crash => Verdict::Crashes { folder: armed.folder.clone(), image: armed.image.clone() },
        }
    })
}

fn fails(error: c_int) -> c_long {
    // SAFETY: errno belongs to this thread.
    unsafe { *libc::__errno_location() = error };
    -1
}

/// Carries out a call that writes `length` bytes, by `call(from, count)`.
fn writing(file: c_int, length: usize, call: impl Fn(usize, usize) -> c_long) -> isize {
    let written = match verdict(file, true) {
        Verdict::Passes => call(0, length),
        Verdict::Half if length > 1 => call(0, length / 2),
        Verdict::Half => fails(libc::ENOSPC),
        Verdict::Fails(error) => fails(error),
        Verdict::Crashes { folder, image } => {
            let half = length / 2;
            assert_eq!(call(0, half), half as c_long, "the disk works");
            super::copy(&folder, &image);
            half as c_long + call(half, length - half)
        }
    };
    written as isize
}

/// Carries out a call that succeeds or fails as a whole.
fn whole(file: c_int, writes: bool, call: impl Fn() -> c_long) -> c_long {
    match verdict(file, writes) {
        Verdict::Passes => call(),
        Verdict::Half => fails(libc::ENOSPC),
        Verdict::Fails(error) => fails(error),
        Verdict::Crashes { folder, image } => {
            super::copy(&folder, &image);
            call()
        }
    }
}

// SAFETY of all functions below: the arguments go to the system unchanged.

#[unsafe(no_mangle)]
extern "C" fn write(file: c_int, bytes: *const c_void, length: usize) -> isize {
    writing(file, length, |from, length| unsafe { libc::syscall(libc::SYS_write, file, bytes.add(from), length) })
}

#[unsafe(no_mangle)]
extern "C" fn writev(file: c_int, parts: *const libc::iovec, count: c_int) -> isize {
    whole(file, true, || unsafe { libc::syscall(libc::SYS_writev, file, parts, count) }) as isize
}

#[unsafe(no_mangle)]
extern "C" fn pwrite(file: c_int, bytes: *const c_void, length: usize, at: i64) -> isize {
    writing(file, length, |from, length| unsafe {
        libc::syscall(libc::SYS_pwrite64, file, bytes.add(from), length, at + from as i64)
    })
}

#[unsafe(no_mangle)]
extern "C" fn pwrite64(file: c_int, bytes: *const c_void, length: usize, at: i64) -> isize {
    pwrite(file, bytes, length, at)
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate(file: c_int, length: i64) -> c_int {
    let call = || unsafe { libc::syscall(libc::SYS_ftruncate, file, length) };
    // Shortening a file needs no space. (If the device failed even then, DuckDB would end the
    // process.)
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
