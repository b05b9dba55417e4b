//! Runs the built binary as its users do: starts it, calls it over HTTP, stops it, kills it, and
//! starts it again.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part; a failed step is a failed test")]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ports::log::{Log, NewRecord, Topic};
use reqwest::header::CONTENT_TYPE;
use segment_engine::ids::UserId;
use segment_engine::time::Timestamp;
use serde_json::Value;

/// The variables of the ports. The tests set all to 0, so that the system chooses free ports.
const PORTS: [&str; 4] =
    ["INGESTION_API_PORT", "INGESTION_METRICS_PORT", "SEGMENT_USERS_METRICS_PORT", "CONFIGURATION_API_PORT"];
/// How long a start may take, on a machine that is busy with other tests.
const START_MAX: Duration = Duration::from_secs(60);
/// How long a request may take.
const REQUEST_MAX: Duration = Duration::from_secs(60);
/// How long [`eventually`] tries.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How to start the binary: its data folder, settings, flags, and the command it runs under.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    data: PathBuf,
    environment: Vec<(String, String)>,
    /// A command that starts the binary, such as a tracer. May be empty.
    under: Vec<String>,
    flags: Vec<String>,
}

/// A running server. Dropping it kills it, so that a failed test leaves nothing behind.
pub(crate) struct Server {
    child: Child,
    launch: Launch,
    client: reqwest::Client,
    /// `http://address:port` of the ingestion API.
    pub ingestion: String,
    /// `http://address:port` of the configuration API.
    pub configuration: String,
    /// The addresses of the metrics of ingestion, segment service and configuration.
    pub metrics: Vec<String>,
}

/// A start that failed.
#[derive(Debug)]
pub(crate) struct Refused {
    pub status: ExitStatus,
    pub message: String,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    /// `null` if the body is not JSON.
    pub body: Value,
}

impl Launch {
    pub(crate) fn new(data: &Path) -> Self {
        Self { data: data.to_owned(), environment: Vec::new(), under: Vec::new(), flags: Vec::new() }
    }

