//! The adapters on a disk that fails: at each call that writes or syncs, of each kind of write, once or until it is mended.
//!
//! What was answered is there after a restart, what was refused is not, and when the disk is well again so is the adapter.
#![allow(clippy::unwrap_used)]

mod config_store;
mod disk;
mod log;
mod warehouse;

use std::path::Path;

use disk::Fault;

/// A way for a disk to fail during one call of a port.
#[derive(Clone, Copy, Debug)]
struct Case {
    fault: Fault,
    /// How many system calls go well first.
    passes: usize,
    /// Whether the disk is well again after one failed call.
    lasts: bool,
}

/// Calls `run` with every case: more and more system calls go well, until none is left to fail. `run` answers how many failed.
async fn each_case(mut run: impl AsyncFnMut(Case) -> usize) -> usize {
    let mut cases = 0;
    for (fault, lasts) in [(Fault::Full, true), (Fault::Write, false), (Fault::Sync, false), (Fault::Sync, true)] {
        let mut passes = 0;
        while run(Case { fault, passes, lasts }).await > 0 {
            cases += 1;
            // Each call of a short write; of a long one fewer and fewer.
            passes += 1 + passes / 8;
        }
    }
    cases
}

/// Copies the files of a folder: what a crash at this moment would leave, if the system goes on.
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
