//! Imports two public data sets into segments that exist before and segments that are created
//! afterwards. Their members must be those that DuckDB finds in the raw files with hand-written SQL
//! and none of our code.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::process::Command;

use ports::clock::{Clock, SystemClock};
use serde_json::json;
use support::{Launch, Server, micros};

/// A segment: its where clause, and the same condition as SQL over `events(id, ts, …)`. `$NOW` is
/// the instant.
struct Segment {
    tag: &'static str,
    clause: &'static str,
    sql: &'static str,
}

/// A file and its segments.
struct Case {
    file: &'static str,
    /// Rows in the file.
    rows: usize,
    id_type: &'static str,
    /// Options of `uss import`, besides file and address.
    options: &'static [&'static str],
    /// Whether the import shifts all times.
    shift_to_now: bool,
    /// SQL that reads `$FILE` into `id`, `ts` and other columns.
    raw: &'static str,
    /// Segments that exist before the import.
    before: &'static [Segment],
    /// Segments that are created after it, so that they are filled from the warehouse.
    after: &'static [Segment],
}

/// Rows like ` 00001 19970101  1   11.77`, with a header.
const CDNOW: &str = r"SELECT cell[1] AS id, strptime(cell[2], '%Y%m%d') AS ts, cell[3]::INT AS cds, cell[4]::DECIMAL(18,2) AS amount
    FROM (SELECT string_split_regex(trim(line, E' \r'), ' +') AS cell FROM read_csv('$FILE', columns = {'line': 'VARCHAR'},
          auto_detect = false, header = true, delim = '|', quote = '', escape = ''))";
const ECOM: &str = "SELECT user_id AS id, timestamp::TIMESTAMP AS ts, * FROM read_csv('$FILE', all_varchar = true)";

const CDNOW_OPTIONS: &[&str] = &[
    "--format=csv",
    "--delimiter= ",
    "--map=id=customer_id",
    "--map=created_at=date",
    "--map=order_total=dollar_value",
    "--set=id_type=customer",
    "--set=activity_type=product_purchased",
];

/// Purchases, shifted to now. All are whole days apart, so that time changes nothing until a day
/// after the import.
const CDNOW_LIVE: Case = Case {
    file: "CDNOW_master.txt",
    rows: 69_659,
    id_type: "customer",
    options: CDNOW_OPTIONS,
    shift_to_now: true,
    raw: CDNOW,
    before: &[
        Segment {
            tag: "lapsed_regulars",
            clause: "count(*) FILTER (WHERE activity_type = 'product_purchased') >= 3
                AND count(*) FILTER (WHERE activity_type = 'product_purchased' AND created_at >= now() - INTERVAL '90 days') = 0",
            sql: "SELECT id FROM events GROUP BY id HAVING count(*) >= 3 AND max(ts) < $NOW - INTERVAL 90 DAY",
        },
        Segment {
            tag: "top_spenders",
            clause: "sum(order_total) >= 1000",
            sql: "SELECT id FROM events GROUP BY id HAVING sum(amount) >= 1000",
        },
        Segment {
            tag: "bought_once",
            clause: "count(*) = 1",
            sql: "SELECT id FROM events GROUP BY id HAVING count(*) = 1",
        },
        Segment {
            tag: "won_back",
            clause: "count(*) FILTER (WHERE created_at < now() - INTERVAL '365 days') > 0
                AND count(*) FILTER (WHERE created_at BETWEEN now() - INTERVAL '365 days' AND now() - INTERVAL '60 days') = 0
                AND count(*) FILTER (WHERE created_at > now() - INTERVAL '60 days') > 0",
            sql: "SELECT id FROM events GROUP BY id
                HAVING min(ts) < $NOW - INTERVAL 365 DAY AND max(ts) > $NOW - INTERVAL 60 DAY
                AND count(*) FILTER (ts >= $NOW - INTERVAL 365 DAY AND ts <= $NOW - INTERVAL 60 DAY) = 0",
        },
    ],
    after: &[
        Segment {
            tag: "large_orders",
            clause: "avg(order_total) > 60 AND count(*) >= 2",
            sql: "SELECT id FROM events GROUP BY id HAVING sum(amount) > 60 * count(*) AND count(*) >= 2",
        },
        Segment {
            tag: "collectors",
            clause: "sum((payload->>'number_of_cds')::int) >= 50",
            sql: "SELECT id FROM events GROUP BY id HAVING sum(cds) >= 50",
        },
        Segment {
            tag: "loyal_for_a_year",
            clause: "max(created_at) - min(created_at) > INTERVAL '365 days'",
            sql: "SELECT id FROM events GROUP BY id HAVING max(ts) - min(ts) > INTERVAL 365 DAY",
        },
        Segment {
            tag: "got_one_free",
            clause: "order_total = 0",
            sql: "SELECT DISTINCT id FROM events WHERE amount = 0",
        },
        Segment {
            tag: "slowing_down",
            clause: "2 * count(*) FILTER (WHERE created_at >= now() - INTERVAL '180 days')
                < count(*) FILTER (WHERE created_at >= now() - INTERVAL '360 days' AND created_at < now() - INTERVAL '180 days')",
            sql: "SELECT id FROM events GROUP BY id HAVING 2 * count(*) FILTER (ts >= $NOW - INTERVAL 180 DAY)
                < count(*) FILTER (ts >= $NOW - INTERVAL 360 DAY AND ts < $NOW - INTERVAL 180 DAY)",
        },
    ],
};

