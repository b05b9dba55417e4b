//! Tests the commands that query a running service: `uss errors`, `uss topic` and `uss users`.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use support::{Launch, Server, response_to, user_record};

const ERRORS: &str = "error_topic";
const NOTIFICATIONS: &str = "user_segment_notification_topic";

/// The exit status and output of a command.
struct Ran {
    status: i32,
    out: String,
    error: String,
}

impl Ran {
    fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
    }
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uss"));
    command.args(words).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(mut command: Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { status: output.status.code().unwrap(), out: text(output.stdout), error: text(output.stderr) }
}

/// Runs `uss errors`, with the address in the environment.
fn errors(server: &Server, words: &[&str]) -> Ran {
    let mut command = command(&[&["errors"], words].concat());
    command.env("USS_INGESTION_URL", &server.ingestion);
    run(command)
}

/// Runs `uss topic`, with the address in a flag.
fn topic(server: &Server, words: &[&str]) -> Ran {
    run(command(&[&["topic"], words, &["--url", &server.configuration]].concat()))
}

fn start(data: &tempfile::TempDir) -> Server {
    Launch::new(data.path()).start()
}

#[tokio::test]
async fn a_dead_letter_is_found_and_accepted_when_its_user_exists() {
    let data = tempfile::tempdir().unwrap();
    let server = start(&data);
    let segment = server.segment("seen", "count(*) > 0").await;
    server.in_force(segment).await;
    let ran = errors(&server, &["list"]);
    assert_eq!((ran.status, ran.out.as_str()), (0, "no records: nothing was rejected\n"));

    let event = r#"{"id":"late","id_type":"cookie","order":1.10,"created_at":"2026-01-01T00:00:00Z"}"#;
    assert_eq!(server.send("application/json", event).await.unwrap().status, 404);
    let ran = errors(&server, &["list"]);
    let rows: Vec<Vec<&str>> = ran.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((ran.status, rows.len()), (0, 2), "{}{}", ran.out, ran.error);
    assert_eq!(rows[0], ["OFFSET", "WHEN", "CODE", "CLIENT", "ID", "MESSAGE"]);
    assert_eq!((rows[1][0], &rows[1][2..6]), ("0", ["USER_NOT_FOUND", "late", "no", "user"].as_slice()));
    let records = errors(&server, &["list", "--json"]).lines();
    assert_eq!((&records[0]["offset"], &records[0]["code"]), (&json!(0), &json!("USER_NOT_FOUND")));
    let shown = errors(&server, &["show", "0"]);
    assert!(shown.out.contains("\n    \"client_ref_id\": \"late\",\n"), "{}", shown.out);
    assert!(shown.out.contains("\n    \"order\": 1.10,\n"), "as it was sent: {}", shown.out);

    let again = errors(&server, &["replay", "0"]);
    assert_eq!(again.status, 1, "its user is still unknown: {}", again.out);
    assert!(again.out.contains("refused again: ") && again.out.contains("(USER_NOT_FOUND)"), "{}", again.out);
    assert_eq!(server.records(ERRORS).await.len(), 1, "it is on the topic already");

    let user = server.user("late").await;
    let accepted = errors(&server, &["replay", "0"]);
    assert_eq!((accepted.status, accepted.out.as_str()), (0, "the event of record 0 was accepted\n"));
    assert_eq!(server.segments_of(user).await, [segment]);
    let twice = errors(&server, &["replay", "0"]);
    assert_eq!(twice.out, "the event of record 0 was accepted before; nothing was sent\n");
    assert_eq!(twice.status, 0);
    let all = errors(&server, &["replay", "--all"]);
    assert_eq!((all.status, all.out.as_str()), (0, "0 accepted, 0 refused again, 1 accepted before\n"));
    let server = server.kill().start();
    assert_eq!(errors(&server, &["replay", "0"]).out, twice.out, "a crash does not forget it");
    assert!(errors(&server, &["list"]).out.contains("accepted by a replay"));
    let events = server.records("event_ingested_topic").await;
    let of_user = events.iter().filter(|record| record["value"]["payload"].is_object()).collect::<Vec<_>>();
    assert_eq!(of_user.len(), 1, "{of_user:?}");
    assert_eq!(of_user[0]["value"]["created_at"], "2026-01-01T00:00:00.000000Z");

    let emitted = topic(&server, &["tail", NOTIFICATIONS]).lines();
    assert_eq!(emitted.len(), 1, "{emitted:?}");
    let notification = &emitted[0]["value"];
    assert_eq!((&notification["user_id"], &notification["in_segments"]), (&json!(user), &json!([segment])));
}

