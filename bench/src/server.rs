//! The built binary, served on free ports from a data folder of its own, and asked over HTTP.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Result;

/// The environment's names of the ports, all of which are left to the system.
const PORTS: [&str; 4] =
    ["INGESTION_API_PORT", "INGESTION_METRICS_PORT", "SEGMENT_USERS_METRICS_PORT", "CONFIGURATION_API_PORT"];
const START_MAX: Duration = Duration::from_secs(120);
/// How many lines one request has where many users are made or filled.
const LINES_PER_REQUEST: usize = 50_000;
/// Markers, so many that every partition has some.
const MARKERS: u64 = 400;
const POLL: Duration = Duration::from_millis(50);
/// Linux counts the processor's time in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// Where it is and what it keeps; survives the process.
pub struct Place {
    binary: PathBuf,
    folder: TempDir,
}

/// A running server. Dropping it kills it, so that a failed run leaves nothing behind.
pub struct Server {
    child: Child,
    place: Place,
    client: reqwest::Client,
    /// `http://address:port` of the ingestion API.
    pub ingestion: String,
    /// Of the configuration API.
    pub configuration: String,
    /// Of the segment service's metrics.
    segment_users: String,
}

impl Place {
    /// An empty data folder beside the binary: temporary folders may be in memory, where syncing costs nothing.
    pub fn new(binary: &Path) -> Result<Self> {
        let beside = binary.parent().ok_or("the binary has no folder")?;
        let folder = tempfile::Builder::new().prefix("bench-data-").tempdir_in(beside)?;
        Ok(Self { binary: binary.to_owned(), folder })
    }

    /// The data folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the binary and returns when it serves.
    pub fn start(self) -> Result<Server> {
        let errors = self.path().join("stderr");
        let mut command = Command::new(&self.binary);
        command.arg("serve").env_clear().env("USS_DATA_DIR", self.path()).env("LOG_LEVEL", "warn");
        command.envs(PORTS.map(|name| (name, "0")));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&errors)?);
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", self.binary.display()))?;
        let output = BufReader::new(child.stdout.take().ok_or("the server has no output")?);
        let (sender, lines) = mpsc::channel();
        // Reads on to the end, so that the server never writes into a closed pipe.
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
        Ok(Server { child, place: self, client, ingestion, configuration, segment_users: segment_users.clone() })
    }
}

/// The beginnings of the addresses in a line of what the server announces.
fn addresses(line: &str) -> Vec<String> {
    let words = line.split_whitespace().filter_map(|word| word.strip_prefix("http://"));
    words.filter_map(|word| Some(format!("http://{}", word.split('/').next()?))).collect()
}

impl Server {
    /// On an empty data folder, with these segments in force.
    pub async fn with_segments(binary: &Path, clauses: &[String]) -> Result<Self> {
        let server = Place::new(binary)?.start()?;
        let mut last = 0;
        for (number, clause) in clauses.iter().enumerate() {
            last = server.segment(&format!("s{number}"), clause).await?;
        }
        while server.get(&format!("/segments/{last}/progress")).await?["data"]["ratio"] != 1.0 {
            tokio::time::sleep(POLL).await;
        }
        Ok(server)
    }

    /// Ends it in order.
    pub fn stop(mut self) -> Result<()> {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        if !told.success() || !self.child.wait()?.success() {
            return Err("the server did not end in order".into());
        }
        Ok(())
    }

    /// Ends it at once, without a chance to write anything, and starts it on what is there.
    pub fn kill_and_start(mut self) -> Result<Self> {
        self.child.kill()?;
        self.child.wait()?;
        let beside = self.place.path().parent().ok_or("the data folder has no parent")?;
        let empty = Place { binary: self.place.binary.clone(), folder: TempDir::new_in(beside)? };
        std::mem::replace(&mut self.place, empty).start()
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        self.place.path()
    }

