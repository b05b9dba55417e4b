//! The built binary as its users have it: started, asked over HTTP, stopped, killed, started again.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part; a failed step is a failed test")]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ports::log::{Log, NewRecord, Topic};
use reqwest::header::CONTENT_TYPE;
use segment_engine::time::Timestamp;
use serde_json::Value;

/// The environment's names of the ports, all of which the tests leave to the system.
const PORTS: [&str; 4] =
    ["INGESTION_API_PORT", "INGESTION_METRICS_PORT", "SEGMENT_USERS_METRICS_PORT", "CONFIGURATION_API_PORT"];
/// How long a start may take, on a machine that is busy with other tests.
const START_MAX: Duration = Duration::from_secs(60);
/// How long a request may take.
const REQUEST_MAX: Duration = Duration::from_secs(60);
/// How long [`eventually`] asks again.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to start: the binary with its data folder and settings, and what it runs under.
#[derive(Clone, Debug)]
pub struct Launch {
    data: PathBuf,
    environment: Vec<(String, String)>,
    /// A command that starts the binary, such as a tracer; empty for none.
    under: Vec<String>,
    flags: Vec<String>,
}

/// A running server. Dropping it kills it, so that a failed test leaves nothing behind.
pub struct Server {
    child: Child,
    launch: Launch,
    client: reqwest::Client,
    /// `http://address:port` of the ingestion API.
    pub ingestion: String,
    /// Of the configuration API.
    pub configuration: String,
    /// Of the metrics of ingestion, segment service and configuration.
    pub metrics: Vec<String>,
}

/// A start that failed.
#[derive(Debug)]
pub struct Refused {
    pub status: ExitStatus,
    pub message: String,
}

/// An answer of a server.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    /// `null` if it is no JSON.
    pub body: Value,
}

impl Launch {
    /// The binary on a data folder.
    pub fn new(data: &Path) -> Self {
        Self { data: data.to_owned(), environment: Vec::new(), under: Vec::new(), flags: Vec::new() }
    }

