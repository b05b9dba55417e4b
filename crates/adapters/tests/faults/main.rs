//! The adapters on a failing disk: at each call that writes or syncs, for each kind of write, once
//! or until the disk works again.
//!
//! After a restart acknowledged writes are there and refused ones are not. When the disk works
//! again, so does the adapter.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod config_store;
mod disk;
mod log;
mod warehouse;

use std::path::Path;

use disk::Fault;

/// How a disk fails during one call of a port.
#[derive(Clone, Copy, Debug)]
struct Case {
    fault: Fault,
    /// The number of system calls that succeed first.
    passes: usize,
    /// Whether the disk keeps failing after the first failed call.
    lasts: bool,
}

/// Calls `run` with every case: more and more system calls succeed, until none is left to fail.
/// `run` returns how many failed.
async fn each_case(mut run: impl AsyncFnMut(Case) -> usize) -> usize {
    let mut cases = 0;
    for (fault, lasts) in [(Fault::Full, true), (Fault::Write, false), (Fault::Sync, false), (Fault::Sync, true)] {
        let mut passes = 0;
        while run(Case { fault, passes, lasts }).await > 0 {
            cases += 1;
            // Every call of a short write, a sample of the calls of a long one.
            passes += 1 + passes / 8;
        }
    }
    cases
}

/// Copies the files of a folder, as a crash of the process at this moment would leave them.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
