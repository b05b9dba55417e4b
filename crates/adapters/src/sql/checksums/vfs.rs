//! A VFS in front of SQLite's own, which adds and checks the page checksums of the config store's
//! file.
//!
//! Only the database file passes through it. SQLite's own VFS opens journals, the write-ahead log
//! and temporary files directly. A page that does not match its checksum is not given to SQLite.
#![expect(unsafe_code, reason = "SQLite takes a VFS as C functions")]

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;

use libsqlite3_sys::{
    SQLITE_IOCAP_SUBPAGE_READ, SQLITE_IOERR_DATA, SQLITE_IOERR_SHORT_READ, SQLITE_IOERR_WRITE, SQLITE_OK,
    SQLITE_OPEN_MAIN_DB, sqlite3_file, sqlite3_filename, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs,
    sqlite3_vfs_find, sqlite3_vfs_register,
};

use super::{PAGE, damage, is_whole, seal};

const NAME: &CStr = c"uss-page-checksums";
/// The bytes of the header that SQLite reads before it knows the page size. It reads that page
/// again later.
const HEADER: sqlite3_int64 = 100;

/// A database file. The file of SQLite's own VFS follows it in memory.
#[repr(C)]
struct File {
    base: sqlite3_file,
    /// Points to SQLite's memory, which lives as long as the file is open.
    name: sqlite3_filename,
}

/// Registers the VFS with SQLite, once.
pub(super) fn register() -> Result<(), &'static str> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let registered = REGISTERED.get_or_init(|| {
        // SAFETY: SQLite initialises itself, and keeps its VFSs for the lifetime of the process;
        // ours is never freed.
        unsafe {
            let real = sqlite3_vfs_find(ptr::null());
            if real.is_null() {
                return false;
            }
            // The inherited functions do not look at the VFS on which they are called.
            let own = sqlite3_vfs {
                szOsFile: (*real).szOsFile + size_of::<File>() as c_int,
                pNext: ptr::null_mut(),
                zName: NAME.as_ptr(),
                pAppData: real.cast(),
                xOpen: Some(open),
                ..*real
            };
            sqlite3_vfs_register(Box::into_raw(Box::new(own)), 0) == SQLITE_OK
        }
    });
    if *registered { Ok(()) } else { Err("SQLite refused to register a VFS") }
}

/// Returns the file of SQLite's own VFS.
///
/// # Safety
/// `file` was opened by [`open`] with [`METHODS`], or is being opened by it.
unsafe fn real(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: `szOsFile` has room for both.
    unsafe { file.cast::<File>().add(1).cast() }
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    // SAFETY: `pAppData` is SQLite's VFS, as registered; `file` is memory of `szOsFile` bytes.
    unsafe {
        let below = (*vfs).pAppData.cast::<sqlite3_vfs>();
        let open = (*below).xOpen.expect("every VFS opens files");
        if flags & SQLITE_OPEN_MAIN_DB == 0 {
            return open(below, name, file, flags, flags_out);
        }
        let inner = real(file);
        let outcome = open(below, name, inner, flags, flags_out);
        // SQLite closes a file that has methods, even if it could not be opened.
        let methods = if (*inner).pMethods.is_null() { ptr::null() } else { &raw const METHODS };
        file.cast::<File>().write(File { base: sqlite3_file { pMethods: methods }, name });
        outcome
    }
}

/// Forwards calls to the file of SQLite's own VFS.
macro_rules! forward {
    ($($name:ident = $method:ident($($argument:ident: $kind:ty),*) $(-> $result:ty)?;)*) => { $(
        unsafe extern "C" fn $name(file: *mut sqlite3_file, $($argument: $kind),*) $(-> $result)? {
            // SAFETY: the file is open, and the arguments are SQLite's own.
            unsafe {
                let inner = real(file);
                (*(*inner).pMethods).$method.expect("SQLite's files have all methods")(inner, $($argument),*)
            }
        }
    )* };
}

