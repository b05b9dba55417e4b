//! Imports files into the log of an ingestion API on loopback.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Parser;
use flate2::Compression;
use flate2::write::GzEncoder;
use ingestion_api::{AllowedOrigins, Ingestion, Limits, UnknownUsers, router};
use ports::clock::{Clock, SystemClock};
use ports::log::{Log, Topic};
use ports::records::decode::{Delivery, Input, decode_input};
use ports::records::instant;
use ports_testkit::memory::{MemoryIdentities, MemoryLog};
use segment_engine::decimal::Decimal;
use segment_engine::event::Position;
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;
use tempfile::TempDir;

use super::{ImportArgs, ImportError, Summary, dry_run, run};

mod formats;
mod options;
mod rejected;

const NOW: Timestamp = Timestamp(1_800_000_000_000_000);
const CSV: &str = "customer,when,action,amount,note
c1,2023-10-31 10:00:00,product_purchased,19.90,\"a, b\"
c1,2023-10-31 10:00:00,product_purchased,19.90,\"a, b\"
c2,20231101,page_viewed,,
";
const MAPPED: [&str; 8] = [
    "--map",
    "id=customer",
    "--map",
    "created_at=when",
    "--map",
    "activity_type=action",
    "--map",
    "order_total=amount",
];

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    import: ImportArgs,
}

struct World {
    log: Arc<MemoryLog>,
    url: String,
    folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let log = Arc::new(MemoryLog::new(2, clock.clone()));
        let identities = Arc::new(MemoryIdentities::new(clock.clone()));
        let ingestion = Ingestion::new(log.clone(), identities, clock, Limits::default(), UnknownUsers::Reject);
        let routes =
            router(Arc::new(ingestion), &"admin:0123456789abcdef".parse().unwrap(), &AllowedOrigins::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { log, url, folder: TempDir::new().unwrap() }
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    async fn import(&self, file: &Path, options: &[&str]) -> Result<Summary, ImportError> {
        run(&self.args(&[file], options), NOW).await
    }

    fn args(&self, files: &[&Path], options: &[&str]) -> ImportArgs {
        let rejected = self.folder.path().join("rejected");
        let fixed = ["--url", &self.url, "--key", "0123456789abcdef", "--rejected", rejected.to_str().unwrap()];
        let files = files.iter().map(|file| file.to_str().unwrap());
        Cli::try_parse_from(["uss"].into_iter().chain(files).chain(fixed).chain(options.iter().copied()))
            .unwrap()
            .import
    }

    /// Reads the file of rejected rows: line, code and text of each.
    fn rejected(&self) -> Vec<(u64, String, String)> {
        let text = std::fs::read_to_string(self.folder.path().join("rejected")).unwrap_or_default();
        let rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let string = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        rows.map(|row| (row["line"].as_u64().unwrap(), string(&row["code"]), string(&row["text"]))).collect()
    }

    /// Returns the client ids of the events in the log, in order of `created_at`.
    async fn users(&self) -> Vec<String> {
        let mut events: Vec<_> = self.deliveries().await.into_iter().map(|delivery| delivery.event).collect();
        events.sort_by_key(|event| event.created_at);
        events.into_iter().map(|event| event.client_ref_id.into()).collect()
    }

    async fn deliveries(&self) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        for partition in 0..2 {
            for record in self.log.read(Topic::Events, PartitionId(partition), 0, usize::MAX).await.unwrap().records {
                let position = Position { partition: PartitionId(partition), offset: record.offset };
                if let Input::Event(delivery) = decode_input(&record.value, position, record.appended_at).unwrap() {
                    deliveries.push(delivery);
                }
            }
        }
        deliveries
    }

