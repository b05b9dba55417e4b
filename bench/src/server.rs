//! A server: the built binary on free ports with its own data folder, and calls to it over HTTP.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Result;
use crate::watch::Watch;

/// The variables of the ports. All are set to 0, so that the system chooses.
const PORTS: [&str; 4] =
    ["INGESTION_API_PORT", "INGESTION_METRICS_PORT", "SEGMENT_USERS_METRICS_PORT", "CONFIGURATION_API_PORT"];
const START_MAX: Duration = Duration::from_secs(120);
/// Lines per request when many users are created.
const LINES_PER_REQUEST: usize = 50_000;
/// Marker events, so many that every partition has some.
const MARKERS: u64 = 400;
const POLL: Duration = Duration::from_millis(50);
/// More than any part saves.
const SEGMENTS_MAX: &str = "10000";

/// A binary and its data folder, which survive the process.
pub(crate) struct Installation {
    binary: PathBuf,
    folder: TempDir,
}

/// A running server. Dropping it kills the process, so that a failed run leaves nothing behind.
pub(crate) struct Server {
    child: Child,
    installation: Installation,
    client: reqwest::Client,
    /// `http://address:port` of the ingestion API.
    pub ingestion: String,
    /// Of the configuration API.
    pub configuration: String,
    /// Of the segment service's metrics.
    segment_users: String,
}

impl Installation {
    /// Creates an empty data folder beside the binary. A temporary folder may be in memory, where
    /// syncing costs nothing.
    pub(crate) fn new(binary: &Path) -> Result<Self> {
        let beside = binary.parent().ok_or("the binary has no folder")?;
        let folder = tempfile::Builder::new().prefix("bench-data-").tempdir_in(beside)?;
        Ok(Self { binary: binary.to_owned(), folder })
    }

    /// Returns the data folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the binary, and waits until it serves.
    pub(crate) fn start(self) -> Result<Server> {
        let errors = self.path().join("stderr");
        let mut command = Command::new(&self.binary);
        command
            .arg("serve")
            .env_clear()
            .env("USS_DATA_DIR", self.path())
            .env("LOG_LEVEL", "warn")
            .env("USS_SEGMENTS_MAX", SEGMENTS_MAX);
        command.envs(PORTS.map(|name| (name, "0")));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&errors)?);
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", self.binary.display()))?;
        let output = BufReader::new(child.stdout.take().ok_or("the server has no output")?);
        let (sender, lines) = mpsc::channel();
        // Reads to the end, so that the server never writes into a closed pipe.
        std::thread::spawn(move || {
            for line in output.lines().map_while(std::result::Result::ok) {
                let _nobody_listens = sender.send(line);
            }
        });
        let mut announced = Vec::new();
        while announced.len() < 5 {
            let Ok(line) = lines.recv_timeout(START_MAX) else {
                let _ended = child.kill().and_then(|()| child.wait());
                return Err(format!("the server does not start: {}", std::fs::read_to_string(errors)?).into());
            };
            announced.extend(addresses(&line));
        }
        let client = reqwest::Client::builder().no_proxy().build()?;
        let [ingestion, configuration, _, segment_users, ..] = &*announced else {
            return Err(format!("the server announced {announced:?}").into());
        };
        let (ingestion, configuration) = (ingestion.clone(), configuration.clone());
        Ok(Server { child, installation: self, client, ingestion, configuration, segment_users: segment_users.clone() })
    }
}

/// Returns scheme, host and port of the addresses in a line of the server's output.
fn addresses(line: &str) -> Vec<String> {
    let words = line.split_whitespace().filter_map(|word| word.strip_prefix("http://"));
    words.filter_map(|word| Some(format!("http://{}", word.split('/').next()?))).collect()
}

impl Server {
    /// Starts a server on an empty data folder, and waits until these segments are in force.
    pub(crate) async fn with_segments(binary: &Path, clauses: &[String]) -> Result<Self> {
        let server = Installation::new(binary)?.start()?;
        let mut last = 0;
        for (number, clause) in clauses.iter().enumerate() {
            last = server.segment(&format!("s{number}"), clause).await?;
        }
        while server.get(&format!("/segments/{last}/progress")).await?["data"]["ratio"] != 1.0 {
            tokio::time::sleep(POLL).await;
        }
        Ok(server)
    }

    /// Stops the server gracefully.
    pub(crate) fn stop(self) -> Result<()> {
        self.stop_and_keep().map(drop)
    }

    /// Stops the server gracefully, and returns its data folder.
    pub(crate) fn stop_and_keep(mut self) -> Result<Installation> {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        if !killed.success() || !self.child.wait()?.success() {
            return Err("the server did not stop gracefully".into());
        }
        self.take_installation()
    }

    fn take_installation(&mut self) -> Result<Installation> {
        let beside = self.installation.path().parent().ok_or("the data folder has no parent")?;
        let empty = Installation { binary: self.installation.binary.clone(), folder: TempDir::new_in(beside)? };
        Ok(std::mem::replace(&mut self.installation, empty))
    }

