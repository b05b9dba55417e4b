//! The database of an embedded log and its checkpoints, and how it recovers from a failed write.
//!
//! After a failed write fjall refuses all others until the database is reopened. It is right to: it
//! cannot know what reached the disk. [`Store::reopen`] reopens it in the running process, so that
//! a full disk costs refused calls and not a restart.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode, Slice};
use ports::log::{LogError, Topic};

use super::backpressure::{STALL_MAX, STALL_POLL, backlog, is_stalled};
use super::damage::{self, Finding, Losses};
use super::entry::{Entry, encode};
use super::stamp::{Mark, Stamp};
use super::wipe;
use crate::space::probe;

/// Journals beyond this size are flushed to the trees. Bounds both the disk space and the time of a
/// start.
const JOURNAL_BYTES_MAX: u64 = 256 << 20;
/// The cache for blocks read from disk. The newest records are in memory anyway.
const CACHE_BYTES: u64 = 32 << 20;

/// The key of an entry that each write with removals puts into their keyspaces.
///
/// fjall keeps a journal until the tables of each keyspace reach the keyspace's newest entry in it.
/// If that is a removal, a compaction drops it, and then the tables never reach it: the journal and
/// all later ones would stay until something else is written to that keyspace. This entry is as new
/// as the removals, and no compaction drops it. It is beyond the keys of all partitions.
const NEWEST_KEY: [u8; 4] = [0xFF; 4];

/// The keyspaces of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// The blocks of one topic.
    Topic(Topic),
    /// Layout, bounds, progress and producers.
    Meta,
    /// Which files make up a checkpoint.
    Checkpoints,
}

impl Space {
    /// Every keyspace.
    pub const ALL: [Space; 6] = [
        Space::Topic(Topic::Events),
        Space::Topic(Topic::Errors),
        Space::Topic(Topic::Notifications),
        Space::Topic(Topic::Config),
        Space::Checkpoints,
        Space::Meta,
    ];
}

/// One change of the database. Several are written atomically.
#[derive(Clone, Debug)]
pub struct Change {
    /// The keyspace of the entry.
    pub space: Space,
    /// The entry's key.
    pub key: Slice,
    /// The new value; `None` removes the entry. Cheap to clone, because a write may be tried twice.
    pub value: Option<Slice>,
}

/// Why an operation on the database failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No space is left on the disk.
    #[error("{0}")]
    Full(String),
    /// An earlier failure, perhaps in the background, made the database refuse writes. This write
    /// was not tried.
    #[error("the database refuses writes since an earlier failure")]
    Refusing,
    /// Flushes or compactions have stopped, and a write would wait for them. It was not tried.
    #[error("the database has not caught up with earlier writes for {} seconds", STALL_MAX.as_secs())]
    Stalled,
    /// Files of the database fail its checks.
    #[error("{0}")]
    Corrupt(String),
    /// Acknowledged writes are missing.
    #[error("{0}")]
    Lost(String),
    /// Any other failure.
    #[error("{0}")]
    Unavailable(String),
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full(error.to_string())
            }
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => error.into(),
            fjall::Error::Poisoned => Self::Refusing,
            fjall::Error::JournalRecovery(_)
            | fjall::Error::Decompress(_)
            | fjall::Error::InvalidTrailer
            | fjall::Error::InvalidTag(_)
            | fjall::Error::InvalidVersion(_)
            | fjall::Error::Unrecoverable
            | fjall::Error::Storage(_) => Self::Corrupt(error.to_string()),
            fjall::Error::Locked => Self::Unavailable("another process has the data folder open: stop it first".into()),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<StoreError> for LogError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full(reason) => LogError::Full(reason),
            StoreError::Corrupt(reason) | StoreError::Lost(reason) => LogError::Corrupt(reason),
            other => LogError::Unavailable(other.to_string()),
        }
    }
}

/// The open database.
pub struct Opened {
    db: Database,
    topics: [Keyspace; 4],
    meta: Keyspace,
    checkpoints: Keyspace,
    /// Whether the last write failed, here or beside it.
    failed: AtomicBool,
    numbering: Mutex<Numbering>,
}

/// The numbers of the writes. Locked during a write, so that they follow the order of the journal.
struct Numbering {
    last: u64,
    /// See [`Stamp::goes_on`].
    goes_on: bool,
    mark: Mark,
}