/// The same purchases at their own times.
const CDNOW_HISTORY: Case = Case {
    file: "CDNOW_master.txt",
    rows: 69_659,
    id_type: "customer",
    options: CDNOW_OPTIONS,
    shift_to_now: false,
    raw: CDNOW,
    before: &[
        Segment {
            tag: "first_quarter_only",
            clause: "count(*) FILTER (WHERE created_at >= '1997-01-01' AND created_at < '1997-04-01') > 0
                AND count(*) FILTER (WHERE created_at >= '1997-04-01') = 0",
            sql: "SELECT id FROM events GROUP BY id HAVING max(ts) < '1997-04-01'",
        },
        Segment {
            tag: "christmas",
            clause: "created_at BETWEEN TIMESTAMPTZ '1997-12-01 00:00:00+00' AND TIMESTAMPTZ '1997-12-24 23:59:59+00'",
            sql: "SELECT DISTINCT id FROM events WHERE ts::DATE BETWEEN '1997-12-01' AND '1997-12-24'",
        },
    ],
    after: &[
        Segment {
            tag: "rising",
            clause: "sum(order_total) FILTER (WHERE extract(year FROM created_at) = 1998)
                > coalesce(sum(order_total) FILTER (WHERE extract(year FROM created_at) = 1997), 0)",
            sql: "SELECT id FROM events GROUP BY id
                HAVING sum(amount) FILTER (year(ts) = 1998) > coalesce(sum(amount) FILTER (year(ts) = 1997), 0)",
        },
        Segment {
            tag: "every_other_month",
            clause: "count(DISTINCT date_trunc('month', created_at)) >= 9",
            sql: "SELECT id FROM events GROUP BY id HAVING count(DISTINCT strftime(ts, '%Y-%m')) >= 9",
        },
        Segment {
            tag: "weekends_only",
            clause: "bool_and(extract(isodow FROM created_at) IN (6, 7)) AND count(*) >= 2",
            sql: "SELECT id FROM events GROUP BY id HAVING bool_and(isodow(ts) >= 6) AND count(*) >= 2",
        },
    ],
};