    /// Kills the server, so that it can write nothing more, and starts it again on the same data
    /// folder.
    pub(crate) fn kill_and_start(mut self) -> Result<Self> {
        self.child.kill()?;
        self.child.wait()?;
        self.take_installation()?.start()
    }

    /// Returns the data folder.
    pub(crate) fn data(&self) -> &Path {
        self.installation.path()
    }

    /// Sends a `GET` to the configuration API.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        let url = format!("{}/api/v1{path}", self.configuration);
        Ok(self.client.get(url).send().await?.error_for_status()?.json().await?)
    }

    /// Sends a `POST` to the configuration API.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let url = format!("{}/api/v1{path}", self.configuration);
        let response = self.client.post(url).json(body).send().await?;
        let failed = response.status().is_client_error() || response.status().is_server_error();
        let body = response.text().await?;
        if failed { Err(body.into()) } else { Ok(serde_json::from_str(&body)?) }
    }

    /// Creates a segment and returns its id.
    pub(crate) async fn segment(&self, tag: &str, clause: &str) -> Result<i64> {
        let created = self.post("/segments", &json!({"tag": tag, "whereStatement": clause})).await?;
        created["data"]["id"].as_i64().ok_or_else(|| "a segment without an id".into())
    }

    /// Sends lines of events, which create users for unknown ids, and waits until they are on disk.
    pub(crate) async fn lines(&self, lines: String) -> Result<()> {
        let url = format!("{}/api/v1/events?unknown_users=create", self.ingestion);
        let request = self.client.post(url).header("Content-Type", "application/x-ndjson").body(lines);
        let response: Value = request.send().await?.error_for_status()?.json().await?;
        if response["ok"] == true { Ok(()) } else { Err(response.to_string().into()) }
    }

    /// Creates the users from `first` on, by an event of each.
    pub(crate) async fn create_users(&self, first: u64, count: u64) -> Result<()> {
        let users: Vec<u64> = (first..first + count).collect();
        for chunk in users.chunks(LINES_PER_REQUEST) {
            let lines = chunk.iter().map(|user| crate::workload::plain_event(*user, "signed_up", None) + "\n");
            self.lines(lines.collect()).await?;
        }
        self.wait_until_applied().await
    }

    /// Waits until the config store has the memberships that follow from everything sent so far.
    pub(crate) async fn wait_until_applied(&self) -> Result<()> {
        let url = format!("{}/api/v1/users/1?fresh=true", self.configuration);
        loop {
            let response = self.client.get(&url).send().await?;
            // The server may need longer than one request waits.
            if response.status() != reqwest::StatusCode::SERVICE_UNAVAILABLE {
                response.error_for_status()?;
                return Ok(());
            }
        }
    }

    /// Sends marker events for [`Server::wait_until_archived`]. `name` must be new.
    pub(crate) async fn mark(&self, name: &str, first_user: u64) -> Result<()> {
        let markers =
            (first_user..first_user + MARKERS).map(|user| crate::workload::plain_event(user, name, None) + "\n");
        self.lines(markers.collect()).await
    }

    /// Waits until the warehouse has the markers of that name, and so everything sent before them.
    pub(crate) async fn wait_until_archived(&self, name: &str) -> Result<()> {
        let clause = json!({"whereStatement": format!("activity_type = '{name}'"), "sample": 1});
        loop {
            match self.post("/segments/preview", &clause).await {
                Ok(preview) if preview["data"]["size"] == MARKERS => return Ok(()),
                Err(error) if !error.to_string().contains("ENGINE_BEHIND") => return Err(error),
                // The server may need longer than one request waits.
                Ok(_) | Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Returns the number of transitions emitted since the start.
    pub(crate) async fn transitions(&self) -> Result<f64> {
        self.metric("uss_transitions_total").await
    }

    /// Returns the sum of a metric of the segment service over all its labels.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64> {
        let text = self.client.get(format!("{}/metrics", self.segment_users)).send().await?.text().await?;
        let ours = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        Ok(ours.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Returns the server's anonymous memory in bytes.
    pub(crate) fn memory(&self) -> Result<f64> {
        memory(self.child.id())
    }

    /// Starts to watch the processor time of the server's threads.
    pub(crate) fn watch(&self) -> Result<Watch> {
        Watch::start(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Returns the anonymous memory of a process in bytes: without files.
pub(crate) fn memory(process: u32) -> Result<f64> {
    status(process, "RssAnon:")
}

/// Returns the bytes of memory that a process had at most, with files.
pub(crate) fn peak_memory(process: u32) -> Result<f64> {
    status(process, "VmHWM:")
}

fn status(process: u32, name: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("it is not in /proc")?;
    let kib: f64 = line.trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024.0)
}

/// Waits for background work, such as checkpoints, to finish.
pub(crate) async fn settle(duration: Duration) {
    tokio::time::sleep(duration).await;
}