    /// A `GET` of the configuration API.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let url = format!("{}/api/v1{path}", self.configuration);
        Ok(self.client.get(url).send().await?.error_for_status()?.json().await?)
    }

    /// A `POST` of the configuration API.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let url = format!("{}/api/v1{path}", self.configuration);
        let answer = self.client.post(url).json(body).send().await?;
        let failed = answer.status().is_client_error() || answer.status().is_server_error();
        let body = answer.text().await?;
        if failed { Err(body.into()) } else { Ok(serde_json::from_str(&body)?) }
    }

    /// Creates a segment and answers its id.
    pub async fn segment(&self, tag: &str, clause: &str) -> Result<i64> {
        let created = self.post("/segments", &json!({"tag": tag, "whereStatement": clause})).await?;
        created["data"]["id"].as_i64().ok_or_else(|| "a segment without an id".into())
    }

    /// Sends lines of events, making users of unknown ids, and returns when they are on disk.
    pub async fn lines(&self, lines: String) -> Result<()> {
        let url = format!("{}/api/v1/events?unknown_users=create", self.ingestion);
        let request = self.client.post(url).header("Content-Type", "application/x-ndjson").body(lines);
        let answer: Value = request.send().await?.error_for_status()?.json().await?;
        if answer["ok"] == true { Ok(()) } else { Err(answer.to_string().into()) }
    }

    /// Makes the users from `first` on, by an event of each.
    pub async fn make_users(&self, first: u64, count: u64) -> Result<()> {
        let users: Vec<u64> = (first..first + count).collect();
        for some in users.chunks(LINES_PER_REQUEST) {
            let lines = some.iter().map(|user| crate::workload::plain_event(*user, "signed_up", None) + "\n");
            self.lines(lines.collect()).await?;
        }
        self.told().await
    }

    /// Returns when the transitions of all that was sent are told, and are memberships that can be read.
    pub async fn told(&self) -> Result<()> {
        let url = format!("{}/api/v1/users/1?fresh=true", self.configuration);
        loop {
            let answer = self.client.get(&url).send().await?;
            // The engine needs longer than one request waits.
            if answer.status() != reqwest::StatusCode::SERVICE_UNAVAILABLE {
                answer.error_for_status()?;
                return Ok(());
            }
        }
    }

    /// Sends events of some users, by which [`Server::archived`] sees how far the archive is. `name` must be new.
    pub async fn mark(&self, name: &str, first_user: u64) -> Result<()> {
        let markers =
            (first_user..first_user + MARKERS).map(|user| crate::workload::plain_event(user, name, None) + "\n");
        self.lines(markers.collect()).await
    }

    /// Returns when the warehouse has the markers of that name, and so all that was sent before them.
    pub async fn archived(&self, name: &str) -> Result<()> {
        let question = json!({"whereStatement": format!("activity_type = '{name}'"), "sample": 1});
        while self.post("/segments/preview", &question).await?["data"]["size"] != MARKERS {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// How many transitions have been told since the start.
    pub async fn transitions(&self) -> Result<f64> {
        let text = self.client.get(format!("{}/metrics", self.segment_users)).send().await?.text().await?;
        let counters = text.lines().filter(|line| line.starts_with("uss_transitions_total{"));
        Ok(counters.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Bytes of memory it holds that are no files'.
    pub fn memory(&self) -> Result<f64> {
        memory(self.child.id())
    }

    /// Seconds of processor time it has used.
    pub fn processor_time(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after_name = stat.rsplit(')').next().ok_or("no name in /proc")?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        // utime and stime, fields 14 and 15 of the whole.
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(ticks / TICKS_PER_SECOND)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Bytes of memory that a process holds and that are no files'.
pub fn memory(process: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon in /proc")?;
    let kib: f64 = line.trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024.0)
}

/// Lets what is under way come to its end.
pub async fn settle(duration: Duration) {
    tokio::time::sleep(duration).await;
}
