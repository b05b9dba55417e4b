//! Tests formats of files: byte order marks, tabs, blanks, arrays, Parquet's floats.

use super::*;

const ROW: &str = r#"{"id":"a","created_at":"2026-01-01T00:00:00Z"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_order_mark_is_skipped() {
    let marked = |text: &str| format!("\u{feff}{text}").into_bytes();
    let cases = [
        ("a.ndjson", marked(&format!("{ROW}\n"))),
        ("b.json", marked(&format!("[{ROW}]"))),
        ("c.csv", marked("id,created_at\na,2026-01-01\n")),
        ("d.csv", marked("\"id\",\"created_at\"\na,2026-01-01\n")),
        ("e.tsv", marked("id\tcreated_at\na\t2026-01-01\n")),
        ("f.ndjson.gz", gzip(&marked(&format!("{ROW}\n")))),
        ("g.csv.gz", gzip(&marked("id,created_at\na,2026-01-01\n"))),
        ("h.ndjson", format!("\n{ROW}\n").into_bytes()),
    ];
    for (name, content) in cases {
        let world = World::new().await;
        let summary = world.import(&world.file(name, &content), &[]).await.unwrap();
        assert_eq!((summary.accepted, summary.rejected.rows), (1, 0), "{name}: {summary}");
        assert_eq!(world.users().await, ["a"], "{name}");
    }
    let world = World::new().await;
    let joined = [marked(&format!("{ROW}\n")), marked(&format!("{ROW}\n"))].concat();
    assert_eq!(world.import(&world.file("two.ndjson", &joined), &[]).await.unwrap().accepted, 2);
    let blanks = world.file("blanks.txt", &marked("id created_at\na 2026-01-01\n"));
    assert_eq!(world.import(&blanks, &["--format", "csv", "--delimiter", " "]).await.unwrap().accepted, 1);
}