    /// Adds an environment variable.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a flag of `uss serve`.
    pub(crate) fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Runs the binary under another command.
    pub(crate) fn under(mut self, command: &[&str]) -> Self {
        self.under = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Starts the server and waits until it serves.
    pub(crate) fn start(&self) -> Server {
        self.try_start().unwrap_or_else(|refused| panic!("{}: {}", refused.status, refused.message))
    }

    /// Starts the server. Returns the error if it ends instead of serving.
    pub(crate) fn try_start(&self) -> Result<Server, Refused> {
        let errors = tempfile::NamedTempFile::new().unwrap();
        let mut child = self.command(errors.reopen().unwrap()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        // Reads to the end, so that the server never writes into a closed pipe.
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _test_over = sender.send(line);
            }
        });
        let mut announced = Vec::new();
        while announced.len() < 5 {
            match lines.recv_timeout(START_MAX) {
                Ok(line) => announced.extend(addresses(&line)),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let status = child.wait().unwrap();
                    return Err(Refused { status, message: std::fs::read_to_string(errors.path()).unwrap() });
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    child.kill().unwrap();
                    panic!("no start in {START_MAX:?}: {}", std::fs::read_to_string(errors.path()).unwrap());
                }
            }
        }
        let client = reqwest::Client::builder().no_proxy().timeout(REQUEST_MAX).build().unwrap();
        let metrics = announced.split_off(2);
        let configuration = announced.pop().unwrap();
        let ingestion = announced.pop().unwrap();
        Ok(Server { child, launch: self.clone(), client, ingestion, configuration, metrics })
    }

    fn command(&self, errors: File) -> Command {
        let binary = env!("CARGO_BIN_EXE_uss").to_owned();
        let mut words = self.under.iter().chain([&binary]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg("serve").args(&self.flags).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("USS_DATA_DIR", &self.data).env("LOG_LEVEL", "warn").envs(PORTS.map(|name| (name, "0")));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        command
    }

    /// Starts the server and kills it after a while, most likely before it serves.
    pub(crate) fn start_and_kill(&self, after: Duration) {
        let mut child = self.command(tempfile::tempfile().unwrap()).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Appends a record to the log. The server must not be running.
    pub(crate) async fn append(&self, record: NewRecord) {
        let clock = std::sync::Arc::new(ports::clock::SystemClock);
        let (log, _) = adapters::embedded::open(&self.data.join("log"), 16, clock).unwrap();
        log.append(vec![record]).await.unwrap();
    }
}

/// Returns `http://address:port` of each URL in a line that the server prints at its start.
fn addresses(line: &str) -> Vec<String> {
    let words = line.split_whitespace().filter_map(|word| word.strip_prefix("http://"));
    words.filter_map(|word| Some(format!("http://{}", word.split('/').next()?))).collect()
}

impl Server {
    /// Returns the id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process (SIGKILL).
    pub(crate) fn kill(mut self) -> Launch {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.launch.clone()
    }

    /// Stops the server with SIGTERM.
    pub(crate) fn stop(mut self) -> Launch {
        let signalled = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(signalled.success());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the server ended with {status}");
        self.launch.clone()
    }

    /// Waits until the server has ended for another reason.
    pub(crate) fn wait(mut self) -> Launch {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the server ended with {status}");
        self.launch.clone()
    }

    /// Sends a `GET` to the configuration API. Tries again while the engine is behind: on a machine
    /// that is busy with other tests it may need longer to catch up than one request waits.
    pub(crate) async fn get(&self, path: &str) -> Response {
        let started = Instant::now();
        loop {
            let request = self.client.get(format!("{}/api/v1{path}", self.configuration));
            let response = response_to(request).await.unwrap();
            if response.body["code"] != "ENGINE_BEHIND" || started.elapsed() > REQUEST_MAX {
                return response;
            }
        }
    }

    /// Sends a request with a body to the configuration API.
    pub(crate) async fn call(&self, method: &str, path: &str, body: &Value) -> Response {
        let method = method.parse().unwrap();
        let url = format!("{}/api/v1{path}", self.configuration);
        response_to(self.client.request(method, url).json(body)).await.unwrap()
    }

    /// Sends a `POST` to the configuration API.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        self.call("POST", path, body).await
    }

    /// Posts one event, or an array of them.
    pub(crate) async fn event(&self, event: &Value) -> Response {
        self.send("application/json", event.to_string()).await.unwrap()
    }

    /// Returns the server's client, which keeps connections.
    pub(crate) fn client(&self) -> reqwest::Client {
        self.client.clone()
    }

    /// Posts a body of events unchanged. Fails if the server ends meanwhile.
    pub(crate) async fn send(&self, media: &str, body: impl Into<reqwest::Body>) -> Result<Response, reqwest::Error> {
        let request = self.client.post(format!("{}/api/v1/events", self.ingestion)).header(CONTENT_TYPE, media);
        response_to(request.body(body)).await
    }

    /// Creates a segment and returns its id.
    pub(crate) async fn segment(&self, tag: &str, clause: &str) -> i64 {
        let created = self.post("/segments", &serde_json::json!({"tag": tag, "whereStatement": clause})).await;
        assert_eq!(created.status, 201, "{}", created.body);
        created.body["data"]["id"].as_i64().unwrap()
    }

    /// Creates a user and returns the id.
    pub(crate) async fn user(&self, client_id: &str) -> i64 {
        let created = self.post("/users", &serde_json::json!({"clientRefId": client_id})).await;
        assert_eq!(created.status, 201, "{}", created.body);
        created.body["data"]["id"].as_i64().unwrap()
    }

    /// Waits until a segment is in force for all users.
    pub(crate) async fn in_force(&self, segment: i64) {
        eventually(&format!("segment {segment} comes into force"), async || {
            let response = self.get(&format!("/segments/{segment}/progress")).await;
            (response.body["data"]["ratio"] == 1.0).then_some(())
        })
        .await;
    }

    /// Returns the ids of a user's segments once everything in the log is applied.
    pub(crate) async fn segments_of(&self, user: i64) -> Vec<i64> {
        let response = self.get(&format!("/users/{user}?fresh=true")).await;
        let segments =
            response.body["data"]["segments"].as_array().unwrap_or_else(|| panic!("{}", response.body)).iter();
        let mut segments: Vec<i64> = segments.map(|membership| membership["segmentId"].as_i64().unwrap()).collect();
        segments.sort_unstable();
        segments
    }

    /// Returns a user's transitions, in order.
    pub(crate) async fn transitions_of(&self, user: i64) -> Vec<Value> {
        self.pages(&format!("/users/{user}/transitions")).await
    }

    async fn pages(&self, path: &str) -> Vec<Value> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let response = self.get(&format!("{path}?limit=1000{cursor}")).await;
            assert_eq!(response.status, 200, "{}", response.body);
            all.extend(response.body["data"].as_array().unwrap().iter().cloned());
            match response.body["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    /// Returns how many events of the user `known` are in the log.
    pub(crate) async fn events_of_known(&self) -> usize {
        let records = self.records("event_ingested_topic").await;
        let of_known = |record: &&Value| {
            let value = &record["value"];
            value["client_ref_id"] == "known" && value["type"].is_null()
        };
        records.iter().filter(of_known).count()
    }

    /// Returns every record of a topic, partition after partition.
    pub(crate) async fn records(&self, topic: &str) -> Vec<Value> {
        let topics = self.get("/topics").await.body;
        let found = topics["data"].as_array().unwrap().iter().find(|found| found["name"] == topic);
        let mut records = Vec::new();
        for bounds in found.unwrap_or_else(|| panic!("no topic {topic}: {topics}"))["partitions"].as_array().unwrap() {
            let (partition, end) = (&bounds["partition"], bounds["nextOffset"].as_u64().unwrap());
            let mut offset = bounds["firstOffset"].as_u64().unwrap();
            while offset < end {
                let path = format!("/topics/{topic}/records?partition={partition}&offset={offset}&limit=1000");
                let response = self.get(&path).await;
                assert_eq!(response.status, 200, "{}", response.body);
                records.extend(response.body["data"].as_array().unwrap().iter().cloned());
                offset = response.body["nextOffset"].as_u64().unwrap();
            }
        }
        records
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request and reads the response.
pub(crate) async fn response_to(request: reqwest::RequestBuilder) -> Result<Response, reqwest::Error> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = serde_json::from_slice(&response.bytes().await?).unwrap_or_default();
    Ok(Response { status, headers, body })
}

/// Returns the body of a URL as a string.
pub(crate) async fn text(url: &str) -> String {
    reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap().text().await.unwrap()
}

/// Tries until there is a result. Fails the test if there is none for long.
pub(crate) async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(result) = attempt().await {
            return result;
        }
        assert!(started.elapsed() < PATIENCE, "for {PATIENCE:?} this did not become true: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Parses a time of a response, in microseconds since 1970.
pub(crate) fn micros(time: &Value) -> i64 {
    let text = time.as_str().unwrap_or_else(|| panic!("not a time: {time}"));
    let Timestamp(micros) = ports::records::instant::parse(text).unwrap_or_else(|| panic!("not a time: {text}"));
    micros
}

/// Returns a record for the partition of a user.
pub(crate) fn user_record(user: i64, value: &[u8]) -> NewRecord {
    NewRecord {
        topic: Topic::Events,
        partition: ports::log::partition_of(UserId(user), 16),
        key: user.to_string(),
        value: value.to_vec(),
    }
}
