//! Tests every form of a time that can be composed of these pieces. A cast gives the same instant
//! in the engine, in DuckDB with the generated SQL, and in PostgreSQL, or the engine and DuckDB
//! both give NULL.

use ::duckdb::Connection;
use ::postgres::SimpleQueryMessage;
use segment_engine::sql;
use segment_engine::time::{Timestamp, parse_date, parse_local};

use crate::postgres_server::PostgresServer;

const DATES: [&str; 16] = [
    "2023-10-31",
    "20231031",
    "2023/10/31",
    "2023-304",
    "2023-1-5",
    "2024-366",
    "2023-02-29",
    "20230229",
    "2023-W44-2",
    "0001-01-01",
    "0000-01-01",
    "9999-12-31",
    "2023-10",
    "231031",
    "2023.10.31",
    "10/31/2023",
];
const TIMES: [&str; 19] = [
    "",
    "T12:00:00",
    "t12:00:00",
    " 12:00:00",
    "  9:05",
    "T12:00",
    "T115900",
    "T1159",
    " 1159",
    "T115900.25",
    "T12:00:00.123456",
    "T24:00:00",
    "T23:59:60",
    "T12",
    "T12:00:00,5",
    "T115",
    " T12:00",
    "115900",
    "T12:60",
];
const ZONES: [&str; 24] = [
    "",
    "Z",
    "z",
    " Z",
    "UTC",
    " utc",
    "GMT",
    "+02:00",
    "+0200",
    "+02",
    "+2",
    "+200",
    "-0430",
    " -0400",
    " +0000",
    " +2:30",
    "+02:30:15",
    "+15:59",
    "+16:00",
    "-23:59",
    "+0260",
    "+24",
    "[UTC]",
    " +0200 CEST",
];

/// The name of a type, and the casts to it of the generated SQL and of the engine, both as a
/// number.
type Cast = (&'static str, &'static str, fn(&str) -> Option<i64>);
/// What each spelling is read as.
type Read = Vec<Option<String>>;

#[test]
fn all_sources_cast_a_time_to_the_same_instant() {
    let mut texts = Vec::new();
    for date in DATES {
        for time in TIMES {
            texts.extend(ZONES.map(|zone| format!("{date}{time}{zone}")));
        }
    }
    let values = texts.iter().map(|text| format!("('{text}')")).collect::<Vec<_>>().join(",");
    let types: [Cast; 3] = [
        ("timestamptz", "epoch_us(user_segment_analytics.uss_text_to_instant(x))", |text| {
            Some(Timestamp::parse(text)?.0)
        }),
        ("timestamp", "epoch_us(user_segment_analytics.uss_text_to_local(x))", parse_local),
        ("date", "epoch_us(user_segment_analytics.uss_text_to_date(x)) // 86400000000", |text| {
            parse_date(text).map(i64::from)
        }),
    ];
    let server = PostgresServer::start();
    let mut postgres = server.connect();
    postgres.batch_execute(include_str!("postgres.sql")).unwrap();
    let duckdb = Connection::open_in_memory().unwrap();
    duckdb.execute_batch("SET TimeZone = 'Pacific/Apia';").unwrap();
    duckdb.execute_batch(sql::MACROS).unwrap();
    let (mut read, mut only_postgres) = (0, 0);
    for (name, macro_call, ours) in types {
        let by_duckdb = ask_duckdb(&duckdb, &format!("SELECT ({macro_call})::VARCHAR FROM (VALUES {values}) AS t(x)"));
        let epoch = match name {
            "date" => "text_to_date(x) - DATE '1970-01-01'".to_owned(),
            _ => format!("round(extract(epoch FROM text_to_{name}(x)) * 1000000)::bigint"),
        };
        let by_postgres =
            ask_postgres(&mut postgres, &format!("SELECT ({epoch})::text FROM (VALUES {values}) AS t(x)"));
        assert_eq!((by_duckdb.len(), by_postgres.len()), (texts.len(), texts.len()));
        for ((text, by_duckdb), by_postgres) in texts.iter().zip(by_duckdb).zip(by_postgres) {
            let ours = ours(text).map(|number| number.to_string());
            assert_eq!(ours, by_duckdb, "{text:?} as {name}: the engine, and DuckDB");
            match ours {
                None => only_postgres += usize::from(by_postgres.is_some()),
                Some(_) => {
                    assert_eq!(ours, by_postgres, "{text:?} as {name}: the engine, and PostgreSQL");
                    read += 1;
                }
            }
        }
    }
    assert!(read > 3 * 1_000, "{read} are read");
    assert!(only_postgres < read, "PostgreSQL alone reads {only_postgres}");
}

fn ask_duckdb(connection: &Connection, sql: &str) -> Read {
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get::<_, Option<String>>(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn ask_postgres(client: &mut ::postgres::Client, sql: &str) -> Read {
    let messages = client.simple_query(sql).unwrap();
    messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
            _ => None,
        })
        .collect()
}