/// NUL and lone surrogates become U+FFFD, but an id with them is rejected. The API treats posted
/// events the same way.
#[tokio::test(flavor = "multi_thread")]
async fn characters_that_cannot_be_stored_are_replaced() {
    let world = World::new().await;
    let row = |id: &str| format!(r#"{{"id":"{id}","created_at":"2026-01-01","q":"a\ud83d","r":{{"s":"\u0000"}}}}"#);
    let lines = world.file("l.ndjson", format!("{}\n{}\n", row("a"), row("x\\u0000")).as_bytes());
    let array = world.file("l.json", format!("[{}]", row("b")).as_bytes());
    let csv = world.file("c.csv", b"id,created_at,q\nc,2026-01-02,a\0\n");
    let args = world.args(&[&lines, &array, &csv], &["--map", "payload.s=r.s"]);
    let error = run(&args, NOW).await.unwrap_err().to_string();
    assert!(error.contains("c.csv: it has no column `r.s`"), "{error}");
    let summary = run(&world.args(&[&lines, &array, &csv], &[]), NOW).await.unwrap();
    assert_eq!((summary.rejected.rows, summary.rejected.by_api), (1, 1), "{summary}");
    let mut found: Vec<_> = world.deliveries().await.into_iter().map(|delivery| delivery.event).collect();
    found.sort_by(|a, b| a.client_ref_id.cmp(&b.client_ref_id));
    let values: BTreeSet<String> = found.iter().map(|event| event.payload["q"].to_string()).collect();
    assert_eq!(values.into_iter().collect::<Vec<_>>(), ["\"a\u{fffd}\""]);
    assert!(found.iter().any(|event| event.payload.get("s") == Some(&"\u{fffd}".into())), "also inside of an object");
}

#[tokio::test(flavor = "multi_thread")]
async fn blanks_around_cells_and_column_names_are_removed() {
    let world = World::new().await;
    let text = "id , created_at , activity_type,note, seats\nu1 , 2026-01-01T00:00:00Z , buy,\"  a b  \",   \n";
    let tabs = "id \t created_at\tactivity_type\tnote\nu1 \t 2026-01-01T00:00:00Z\t buy\t a b\n";
    world.import(&world.file("a.csv", text.as_bytes()), &[]).await.unwrap();
    world.import(&world.file("b.tsv", tabs.as_bytes()), &[]).await.unwrap();
    world.import(&world.file("b.txt", tabs.as_bytes()), &["--format", "csv", "--delimiter", "\\t"]).await.unwrap();
    world.import(&world.file("b.csv", tabs.as_bytes()), &["--delimiter", "\t"]).await.unwrap();
    assert_eq!(world.event_ids().await.len(), 1, "all files have the same event");
    for delivery in world.deliveries().await {
        let event = delivery.event;
        assert_eq!((&*event.client_ref_id, event.activity_type.as_deref()), ("u1", Some("buy")));
        assert_eq!((&event.payload["note"], event.payload.get("seats")), (&"a b".into(), None));
    }
    for wrong in ["", "ab", "\\n"] {
        assert!(Cli::try_parse_from(["uss", "x.csv", "--delimiter", wrong]).is_err(), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_array_is_read() {
    let world = World::new().await;
    let rows: Vec<String> = (0..12_000)
        .map(|n| {
            format!(
                "{{\"id\": \"u{n}\",\n \"created_at\": {},\n \"q\": [\"]\", \"\\\"}}\", {{\"x\": [{n}]}}]}}",
                1_700_000_000 + n
            )
        })
        .collect();
    let file = world.file("array.json", format!("\n [ {} ] \n", rows.join(" ,\n")).as_bytes());
    let summary = world.import(&file, &["--map", "payload.answer=q"]).await.unwrap();
    assert_eq!((summary.accepted, summary.rejected.rows), (12_000, 0), "{summary}");
    assert_eq!(world.users().await.last().map(String::as_str), Some("u11999"));
    // The same rows on lines have the same ids.
    let lines: Vec<String> = rows.iter().map(|row| row.replace('\n', "")).collect();
    world
        .import(&world.file("lines.ndjson", lines.join("\n").as_bytes()), &["--map", "payload.answer=q"])
        .await
        .unwrap();
    assert_eq!(world.event_ids().await.len(), 12_000);
    for (name, text) in [("empty.json", "[]"), ("blank.json", " [ \n ] "), ("none.ndjson", "")] {
        assert_eq!(world.import(&world.file(name, text.as_bytes()), &[]).await.unwrap().accepted, 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nan_in_parquet_becomes_null_and_whole_floats_become_integers() {
    let world = World::new().await;
    let path = world.folder.path().join("floats.parquet");
    let sql = "COPY (SELECT * FROM (VALUES
            (123.0::DOUBLE, 1767225600.0::DOUBLE, 'NaN'::DOUBLE, 20.0::DOUBLE, {'size': 12.0::DOUBLE, 'left': 'inf'::FLOAT, 'name': '1.0'}),
            (7.0, 1767225601.5, '-inf', 0.5, {'size': 'nan'::DOUBLE, 'left': 1.5::FLOAT, 'name': 'NaN'})
        ) AS t(user_id, created_at, order_total, price, cart)) TO '$' (FORMAT parquet)";
    let database = duckdb::Connection::open_in_memory().unwrap();
    database.execute_batch(&sql.replace('$', path.to_str().unwrap())).unwrap();
    let summary = world.import(&path, &["--map", "id=user_id", "--map", "payload.size=cart.size"]).await.unwrap();
    assert_eq!((summary.accepted, summary.rejected.rows), (2, 0), "{summary}");
    assert_eq!(world.users().await, ["123", "7"]);
    let mut events: Vec<_> = world.deliveries().await.into_iter().map(|delivery| delivery.event).collect();
    events.sort_by_key(|event| event.created_at);
    assert_eq!(instant::format(events[1].created_at), "2026-01-01T00:00:01.500000Z");
    assert_eq!((events[0].order_total, events[1].order_total), (None, None));
    assert_eq!(events[0].payload["price"], 20);
    assert_eq!(events[1].payload["price"], 0.5);
    assert_eq!(events[0].payload["cart"], serde_json::json!({"size": 12, "left": null, "name": "1.0"}));
    assert_eq!(events[1].payload["cart"], serde_json::json!({"size": null, "left": 1.5, "name": "NaN"}));
    assert_eq!((&events[0].payload["size"], &events[1].payload["size"]), (&12.into(), &serde_json::Value::Null));
    let error = world.import(&path, &["--map", "id=user_di"]).await.unwrap_err().to_string();
    assert!(error.contains("no column `user_di`") && error.contains("did you mean `user_id`?"), "{error}");
    let error =
        world.import(&path, &["--map", "id=user_id", "--map", "payload.s=cart.sise"]).await.unwrap_err().to_string();
    assert!(error.contains("no row has `cart.sise`") && error.contains("did you mean `cart.size`?"), "{error}");
}

/// Earlier builds derived these ids. They must stay, so that importing a file again with a later
/// build counts no event twice.
#[test]
fn derived_ids_are_those_of_earlier_builds() {
    let folder = TempDir::new().unwrap();
    let parquet = folder.path().join("p.parquet");
    let sql =
        "COPY (SELECT 'a' AS id, TIMESTAMP '2023-10-31 10:00:00' AS created_at, 20.0::DOUBLE AS price, NULL::INT AS n,
        {'size': 3.0::DOUBLE} AS cart) TO '$' (FORMAT parquet)";
    let database = duckdb::Connection::open_in_memory().unwrap();
    database.execute_batch(&sql.replace('$', parquet.to_str().unwrap())).unwrap();
    let csv = folder.path().join("c.csv");
    std::fs::write(&csv, "id,created_at,order_total,note\na,20231031,19.90,\"x, y\"\na,20231031,19.90,\"x, y\"\n")
        .unwrap();
    let lines = folder.path().join("l.ndjson");
    let text = r#"{"id":7,"id_type":"crm","created_at":1698710400,"x":1.0,"payload":{"y":[1.0]}}"#;
    std::fs::write(&lines, text).unwrap();
    let payloads = folder.path().join("p.csv");
    let text = r#"id,created_at,payload,amount,payload.coupon
ä,2023-10-31 12:00:00,"{""b"": ""x\u0041"", ""a\u0062"": [1, 2.50], ""b"": 2}","1.234,5",q
b,2023-10-31 12:00:00,null,"3,0",
"#;
    std::fs::write(&payloads, text).unwrap();
    let nested = folder.path().join("n.ndjson");
    let text = r#"{"user":{"id":7,"n.m":1},"at":"2023-10-31T12:00:00+02:00","x\u0079":null,"cart":{"total":"5.5","z":{}},"payload":"{\"k\":true}","k":1}"#;
    std::fs::write(&nested, text).unwrap();
    let cases = [
        (&csv, "", vec!["08b49d6b5f6ba06c2d136d29bc1c8272:1", "08b49d6b5f6ba06c2d136d29bc1c8272:2"]),
        (&lines, "", vec!["b2612e14a586c563f5b69373a797154d:1"]),
        (&parquet, "", vec!["edec8bd0725ee86917d45e7ceca56158:1"]),
        (
            &payloads,
            "--map order_total=amount --decimal-comma --set id_type=crm",
            vec!["8bdb0a93b556792cd649960ae2ecf8fa:1", "36daa772feed4bfd2934ad7d5deb3809:1"],
        ),
        (
            &nested,
            "--map id=user.id --map created_at=at --map order_total=cart.total --set device_type=tv",
            vec!["90dcb8481b2bf284ff9edba83c1a2c06:1"],
        ),
    ];
    for (file, options, expected) in cases {
        let options = ["uss", file.to_str().unwrap()].into_iter().chain(options.split_whitespace());
        let args = Cli::try_parse_from(options).unwrap().import;
        let ids: Vec<String> = dry_run(&args, NOW)
            .unwrap()
            .iter()
            .filter_map(|line| line.split("\"import:").nth(1)?.split('"').next().map(str::to_owned))
            .collect();
        assert_eq!(ids, expected, "{}", file.display());
    }
}
