//! Starts a PostgreSQL server for one test, in a temporary folder, with a socket in the folder and
//! no port.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use postgres::{Client, NoTls};
use tempfile::TempDir;

/// How often a connection is tried, with a pause after each try.
const ATTEMPTS_MAX: usize = 600;
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct PostgresServer {
    process: Child,
    folder: TempDir,
}

impl PostgresServer {
    pub(crate) fn start() -> PostgresServer {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("uss-pg").tempdir().unwrap();
        let owner = owner();
        if let Some((user, group)) = owner {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let data = folder.path().join("data");
        let initdb = ["--locale=C.UTF-8", "--encoding=UTF8", "--auth=trust", "--username=postgres", "--no-sync", "-D"];
        let made = command(&programs.join("initdb"), owner).args(initdb).arg(&data).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let settings = [
            "listen_addresses=",
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "autovacuum=off",
            "jit=off",
            "max_parallel_workers_per_gather=0",
            "timezone=UTC",
            "log_min_messages=panic",
        ];
        let process = command(&programs.join("postgres"), owner)
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(folder.path())
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        PostgresServer { process, folder }
    }

    /// Returns a connection once the server accepts one.
    pub(crate) fn connect(&self) -> Client {
        let address = format!("host={} user=postgres dbname=postgres", self.folder.path().display());
        for _ in 0..ATTEMPTS_MAX {
            if let Ok(client) = Client::connect(&address, NoTls) {
                return client;
            }
            sleep(PAUSE);
        }
        panic!("PostgreSQL did not start within {:?}", PAUSE * ATTEMPTS_MAX as u32);
    }
}

impl Drop for PostgresServer {
    /// Its child processes end without it, and the folder is deleted.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the folder of `initdb` and `postgres`. On Debian they are not in the path.
fn programs() -> PathBuf {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = debian.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let complete = |folder: &PathBuf| folder.join("initdb").exists() && folder.join("postgres").exists();
    folders.into_iter().find(complete).expect("PostgreSQL is not installed: run scripts/postgres.sh")
}

/// The server refuses to run as root, so root starts it as the package's user.
fn owner() -> Option<(u32, u32)> {
    let number = |arguments: &[&str]| -> Option<u32> {
        let output = Command::new("id").args(arguments).output().ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    };
    if number(&["-u"]) != Some(0) {
        return None;
    }
    let user = number(&["-u", "postgres"]).expect("the package makes the user postgres: run scripts/postgres.sh");
    Some((user, number(&["-g", "postgres"]).expect("a user has a group")))
}

fn command(program: &Path, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command
}