#[tokio::test]
async fn one_dead_letter_is_edited_and_all_of_a_code_are_replayed() {
    let data = tempfile::tempdir().unwrap();
    let server = start(&data);
    let segment = server.segment("spent", "sum(order_total) > 10").await;
    server.in_force(segment).await;
    let user = server.user("a").await;
    server.event(&json!({"id": "a", "payload": {"order_total": "ten"}})).await;
    server.send("application/json", "{\"id\":\"a\"").await.unwrap();
    for name in ["b", "c", "d"] {
        assert_eq!(server.event(&json!({"id": name})).await.status, 404);
    }

    let ran = errors(&server, &["replay", "0", "--patch", r#"{"payload": {"order_total": "1o"}}"#]);
    assert!(ran.status == 1 && ran.out.contains("(INVALID_ORDER_TOTAL)"), "{}", ran.out);
    let ran = errors(&server, &["replay", "0", "--patch", r#"{"payload": {"order_total": "10.50"}}"#]);
    assert_eq!((ran.status, ran.out.as_str()), (0, "the event of record 0 was accepted\n"), "{}", ran.error);
    assert_eq!(server.segments_of(user).await, [segment]);
    let ran = errors(&server, &["replay", "1", "--patch", "{}"]);
    assert_eq!(ran.status, 1);
    assert!(ran.error.contains("it cannot be patched") && ran.error.contains("(NOT_PATCHABLE)"), "{}", ran.error);
    let ran = errors(&server, &["replay", "1", "--instead", r#"{"id": "a", "payload": {"order_total": 1}}"#]);
    assert_eq!(ran.status, 0, "{}{}", ran.out, ran.error);

    server.user("b").await;
    server.user("c").await;
    let ran = errors(&server, &["replay", "--all", "--code", "USER_NOT_FOUND"]);
    assert_eq!(ran.status, 1, "d is still unknown");
    let mut lines = ran.out.lines();
    assert_eq!(lines.next(), Some("2 accepted, 1 refused again, 0 accepted before"), "{}", ran.out);
    assert!(lines.next().unwrap().starts_with("  record 4: no user has the id `d`"), "{}", ran.out);
    let ran = errors(&server, &["replay", "--all", "--code", "INVALID_JSON"]);
    assert_eq!(ran.out, "0 accepted, 0 refused again, 1 accepted before\n");
    let strange = errors(&server, &["replay", "--all", "--code", "a&limit=0 ü"]);
    assert!(strange.error.starts_with("no rejected event has the code a&limit=0 ü; there are: "), "{}", strange.error);
    let ran = errors(&server, &["replay", "--all", "--code", "NO_SUCH"]);
    assert_eq!(ran.status, 1);
    let known =
        "no rejected event has the code NO_SUCH; there are: INVALID_JSON, INVALID_ORDER_TOTAL, USER_NOT_FOUND\n";
    assert_eq!(ran.error, known);
    assert_eq!(server.records(ERRORS).await.len(), 5, "a repeated rejection adds no record");

    let ran = errors(&server, &["list", "--from", "1", "--limit", "2"]);
    assert_eq!(ran.out.lines().last(), Some("for more, add --from 3"), "{}", ran.out);
    let offsets = |words: &[&str]| -> Vec<Value> {
        errors(&server, words).lines().iter().map(|record| record["offset"].clone()).collect()
    };
    assert_eq!(offsets(&["list", "--json", "--limit", "2"]), [3, 4]);
    assert_eq!(offsets(&["list", "--json", "--from", "3"]), [3, 4]);
    let ran = errors(&server, &["show", "99"]);
    assert_eq!(ran.status, 1);
    assert!(ran.error.contains("no record 99; `uss errors list`"), "{}", ran.error);
}

#[tokio::test]
async fn a_failed_computation_is_listed_but_cannot_be_replayed() {
    let data = tempfile::tempdir().unwrap();
    let server = start(&data);
    let user = server.user("someone").await;
    let launch = server.stop();
    launch.append(user_record(user, br#"{"type":"of the future","user_id":1}"#)).await;
    let server = launch.start();
    server.segments_of(user).await;
    let listed = errors(&server, &["list"]);
    assert!(listed.out.contains("BAD_RECORD"), "{}", listed.out);
    let ran = errors(&server, &["replay", "0"]);
    assert_eq!(ran.status, 1);
    assert!(ran.error.ends_with("the worker itself repeats it (NOT_AN_EVENT)\n"), "{}", ran.error);
    let ran = errors(&server, &["replay", "--all"]);
    assert_eq!((ran.status, ran.out.as_str()), (0, "0 accepted, 0 refused again, 0 accepted before\n"));
}

#[tokio::test]
async fn the_routes_of_the_commands_need_an_admin_key_and_refuse_wrong_parameters() {
    let data = tempfile::tempdir().unwrap();
    let (admin, ingest) = ("admin-0123456789abcdef", "ingest-0123456789abcdef");
    let keys = format!("admin:{admin},ingest:{ingest}");
    let server = Launch::new(data.path()).set("USS_API_KEYS", &keys).start();
    let event = server.client().post(format!("{}/api/v1/events", server.ingestion)).bearer_auth(ingest);
    assert_eq!(response_to(event.body(r#"{"id":"a"}"#)).await.unwrap().status, 404);
    let replay = "/0/replay";
    let cases = [
        ("GET", "", "", ingest, 403, "FORBIDDEN"),
        ("POST", replay, "", ingest, 403, "FORBIDDEN"),
        ("POST", "/replay", "", ingest, 403, "FORBIDDEN"),
        ("POST", "/replay?limit=0", "", admin, 400, "INVALID_LIMIT"),
        ("GET", "?limit=0", "", admin, 400, "INVALID_LIMIT"),
        ("GET", "?limit=1001", "", admin, 400, "INVALID_LIMIT"),
        ("GET", "/x", "", admin, 400, "INVALID_PATH"),
        ("GET", "/1", "", admin, 404, "ERROR_NOT_FOUND"),
        ("POST", "/1/replay", "", admin, 404, "ERROR_NOT_FOUND"),
        ("POST", replay, "{", admin, 400, "INVALID_BODY"),
        ("POST", replay, r#"{"patches":{}}"#, admin, 400, "INVALID_BODY"),
        ("POST", replay, r#"{"patch":{},"instead":{}}"#, admin, 400, "INVALID_BODY"),
        ("POST", replay, "", admin, 404, "USER_NOT_FOUND"),
        ("POST", replay, r#"{"instead":7}"#, admin, 400, "NOT_AN_OBJECT"),
    ];
    for (method, path, body, key, status, code) in cases {
        let url = format!("{}/api/v1/errors{path}", server.ingestion);
        let request = server.client().request(method.parse().unwrap(), url).bearer_auth(key).body(body);
        let request = request.header("content-type", "application/json");
        let response = response_to(request).await.unwrap();
        assert_eq!((response.status, &response.body["code"]), (status, &json!(code)), "{method} {path} {body}");
        let is_outcome = ["USER_NOT_FOUND", "NOT_AN_OBJECT"].contains(&code);
        assert_eq!(response.body["outcome"] == "rejected", is_outcome, "{}", response.body);
    }
    for path in ["/replay", "/0/replay"] {
        let request = server.client().post(format!("{}/api/v1/errors{path}", server.ingestion)).bearer_auth(admin);
        let response = response_to(request.header("content-type", "text/plain").body("{}")).await.unwrap();
        assert_eq!((response.status, &response.body["code"]), (415, &json!("UNSUPPORTED_MEDIA_TYPE")), "{path}");
    }
    let url = format!("{}/api/v1/errors?from=-5", server.ingestion);
    let listed = response_to(server.client().get(url).bearer_auth(admin)).await.unwrap().body;
    assert_eq!((listed["data"].as_array().unwrap().len(), &listed["next_offset"]), (1, &json!(1)), "{listed}");
}

/// A `uss topic tail --follow` that is killed when the test ends.
struct Following(Child);

impl Drop for Following {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_topic_is_read_in_order_over_all_partitions_and_followed() {
    let data = tempfile::tempdir().unwrap();
    let server = start(&data);
    let segment = server.segment("seen", "count(*) > 0").await;
    server.in_force(segment).await;
    let mut users = Vec::new();
    for number in 0..30 {
        let name = format!("u{number}");
        users.push(server.user(&name).await);
        assert_eq!(server.event(&json!({"id": name})).await.status, 200);
    }
    server.segments_of(users[29]).await;
    let user_ids = |records: &[Value]| -> Vec<i64> {
        records.iter().map(|record| record["value"]["user_id"].as_i64().unwrap()).collect()
    };
    let all = topic(&server, &["tail", NOTIFICATIONS, "--from", "0"]).lines();
    let times: Vec<&str> = all.iter().map(|record| record["appendedAt"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let mut found = user_ids(&all);
    let last_ten = topic(&server, &["tail", NOTIFICATIONS]).lines();
    assert_eq!(last_ten, all[20..], "ten records of all partitions, not of each");
    found.sort_unstable();
    assert_eq!(found, users);
    let partition = all[0]["partition"].to_string();
    let here: Vec<Value> = all.iter().filter(|record| record["partition"] == all[0]["partition"]).cloned().collect();
    let words = ["tail", NOTIFICATIONS, "--partition", &partition, "--last", "100"];
    assert_eq!(topic(&server, &words).lines(), here);

    let words = ["topic", "tail", NOTIFICATIONS, "--last", "1", "--follow", "--url", &server.configuration];
    let mut following = Following(command(&words).spawn().unwrap());
    let mut lines = BufReader::new(following.0.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next(), all[29]);
    server.user("another").await;
    server.event(&json!({"id": "another"})).await;
    assert_eq!(next()["value"]["client_ref_id"], "another");
}

#[tokio::test]
async fn the_message_of_a_wrong_call_says_what_to_do() {
    // No process listens on a port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    for (words, variable) in
        [(["errors", "list"].as_slice(), "USS_INGESTION_URL"), (&["topic", "tail", "x"], "USS_CONFIGURATION_URL")]
    {
        let ran = run(command(&[words, &["--url", &url]].concat()));
        assert_eq!(ran.status, 1);
        assert!(ran.error.starts_with(&format!("{url} cannot be reached: ")), "{}", ran.error);
        let advice =
            format!("Is `uss serve` running? If it runs elsewhere, give its address with --url or {variable}\n");
        assert!(ran.error.ends_with(&advice), "{}", ran.error);
    }

    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).set("USS_API_KEYS", "admin:0123456789abcdef").start();
    let ran = errors(&server, &["list"]);
    assert!(ran.status == 1 && ran.error.ends_with("give an admin key with --key or USS_API_KEY\n"), "{}", ran.error);
    let key = ["--key", "0123456789abcdef"];
    assert_eq!(errors(&server, &[&["list"], key.as_slice()].concat()).status, 0);
    let ran = topic(&server, &[&["tail", "notifications"], key.as_slice()].concat());
    assert_eq!(ran.status, 1);
    assert_eq!(
        ran.error,
        "there is no topic notifications; there are: event_ingested_topic, error_topic, \
         user_segment_notification_topic, segment_config_topic\n"
    );
    let ran = topic(&server, &[&["tail", ERRORS, "--partition", "1"], key.as_slice()].concat());
    assert_eq!(ran.error, "the topic error_topic has no partition 1; it has 1, from 0\n");
    let wrong = run(command(&[&["errors", "list", "--url", &server.configuration], key.as_slice()].concat()));
    assert!(wrong.error.contains("but not like this API of USS"), "{}", wrong.error);

    for words in [["replay"].as_slice(), &["replay", "1", "--all"], &["replay", "1", "--patch", "{"]] {
        assert_eq!(errors(&server, words).status, 2, "{words:?} is a usage error");
    }
    let ran = errors(&server, &["list", "--help"]);
    assert!(ran.status == 0 && ran.out.contains("USS_INGESTION_URL"), "{}", ran.out);
}

#[tokio::test]
async fn users_are_looked_up_by_client_id() {
    let data = tempfile::tempdir().unwrap();
    let server = start(&data);
    let segment =
        server.segment("seen_twice", "count(*) FILTER (WHERE created_at >= now() - INTERVAL '1 day') >= 2").await;
    server.in_force(segment).await;
    for name in ["a & b", "once"] {
        server.user(name).await;
        assert_eq!(server.event(&json!({"id": name})).await.status, 200);
    }
    assert_eq!(server.event(&json!({"id": "a & b"})).await.status, 200);
    let users = |words: &[&str]| run(command(&[&["users"], words, &["--url", &server.configuration]].concat()));

    let found = users(&["find", "a & b"]);
    let lines: Vec<&str> = found.out.lines().collect();
    assert_eq!((found.status, lines[1]), (0, "client id  a & b"), "{}{}", found.out, found.error);
    assert!(lines.last().unwrap().starts_with("segments   seen_twice since "), "{}", found.out);
    assert!(users(&["find", "once"]).out.ends_with("segments   none\n"));
    let missing = users(&["find", "nobody"]);
    assert_eq!((missing.status, missing.error.as_str()), (1, "no user has the client id nobody\n"));

    assert_eq!(users(&["members", "seen_twice"]).out, "a & b\n");
    assert_eq!(users(&["members", "seen_twice", "--count"]).out, "1\n");

    let explained = users(&["explain", "a & b", "seen_twice"]).out;
    let lines: Vec<&str> = explained.lines().collect();
    assert_eq!(lines[0], "a & b is in seen_twice");
    assert!(lines[1].starts_with("  true     count(*) FILTER"), "{explained}");
    assert!(lines[2].ends_with(" is 2, from 2 events"), "{explained}");
    assert!(lines.last().unwrap().starts_with("leaves at "), "{explained}");

    let transitions = users(&["transitions", "a & b"]).out;
    assert_eq!(transitions.lines().count(), 1);
    assert!(transitions.ends_with(" event    entered seen_twice\n"), "{transitions}");
}