impl Opened {
    /// Opens the database. Calls `check` with the number of its last write before it sets the mark
    /// to that number.
    fn open(
        folder: &Path,
        goes_on: bool,
        check: impl FnOnce(u64) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let db = Database::builder(folder)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .cache_size(CACHE_BYTES)
            .journal_compression(CompressionType::None)
            .worker_threads(workers())
            .open()?;
        let blocks = |name| db.keyspace(name, block_options);
        let topics = [blocks("events")?, blocks("errors")?, blocks("notifications")?, blocks("config")?];
        let meta = db.keyspace("meta", KeyspaceCreateOptions::default)?;
        let checkpoints = db.keyspace("checkpoints", KeyspaceCreateOptions::default)?;
        let key = Entry::Stamp.key();
        let last = match meta.get(&key)? {
            None => 0,
            Some(value) => {
                let stamp = Stamp::of(&key, &value);
                stamp.ok_or_else(|| StoreError::Corrupt("the entry `stamp` cannot be read".to_owned()))?.number
            }
        };
        check(last)?;
        let mark = Mark::open(folder)?;
        mark.set(last);
        let numbering = Mutex::new(Numbering { last, goes_on, mark });
        Ok(Self { db, topics, meta, checkpoints, failed: AtomicBool::new(false), numbering })
    }

    /// Returns the keyspace of a [`Space`].
    pub fn space(&self, space: Space) -> &Keyspace {
        match space {
            Space::Topic(Topic::Events) => &self.topics[0],
            Space::Topic(Topic::Errors) => &self.topics[1],
            Space::Topic(Topic::Notifications) => &self.topics[2],
            Space::Topic(Topic::Config) => &self.topics[3],
            Space::Meta => &self.meta,
            Space::Checkpoints => &self.checkpoints,
        }
    }

    /// Returns a consistent view over all keyspaces.
    pub fn snapshot(&self) -> fjall::Snapshot {
        self.db.snapshot()
    }

    /// Whether the last write failed: what is in memory may then be older than what a reopen finds.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Notes that files beside the database cannot be written: the next health check tries a write.
    pub fn note_failure(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Closes the database. Returns whether its next write would continue from the last.
    fn close(self) -> bool {
        self.numbering.into_inner().unwrap_or_else(PoisonError::into_inner).goes_on
    }

    /// Makes the changes atomically, and returns when they are on the disk.
    pub fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.write_within(changes, STALL_MAX)
    }

    /// Like [`Self::write`], with the longest wait for flushes and compactions.
    pub(super) fn write_within(&self, changes: Vec<Change>, stall_max: Duration) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let spaces: BTreeSet<Space> = changes.iter().map(|change| change.space).chain([Space::Meta]).collect();
        let locked = self.lock_unless_stalled(&spaces, stall_max);
        let mut numbering = locked.inspect_err(|_| self.failed.store(true, Ordering::Relaxed))?;
        let number = numbering.last + 1;
        let stamp = Stamp { number, seqno_min: self.db.seqno(), goes_on: numbering.goes_on };
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncData));
        let mut with_removals = BTreeSet::new();
        for Change { space, key, value } in changes {
            match value {
                Some(value) => batch.insert(self.space(space), key, value),
                None => {
                    batch.remove(self.space(space), key);
                    with_removals.insert(space);
                }
            }
        }
        // In `Meta`, the stamp is such an entry.
        for space in with_removals.into_iter().filter(|space| *space != Space::Meta) {
            batch.insert(self.space(space), NEWEST_KEY, Slice::default());
        }
        let key = Entry::Stamp.key();
        let value = encode(&key, &stamp);
        batch.insert(&self.meta, key, value);
        let written = batch.commit();
        self.failed.store(written.is_err(), Ordering::Relaxed);
        written?;
        numbering.last = number;
        numbering.goes_on = true;
        numbering.mark.set(number);
        Ok(())
    }

    /// Locks the numbers for a write to these keyspaces. Waits without the lock while one of them
    /// is stalled, so that other writes go on.
    fn lock_unless_stalled(
        &self,
        spaces: &BTreeSet<Space>,
        stall_max: Duration,
    ) -> Result<MutexGuard<'_, Numbering>, StoreError> {
        let keyspaces = || spaces.iter().map(|space| self.space(*space));
        let (mut since, mut least) = (Instant::now(), usize::MAX);
        loop {
            let numbering = self.numbering.lock().unwrap_or_else(PoisonError::into_inner);
            // Under the lock: no other write can stall the keyspaces before this one.
            if !keyspaces().any(is_stalled) {
                return Ok(numbering);
            }
            drop(numbering);
            // Has nothing to persist, but fails if the database refuses writes.
            self.db.persist(PersistMode::Buffer)?;
            let left = backlog(keyspaces());
            if left < least {
                (since, least) = (Instant::now(), left);
            }
            if since.elapsed() >= stall_max {
                return Err(StoreError::Stalled);
            }
            std::thread::sleep(STALL_POLL);
        }
    }
}