    async fn event_ids(&self) -> BTreeSet<String> {
        let deliveries = self.deliveries().await;
        assert!(deliveries.iter().all(|delivery| delivery.dedupe_forever));
        deliveries.into_iter().filter_map(|delivery| delivery.event.event_id).map(String::from).collect()
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_a_csv_file_count_once_if_it_is_imported_twice() {
    let world = World::new().await;
    let file = world.file("orders.csv", CSV.as_bytes());
    let packed = world.file("orders-packed.csv.gz", &gzip(CSV.as_bytes()));
    let options: Vec<&str> = MAPPED.into_iter().chain(["--set", "id_type=crm"]).collect();
    for file in [&file, &packed] {
        let summary = world.import(file, &options).await.unwrap();
        assert_eq!((summary.accepted, summary.rejected.rows), (3, 0));
    }
    let mut deliveries = world.deliveries().await;
    assert_eq!((deliveries.len(), world.event_ids().await.len()), (6, 3), "two identical rows both count");
    deliveries.sort_by_key(|delivery| delivery.event.created_at);
    let event = &deliveries[0].event;
    assert_eq!((&*event.client_ref_id, event.id_type.as_deref()), ("c1", Some("crm")));
    assert_eq!(
        (event.activity_type.as_deref(), event.order_total),
        (Some("product_purchased"), Decimal::parse("19.9"))
    );
    assert_eq!(event.payload["note"], "a, b");
    assert_eq!(instant::format(event.created_at), "2023-10-31T10:00:00.000000Z");
    let last = &deliveries[5].event;
    assert_eq!((last.order_total, last.payload.get("note")), (None, None), "an empty cell is no value");
    assert_eq!(instant::format(last.created_at), "2023-11-01T00:00:00.000000Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shift_to_now_does_not_change_event_ids() {
    let world = World::new().await;
    let file = world.file("orders.csv", CSV.as_bytes());
    world.import(&file, &MAPPED).await.unwrap();
    let shifted: Vec<&str> = MAPPED.into_iter().chain(["--shift-to-now"]).collect();
    world.import(&file, &shifted).await.unwrap();
    assert_eq!(world.event_ids().await.len(), 3);
    let times: BTreeSet<i64> = world.deliveries().await.iter().map(|delivery| delivery.event.created_at.0).collect();
    let fourteen_hours = 14 * 3_600 * 1_000_000;
    assert!(times.contains(&NOW.0) && times.contains(&(NOW.0 - fourteen_hours)), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_may_be_aligned_with_blanks() {
    let world = World::new().await;
    let aligned = " who  day      amount\r\n 0001 19970101  11.77\r\n\r\n 0002 19980630   6.00\r\n";
    let file = world.file("orders.txt", aligned.as_bytes());
    let blanks = ["--format", "csv", "--delimiter", " ", "--map", "id=who", "--map", "created_at=day"];
    let summary = world.import(&file, &blanks).await.unwrap();
    assert_eq!((summary.accepted, summary.rejected.rows), (2, 0));
    let mut events: Vec<_> = world.deliveries().await.into_iter().map(|delivery| delivery.event).collect();
    events.sort_by_key(|event| event.created_at);
    assert_eq!((&*events[0].client_ref_id, &events[0].payload["amount"]), ("0001", &"11.77".into()));
    assert_eq!(instant::format(events[1].created_at), "1998-06-30T00:00:00.000000Z");
    let short = world.file("short.txt", b"who day\na 19970101\nb\n");
    let summary = world.import(&short, &blanks).await.unwrap();
    assert!(summary.to_string().contains("short.txt, line 3: 1 cells, but the header has 2"), "{summary}");
    assert_eq!(world.rejected(), [(3, "UNREADABLE_ROW".to_owned(), "b".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_json_need_no_mapping() {
    let world = World::new().await;
    let lines = r#"{"id":"a","created_at":"2023-10-31T00:00:00","country":"US","x":1.10,"payload":{"url":"u","order_total":5}}
{"id":7,"created_at":1698710400,"payload":null,"event_id":"own"}

{"id":"a","created_at":"2023-10-31","payload":{"order_total":"ten"}}
"#;
    let summary = world.import(&world.file("events.ndjson", lines.as_bytes()), &[]).await.unwrap();
    assert_eq!((summary.accepted, summary.rejected.rows), (2, 1));
    let text = summary.to_string();
    assert!(text.contains("events.ndjson, line 4") && text.contains("INVALID_ORDER_TOTAL"), "{text}");
    assert!(text.contains("`uss errors list`"), "{text}");
    let deliveries = world.deliveries().await;
    let of = |id: &str| deliveries.iter().find(|delivery| &*delivery.event.client_ref_id == id).unwrap().event.clone();
    assert_eq!((of("a").country.as_deref(), of("a").url.as_deref()), (Some("US"), Some("u")));
    assert_eq!(of("a").payload["x"], "1.10");
    assert_eq!(of("7").event_id.as_deref(), Some("own"));
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_files_are_read() {
    let world = World::new().await;
    let path = world.folder.path().join("it's.parquet");
    let sql = format!(
        "COPY (SELECT 'u' || (i % 7) AS visitor, TIMESTAMP '2023-10-31 00:00:00' + INTERVAL (i) SECOND AS created_at,
           'page_viewed' AS activity_type, (i * 0.25)::DECIMAL(9,2) AS order_total, {{'size': i}} AS cart
         FROM range(12000) t(i)) TO '{}' (FORMAT parquet)",
        path.to_str().unwrap().replace('\'', "''")
    );
    duckdb::Connection::open_in_memory().unwrap().execute_batch(&sql).unwrap();
    for _ in 0..2 {
        let summary = world.import(&path, &["--map", "id=visitor"]).await.unwrap();
        assert_eq!((summary.accepted, summary.rejected.rows), (12_000, 0));
    }
    assert_eq!(world.event_ids().await.len(), 12_000);
    let deliveries = world.deliveries().await;
    let last = deliveries.iter().max_by_key(|delivery| delivery.event.created_at).unwrap().event.clone();
    assert_eq!((last.order_total, &last.payload["cart"]["size"]), (Decimal::parse("2999.75"), &11_999.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_imported_is_reported_before_any_event_is_sent() {
    let world = World::new().await;
    let cases = [
        (
            "c.csv",
            "who,created_at\na,2023-10-31\n",
            "c.csv: none of its columns is the event's id; add --map id=COLUMN",
        ),
        ("d.csv", "id;created_at\na;2023-10-31\n", "Try --delimiter ';'"),
        ("e.csv", "id\tcreated_at\na\t2023-10-31\n", "Try --delimiter '\\t'"),
        (
            "f.ndjson",
            "{\"user\":\"a\",\"created_at\":\"2023-10-31\"}\n",
            "the event's id; add --map id=COLUMN; it has created_at, user",
        ),
        ("g.xls", "", "add --format"),
        ("h.parquet", "no parquet", "h.parquet: "),
        ("i.csv", "\u{feff}", "i.csv: none of its columns is the event's id"),
    ];
    for (name, content, message) in cases {
        let error = world.import(&world.file(name, content.as_bytes()), &[]).await.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let utf16 = world.file("j.csv", &[0xff, 0xfe, b'i', 0, b'd', 0]);
    let error = world.import(&utf16, &[]).await.unwrap_err().to_string();
    assert!(error.contains("UTF-16") && error.contains("iconv"), "{error}");
    let error =
        world.import(&world.file("m.csv", CSV.as_bytes()), &["--map", "id=nobody"]).await.unwrap_err().to_string();
    assert!(error.contains("no column `nobody`") && error.contains("customer, when"), "{error}");
    let missing = world.import(&world.folder.path().join("missing.csv"), &[]).await.unwrap_err().to_string();
    assert!(missing.contains("missing.csv: "), "{missing}");
    assert!(Cli::try_parse_from(["uss", "x.csv", "--map", "colour=c"]).is_err());
    assert!(world.deliveries().await.is_empty() && world.rejected().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_fails_the_import_and_unknown_users_are_rejected() {
    let world = World::new().await;
    let file = world.file("orders.csv", CSV.as_bytes());
    let args = ImportArgs { key: Some("wrong".to_owned()), ..world.args(&[&file], &MAPPED) };
    let error = run(&args, NOW).await.unwrap_err().to_string();
    assert!(error.contains("401") && error.contains("UNAUTHORIZED"), "{error}");
    let known: Vec<&str> = MAPPED.into_iter().chain(["--known-users-only"]).collect();
    let summary = world.import(&file, &known).await.unwrap();
    assert_eq!((summary.accepted, summary.rejected.rows), (0, 3));
    assert!(summary.to_string().contains("USER_NOT_FOUND"));
}