    /// With a setting from the environment.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a flag of the command line.
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Run by another command.
    pub fn under(mut self, command: &[&str]) -> Self {
        self.under = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Starts it and waits until it serves.
    pub fn start(&self) -> Server {
        self.try_start().unwrap_or_else(|refused| panic!("{}: {}", refused.status, refused.message))
    }

    /// Starts it; if it ends instead of serving, says how.
    pub fn try_start(&self) -> Result<Server, Refused> {
        let errors = tempfile::NamedTempFile::new().unwrap();
        let mut child = self.command(errors.reopen().unwrap()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        // Reads on to the end, so that the server never writes into a closed pipe.
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

    /// Starts it and kills it after a while, most likely before it serves.
    pub fn start_and_kill(&self, after: Duration) {
        let mut child = self.command(tempfile::tempfile().unwrap()).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Where its data is.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Appends a record to the log of a server that does not run.
    pub async fn append(&self, record: NewRecord) {
        let clock = std::sync::Arc::new(ports::clock::SystemClock);
        let (log, _) = adapters::embedded::open(&self.data.join("log"), 16, clock).unwrap();
        log.append(vec![record]).await.unwrap();
    }
}

/// The beginnings of the addresses in a line of what the server announces.
fn addresses(line: &str) -> Vec<String> {
    let words = line.split_whitespace().filter_map(|word| word.strip_prefix("http://"));
    words.filter_map(|word| Some(format!("http://{}", word.split('/').next()?))).collect()
}

impl Server {
    /// The process that was started.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, without a chance to write anything.
    pub fn kill(mut self) -> Launch {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.launch.clone()
    }

    /// Ends it in order (SIGTERM).
    pub fn stop(mut self) -> Launch {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(told.success());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the server ended with {status}");
        self.launch.clone()
    }

    /// Waits until it has ended, told by something else.
    pub fn wait(mut self) -> Launch {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the server ended with {status}");
        self.launch.clone()
    }

    /// `GET` of the configuration API. On a machine that is busy with other tests the engine may need longer to catch up than
    /// one request waits.
    pub async fn get(&self, path: &str) -> Answer {
        let started = Instant::now();
        loop {
            let request = self.client.get(format!("{}/api/v1{path}", self.configuration));
            let answer = answer(request).await.unwrap();
            if answer.body["code"] != "ENGINE_BEHIND" || started.elapsed() > REQUEST_MAX {
                return answer;
            }
        }
    }

    /// A call of the configuration API with a body.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let method = method.parse().unwrap();
        let url = format!("{}/api/v1{path}", self.configuration);
        answer(self.client.request(method, url).json(body)).await.unwrap()
    }

    /// `POST` of the configuration API.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, body).await
    }

    /// Posts one event, or an array of them.
    pub async fn event(&self, event: &Value) -> Answer {
        self.send("application/json", event.to_string()).await.unwrap()
    }

    /// The client that asks it, which keeps connections.
    pub fn client(&self) -> reqwest::Client {
        self.client.clone()
    }

    /// Posts a body of events as it is; fails if the server goes away meanwhile.
    pub async fn send(&self, media: &str, body: impl Into<reqwest::Body>) -> Result<Answer, reqwest::Error> {
        let request = self.client.post(format!("{}/api/v1/events", self.ingestion)).header(CONTENT_TYPE, media);
        answer(request.body(body)).await
    }

    /// Creates a segment and answers its id.
    pub async fn segment(&self, tag: &str, clause: &str) -> i64 {
        let created = self.post("/segments", &serde_json::json!({"tag": tag, "whereStatement": clause})).await;
        assert_eq!(created.status, 201, "{}", created.body);
        created.body["data"]["id"].as_i64().unwrap()
    }

    /// Creates a user and answers its id.
    pub async fn user(&self, client_id: &str) -> i64 {
        let created = self.post("/users", &serde_json::json!({"clientRefId": client_id})).await;
        assert_eq!(created.status, 201, "{}", created.body);
        created.body["data"]["id"].as_i64().unwrap()
    }

    /// Returns when a segment is in force for all users.
    pub async fn in_force(&self, segment: i64) {
        eventually(&format!("segment {segment} comes into force"), async || {
            let answer = self.get(&format!("/segments/{segment}/progress")).await;
            (answer.body["data"]["ratio"] == 1.0).then_some(())
        })
        .await;
    }

    /// The ids of the segments that a user is in, everything in the log included.
    pub async fn segments_of(&self, user: i64) -> Vec<i64> {
        let answer = self.get(&format!("/users/{user}?fresh=true")).await;
        let segments = answer.body["data"]["segments"].as_array().unwrap_or_else(|| panic!("{}", answer.body)).iter();
        let mut segments: Vec<i64> = segments.map(|membership| membership["segmentId"].as_i64().unwrap()).collect();
        segments.sort_unstable();
        segments
    }

    /// What was told of a user, in order.
    pub async fn transitions_of(&self, user: i64) -> Vec<Value> {
        self.pages(&format!("/users/{user}/transitions")).await
    }

    async fn pages(&self, path: &str) -> Vec<Value> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let answer = self.get(&format!("{path}?limit=1000{cursor}")).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            all.extend(answer.body["data"].as_array().unwrap().iter().cloned());
            match answer.body["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    /// How many events of the user `known` are in the log.
    pub async fn events_of_known(&self) -> usize {
        let records = self.records("event_ingested_topic").await;
        let of_known = |record: &&Value| {
            let value = &record["value"];
            value["client_ref_id"] == "known" && value["type"].is_null()
        };
        records.iter().filter(of_known).count()
    }

    /// Every record of a topic, partition after partition.
    pub async fn records(&self, topic: &str) -> Vec<Value> {
        let topics = self.get("/topics").await.body;
        let found = topics["data"].as_array().unwrap().iter().find(|found| found["name"] == topic);
        let mut records = Vec::new();
        for bounds in found.unwrap_or_else(|| panic!("no topic {topic}: {topics}"))["partitions"].as_array().unwrap() {
            let (partition, end) = (&bounds["partition"], bounds["nextOffset"].as_u64().unwrap());
            let mut offset = bounds["firstOffset"].as_u64().unwrap();
            while offset < end {
                let path = format!("/topics/{topic}/records?partition={partition}&offset={offset}&limit=1000");
                let answer = self.get(&path).await;
                assert_eq!(answer.status, 200, "{}", answer.body);
                records.extend(answer.body["data"].as_array().unwrap().iter().cloned());
                offset = answer.body["nextOffset"].as_u64().unwrap();
            }
        }
        records
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request and reads its answer.
pub async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = serde_json::from_slice(&response.bytes().await?).unwrap_or_default();
    Ok(Answer { status, headers, body })
}

/// Plain text, such as metrics.
pub async fn text(url: &str) -> String {
    reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap().text().await.unwrap()
}

/// Asks until there is an answer; fails the test if there is none for long.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "for {PATIENCE:?} it was not so that: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A time in an answer, in microseconds since 1970.
pub fn micros(time: &Value) -> i64 {
    let text = time.as_str().unwrap_or_else(|| panic!("no time: {time}"));
    let Timestamp(micros) = ports::records::instant::parse(text).unwrap_or_else(|| panic!("no time: {text}"));
    micros
}

/// A record for the partition of a user.
pub fn user_record(user: i64, value: &[u8]) -> NewRecord {
    NewRecord {
        topic: Topic::Events,
        partition: ports::log::partition_of(user, 16),
        key: user.to_string(),
        value: value.to_vec(),
    }
}