/// Clicks, shifted to now. The windows end in hours of the night without clicks, which the test
/// checks.
const ECOM_LIVE: Case = Case {
    file: "ecom.csv.gz",
    rows: 31_106,
    id_type: "visitor",
    options: &[
        "--map=id=user_id",
        "--map=created_at=timestamp",
        "--map=activity_type=event",
        "--map=device_type=platform",
        "--set=id_type=visitor",
    ],
    shift_to_now: true,
    raw: ECOM,
    before: &[
        Segment {
            tag: "cart_abandoned",
            clause: "max(created_at) FILTER (WHERE activity_type = 'add_to_cart') >= now() - INTERVAL '14 days'
                AND max(created_at) FILTER (WHERE activity_type = 'add_to_cart')
                  > coalesce(max(created_at) FILTER (WHERE activity_type = 'purchase'), TIMESTAMPTZ '1970-01-01 00:00:00+00')",
            sql: "SELECT id FROM (SELECT id, max(ts) FILTER (event = 'add_to_cart') AS added, max(ts) FILTER (event = 'purchase') AS bought
                  FROM events GROUP BY id) WHERE added >= $NOW - INTERVAL 14 DAY AND (bought IS NULL OR added > bought)",
        },
        Segment {
            tag: "only_looking",
            clause: "count(*) FILTER (WHERE activity_type = 'product_view') >= 10
                AND count(*) FILTER (WHERE activity_type = 'purchase') = 0",
            sql: "SELECT id FROM events WHERE event = 'product_view' AND id NOT IN (SELECT id FROM events WHERE event = 'purchase')
                GROUP BY id HAVING count(*) >= 10",
        },
        Segment {
            tag: "several_devices",
            clause: "count(DISTINCT device_type) >= 2",
            sql: "SELECT id FROM events GROUP BY id HAVING count(DISTINCT platform) >= 2",
        },
        Segment {
            tag: "stopped_at_a_fault",
            clause: "last(activity_type) IN ('payment_error', 'error_page', 'checkout_bug', 'support_chat')",
            sql: "SELECT id FROM events GROUP BY id
                HAVING arg_max(event, ts) IN ('payment_error', 'error_page', 'checkout_bug', 'support_chat')",
        },
        Segment {
            tag: "away_for_a_week",
            clause: "count(*) FILTER (WHERE created_at >= now() - INTERVAL '7 days') = 0",
            sql: "SELECT id FROM events GROUP BY id HAVING max(ts) < $NOW - INTERVAL 7 DAY",
        },
    ],
    after: &[
        Segment {
            tag: "frequent",
            clause: "count(DISTINCT payload->>'session_id') FILTER (WHERE created_at >= now() - INTERVAL '31 days') >= 3",
            sql: "SELECT id FROM events WHERE ts >= $NOW - INTERVAL 31 DAY GROUP BY id HAVING count(DISTINCT session_id) >= 3",
        },
        Segment {
            tag: "eight_days",
            clause: "count(DISTINCT created_at::date) >= 8",
            sql: "SELECT id FROM events GROUP BY id HAVING count(DISTINCT ts::DATE) >= 8",
        },
        Segment {
            tag: "curious",
            clause: "count(DISTINCT activity_type) >= 15",
            sql: "SELECT id FROM events GROUP BY id HAVING count(DISTINCT event) >= 15",
        },
        Segment {
            tag: "bought_as_returning",
            clause: "payload->>'user_lifecycle' = 'returning' AND activity_type = 'purchase'",
            sql: "SELECT DISTINCT id FROM events WHERE user_lifecycle = 'returning' AND event = 'purchase'",
        },
        Segment {
            tag: "fills_carts",
            clause: "count(*) FILTER (WHERE activity_type = 'add_to_cart') > 3 * count(*) FILTER (WHERE activity_type = 'purchase')",
            sql: "SELECT id FROM events GROUP BY id
                HAVING count(*) FILTER (event = 'add_to_cart') > 3 * count(*) FILTER (event = 'purchase')",
        },
    ],
};

#[tokio::test]
async fn purchases_shifted_to_now_have_the_members_that_sql_finds() {
    check(&CDNOW_LIVE).await;
}

#[tokio::test]
async fn purchases_of_1997_and_1998_have_the_members_that_sql_finds() {
    check(&CDNOW_HISTORY).await;
}

#[tokio::test]
async fn clicks_shifted_to_now_have_the_members_that_sql_finds() {
    check(&ECOM_LIVE).await;
}

async fn check(case: &Case) {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::new(data.path()).start();
    create(&server, case.before).await;
    import(&server, case);
    let reference = Reference::open(case);
    create(&server, case.after).await;
    reference.shift(last_event(&server).await);
    let clients = clients(&server, case, &reference).await;
    for twice in [false, true] {
        if twice {
            import(&server, case);
        }
        for segment in case.before.iter().chain(case.after) {
            compare(&server, segment, &reference, &clients).await;
        }
    }
}

async fn create(server: &Server, segments: &[Segment]) {
    for segment in segments {
        let id = server.segment(segment.tag, segment.clause).await;
        server.in_force(id).await;
    }
}