forward! {
    close = xClose() -> c_int;
    inner_read = xRead(into: *mut c_void, amount: c_int, offset: sqlite3_int64) -> c_int;
    inner_write = xWrite(from: *const c_void, amount: c_int, offset: sqlite3_int64) -> c_int;
    truncate = xTruncate(size: sqlite3_int64) -> c_int;
    sync = xSync(flags: c_int) -> c_int;
    file_size = xFileSize(size: *mut sqlite3_int64) -> c_int;
    lock = xLock(level: c_int) -> c_int;
    unlock = xUnlock(level: c_int) -> c_int;
    check_reserved_lock = xCheckReservedLock(is_reserved: *mut c_int) -> c_int;
    file_control = xFileControl(operation: c_int, argument: *mut c_void) -> c_int;
    sector_size = xSectorSize() -> c_int;
    inner_characteristics = xDeviceCharacteristics() -> c_int;
    shm_map = xShmMap(region: c_int, size: c_int, extend: c_int, at: *mut *mut c_void) -> c_int;
    shm_lock = xShmLock(offset: c_int, count: c_int, flags: c_int) -> c_int;
    shm_barrier = xShmBarrier();
    shm_unmap = xShmUnmap(is_deleted: c_int) -> c_int;
}

/// Version 2, without memory mapping: mapped pages would not be checked.
static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Turns off reads of parts of pages, which have no checksum.
unsafe extern "C" fn characteristics(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite called us with these arguments.
    unsafe { inner_characteristics(file) & !SQLITE_IOCAP_SUBPAGE_READ }
}

unsafe extern "C" fn read(file: *mut sqlite3_file, into: *mut c_void, amount: c_int, offset: sqlite3_int64) -> c_int {
    // SAFETY: SQLite called us with these arguments; `into` has `amount` bytes, and these two
    // outcomes set all of them.
    unsafe {
        let outcome = inner_read(file, into, amount, offset);
        if outcome != SQLITE_OK && outcome != SQLITE_IOERR_SHORT_READ {
            return outcome;
        }
        let bytes = std::slice::from_raw_parts(into.cast::<u8>(), usize::try_from(amount).unwrap_or(0));
        let is_of_a_new_file = || {
            let mut size = 0;
            file_size(file, &mut size) == SQLITE_OK && size == 0
        };
        if is_intact(bytes, offset) || (outcome == SQLITE_IOERR_SHORT_READ && is_of_a_new_file()) {
            return outcome;
        }
        let name = CStr::from_ptr((*file.cast::<File>()).name.cast::<c_char>());
        damage::note(Path::new(OsStr::from_bytes(name.to_bytes())), number(offset) + 1);
        SQLITE_IOERR_DATA
    }
}

/// Whether the bytes are a page that matches its checksum, or part of the header, which SQLite
/// reads on its own. A page of another size means that the header is damaged.
fn is_intact(bytes: &[u8], offset: sqlite3_int64) -> bool {
    match <&[u8; PAGE]>::try_from(bytes) {
        Ok(page) => offset % PAGE as sqlite3_int64 == 0 && is_whole(page, number(offset)),
        Err(_) => offset.saturating_add(bytes.len() as sqlite3_int64) <= HEADER,
    }
}

fn number(offset: sqlite3_int64) -> u64 {
    offset.unsigned_abs() / PAGE as u64
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    from: *const c_void,
    amount: c_int,
    offset: sqlite3_int64,
) -> c_int {
    if amount != PAGE as c_int || offset % PAGE as sqlite3_int64 != 0 {
        return SQLITE_IOERR_WRITE;
    }
    // SAFETY: SQLite called us with these arguments; `from` has `amount` bytes. They are SQLite's,
    // so the checksum goes into a copy.
    unsafe {
        let mut page = from.cast::<[u8; PAGE]>().read();
        seal(&mut page, number(offset));
        inner_write(file, page.as_ptr().cast(), amount, offset)
    }
}