/// Locks an existing database, so that no process writes while it is checked. This is the lock that
/// fjall takes next.
fn lock(folder: &Path) -> Result<Option<File>, StoreError> {
    let file = match File::options().write(true).open(folder.join("lock")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(fjall::Error::Locked.into()),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Returns the number of fjall's workers. Of two or more, one only flushes: so a long compaction
/// does not stop the flushes that writes wait for. After each flush all are asked to compact, and that
/// one polls until another is free to: with two, as long as a compaction takes.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(3, |cores| cores.get().clamp(3, 4))
}

/// Blocks are large and written in order. Stored apart from the tree, so that compaction moves only
/// their keys.
fn block_options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().with_kv_separation(Some(KvSeparationOptions::default()))
}

/// The database, behind a lock that only a reopen takes for writing.
pub struct Store {
    folder: PathBuf,
    opened: RwLock<Option<Opened>>,
    /// [`Stamp::goes_on`] of the next write, for reopening. It outlives a reopening that fails.
    goes_on: AtomicBool,
}

impl Store {
    /// Opens the database in a folder, and creates it if needed. Only one process can have it open.
    pub fn open(folder: &Path, losses: Losses, findings: &mut Vec<Finding>) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder)?;
        let alone = lock(folder)?;
        damage::check_restored(folder, losses, findings)?;
        let acknowledged = damage::check(folder, losses, findings)?.unwrap_or_default();
        drop(alone);
        let goes_on = losses == Losses::Refuse;
        let opened = Opened::open(folder, goes_on, |last| match damage::check_reached(last, acknowledged) {
            Err(StoreError::Lost(lost)) => damage::refuse_or_record(folder, losses, lost, findings),
            reached => reached,
        })?;
        Ok(Self { folder: folder.to_owned(), opened: RwLock::new(Some(opened)), goes_on: AtomicBool::new(goes_on) })
    }

    /// Calls `act` with the open database. Fails with `Unavailable` while the database could not be
    /// reopened after a failure.
    pub fn with<T, E: From<StoreError>>(&self, act: impl FnOnce(&Opened) -> Result<T, E>) -> Result<T, E> {
        let opened: RwLockReadGuard<_> = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        match opened.as_ref() {
            Some(opened) => act(opened),
            None => Err(StoreError::Unavailable("the database is being reopened after a failed write".into()).into()),
        }
    }

    /// Whether the last write failed, or the database could not be reopened since.
    pub fn has_failed(&self) -> bool {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        opened.as_ref().is_none_or(Opened::has_failed)
    }

    /// Makes changes: see [`Opened::write`].
    pub fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.with(|opened| opened.write(changes))
    }

    /// Erases removed data from the files.
    pub fn wipe(&self) -> Result<(), StoreError> {
        self.with(|opened| wipe::wipe(opened, &self.folder, wipe::FLUSH_WAIT_MAX))
    }

    /// Reopens the database after a failed write. While the disk is full the old one stays open for
    /// reading.
    pub fn reopen(&self) -> Result<(), StoreError> {
        probe(&self.folder)?;
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = opened.take() {
            self.goes_on.store(opened.close(), Ordering::Relaxed);
        }
        let acknowledged = damage::check(&self.folder, Losses::Refuse, &mut Vec::new())?.unwrap_or_default();
        let goes_on = self.goes_on.load(Ordering::Relaxed);
        let check = |last| damage::check_reached(last, acknowledged);
        *opened = Some(Opened::open(&self.folder, goes_on, check)?);
        Ok(())
    }

    /// Drops the database without closing it. Closing would write what is left in buffers: after a
    /// failed write, the rest of changes that were reported as failed.
    pub fn abandon(&self) {
        std::mem::forget(self.opened.write().unwrap_or_else(PoisonError::into_inner).take());
    }
}
