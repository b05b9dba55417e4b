//! Holds a write back while flushes or compactions are behind, because fjall's own wait may never
//! end.
//!
//! After each write, fjall makes the writer wait while a keyspace has 4 sealed memtables or 30 runs
//! in its first level. A flush or a compaction ends the wait. If it fails, for example on a full
//! disk, fjall refuses all later writes, but it does not wake the writer. The writer would wait
//! forever, and hold two locks meanwhile: that of the numbers, so no other write would return, and
//! that of the database, so [`Store::reopen`](super::store::Store::reopen), which mends the failure,
//! would wait too. So a write begins only when fjall cannot make it wait.

use std::time::Duration;

use fjall::{AbstractTree, Keyspace};

/// Beyond this number of sealed memtables a write waits. fjall waits at 4. Between our check and
/// its check at most two more are sealed: one that was full before the write, and the one that the
/// write fills. A third would be empty, because writes follow one another, and fjall seals no empty
/// memtable.
const SEALED_MAX: usize = 1;
/// Beyond this number of runs in the first level a write waits. fjall waits at 30. Meanwhile the
/// flushes of three sealed memtables can end, and each adds a run.
const FIRST_LEVEL_RUNS_MAX: usize = 26;
/// How long a write waits if flushes and compactions get nothing done. Then it fails, so that its
/// caller learns of the standstill. The next write waits again.
pub(super) const STALL_MAX: Duration = Duration::from_secs(120);
/// How often a waiting write looks again.
pub(super) const STALL_POLL: Duration = Duration::from_millis(10);

/// Whether a write to the keyspace has to wait.
pub(super) fn is_stalled(keyspace: &Keyspace) -> bool {
    keyspace.sealed_memtable_count() > SEALED_MAX || keyspace.tree.l0_run_count() > FIRST_LEVEL_RUNS_MAX
}

/// The flushes and compactions that are left to do for these keyspaces.
pub(super) fn backlog<'a>(keyspaces: impl Iterator<Item = &'a Keyspace>) -> usize {
    keyspaces.map(|keyspace| keyspace.sealed_memtable_count() + keyspace.tree.l0_run_count()).sum()
}

#[cfg(test)]
mod tests {
    use ports::log::Topic;

    use super::super::damage::Losses;
    use super::super::store::{Change, Opened, Space, Store, StoreError};
    use super::*;

    const EVENTS: Space = Space::Topic(Topic::Events);

    fn change(key: &[u8]) -> Change {
        Change { space: EVENTS, key: key.into(), value: Some(b"value".into()) }
    }

    /// Seals this many memtables of the events. The caller keeps them from being flushed.
    fn seal(opened: &Opened, count: usize) {
        for n in 0..count {
            // Without our own wait, as fjall's workers may seal memtables between two writes.
            opened.space(EVENTS).insert([n as u8], b"sealed").unwrap();
            assert!(opened.space(EVENTS).rotate_memtable().unwrap());
        }
    }

    #[test]
    fn a_write_to_a_stalled_keyspace_returns_and_others_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Losses::Refuse, &mut Vec::new()).unwrap();
        store
            .with(|opened| {
                let flushing = opened.space(EVENTS).tree.get_flush_lock();
                seal(opened, SEALED_MAX);
                opened.write_within(vec![change(b"below the limit")], Duration::ZERO)?;
                opened.space(EVENTS).rotate_memtable()?;
                let refused = opened.write_within(vec![change(b"stalled")], Duration::ZERO);
                assert!(matches!(refused, Err(StoreError::Stalled)), "{refused:?}");
                let other = Change { space: Space::Checkpoints, ..change(b"other") };
                opened.write_within(vec![other], Duration::ZERO)?;
                drop(flushing);
                opened.write(vec![change(b"stalled")])
            })
            .unwrap();
        let found = store.with(|opened| Ok::<_, StoreError>(opened.space(EVENTS).get(b"stalled")?)).unwrap();
        assert_eq!(found.as_deref(), Some(&b"value"[..]));
    }

    #[test]
    fn a_failed_flush_ends_the_wait_and_the_database_can_be_reopened() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Losses::Refuse, &mut Vec::new()).unwrap();
        store.write(vec![change(b"before")]).unwrap();
        // 1 is fjall's first keyspace after its own.
        let (tables, aside) = (folder.path().join("keyspaces/1/tables"), folder.path().join("aside"));
        std::thread::scope(|scope| {
            let writer = store
                .with(|opened| {
                    let flushing = opened.space(EVENTS).tree.get_flush_lock();
                    // As many as fjall waits at.
                    seal(opened, 4);
                    let writer = scope.spawn(|| store.write(vec![change(b"refused")]));
                    std::fs::rename(&tables, &aside)?;
                    drop(flushing);
                    Ok::<_, StoreError>(writer)
                })
                .unwrap();
            let refused = writer.join().unwrap();
            assert!(matches!(refused, Err(StoreError::Refusing)), "{refused:?}");
        });
        assert!(store.has_failed());
        std::fs::rename(&aside, &tables).unwrap();
        store.reopen().unwrap();
        store.write(vec![change(b"after")]).unwrap();
        store
            .with(|opened| {
                let found = |key: &[u8]| opened.space(EVENTS).get(key);
                assert!(found(b"before")?.is_some() && found(b"after")?.is_some() && found(b"refused")?.is_none());
                Ok::<_, StoreError>(())
            })
            .unwrap();
    }
}