fn file(case: &Case) -> PathBuf {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.tools/data").join(case.file);
    assert!(file.exists(), "there is no {}; run scripts/data.sh", file.display());
    file
}

fn import(server: &Server, case: &Case) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uss"));
    let output = command.arg("import").arg(file(case)).args(case.options).args(["--url", &server.ingestion]);
    let output = output.args(case.shift_to_now.then_some("--shift-to-now"));
    let output = output.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let expected = format!("{} events accepted (those of an earlier import count once), 0 rejected", case.rows);
    assert!(text.starts_with(&expected), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
}

/// Returns the latest `created_at` in the log.
async fn last_event(server: &Server) -> i64 {
    let records = server.records("event_ingested_topic").await;
    records.iter().map(|record| &record["value"]["created_at"]).filter(|at| at.is_string()).map(micros).max().unwrap()
}

/// Returns the ids in the file of all users.
async fn clients(server: &Server, case: &Case, reference: &Reference) -> HashMap<i64, String> {
    let ids: Vec<String> = reference.ids("SELECT DISTINCT id FROM events").into_iter().collect();
    let identities: Vec<_> = ids.iter().map(|id| json!({"idType": case.id_type, "id": id})).collect();
    let response = server.post("/identities/resolve", &json!({"identities": identities})).await;
    let owners = response.body["data"].as_array().unwrap().iter();
    owners.zip(ids).map(|(owner, id)| (owner["userId"].as_i64().unwrap(), id)).collect()
}

async fn compare(server: &Server, segment: &Segment, reference: &Reference, clients: &HashMap<i64, String>) {
    let started = SystemClock.now().0;
    let response = server.get(&format!("/users/segment/{}?fresh=true", segment.tag)).await;
    let members = response.body["data"].as_array().unwrap_or_else(|| panic!("{}", response.body)).iter();
    let members = members.map(|user| {
        let client = &clients[&user["id"].as_i64().unwrap()];
        assert_eq!(user["clientRefId"], client.as_str(), "the client id is the id in the file");
        client.clone()
    });
    let members: BTreeSet<String> = members.collect();
    let expected = reference.members(segment, started);
    let tag = segment.tag;
    assert_eq!(expected, reference.members(segment, SystemClock.now().0), "{tag} must not change during the query");
    assert!(!expected.is_empty() && expected.len() < clients.len(), "{tag} is trivial: {} members", expected.len());
    let (missing, wrong): (Vec<_>, Vec<_>) =
        (expected.difference(&members).take(5).collect(), members.difference(&expected).take(5).collect());
    let sizes = (members.len(), expected.len());
    assert!(missing.is_empty() && wrong.is_empty(), "{tag} {sizes:?}: missing {missing:?}, wrong {wrong:?}");
}

/// The raw file in DuckDB.
struct Reference {
    database: duckdb::Connection,
}

impl Reference {
    fn open(case: &Case) -> Self {
        let database = duckdb::Connection::open_in_memory().unwrap();
        let raw = case.raw.replace("$FILE", file(case).to_str().unwrap());
        database.execute_batch(&format!("CREATE TABLE raw AS {raw}")).unwrap();
        let rows: usize = database.query_row("SELECT count(*) FROM raw", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, case.rows);
        Self { database }
    }

    /// Shifts all times by one span, so that the last event is at `last`.
    fn shift(&self, last: i64) {
        let view = "CREATE VIEW events AS SELECT * REPLACE (ts + to_microseconds($BY) AS ts) FROM raw";
        let newest = "SELECT epoch_us(max(ts)) FROM raw";
        let newest: i64 = self.database.query_row(newest, [], |row| row.get(0)).unwrap();
        self.database.execute_batch(&view.replace("$BY", &(last - newest).to_string())).unwrap();
    }

    fn members(&self, segment: &Segment, now: i64) -> BTreeSet<String> {
        self.ids(&segment.sql.replace("$NOW", &format!("make_timestamp({now})")))
    }

    fn ids(&self, sql: &str) -> BTreeSet<String> {
        let mut statement = self.database.prepare(sql).unwrap();
        let ids = statement.query_map([], |row| row.get(0)).unwrap();
        ids.map(Result::unwrap).collect()
    }
}
