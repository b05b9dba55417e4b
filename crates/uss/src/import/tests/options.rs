//! Tests the options that say how columns, times and numbers are read.

use segment_engine::schema::EventColumn;

use super::*;
use crate::import::Renaming;

#[tokio::test(flavor = "multi_thread")]
async fn a_mapped_column_that_no_row_has_is_reported_before_any_event_is_sent() {
    let world = World::new().await;
    let row = |more: &str| format!("{{\"id\":\"u\",\"created_at\":\"2026-01-01\"{more}}}\n");
    let revenue = r#","ecommerce":{"purchase_revenue":12.5,"items":[{"price":1}]},"revenue":12.5"#;
    let lines = world.file("ga.ndjson", row(revenue).as_bytes());
    let array = world.file("ga.json", format!("[{}]", row(revenue)).as_bytes());
    for file in [&lines, &array] {
        for (column, near) in [
            ("revenu", "did you mean `revenue`?"),
            ("ecommerce.revenue", "it has created_at, ecommerce.items, ecommerce.purchase_revenue, id, revenue"),
            ("ecommerce.purchase_revenues", "did you mean `ecommerce.purchase_revenue`?"),
            ("ecommerce.items.price", "`ecommerce.items.price`, which --map names"),
            ("Revenue", "did you mean `revenue`?"),
        ] {
            let mapped = format!("order_total={column}");
            let error = world.import(file, &["--map", &mapped]).await.unwrap_err().to_string();
            assert!(error.contains(near) && error.contains("no row has"), "{error}");
        }
    }
    assert!(world.deliveries().await.is_empty());
    // The column need not occur in the first rows.
    let mut rows: String = (0..3_000).map(|_| row("")).collect();
    let without = world.file("without.ndjson", rows.as_bytes());
    assert!(world.import(&without, &["--map", "order_total=revenue"]).await.is_err());
    assert!(world.deliveries().await.is_empty());
    rows.push_str(&row(revenue));
    let with = world.file("with.ndjson", rows.as_bytes());
    assert_eq!(world.import(&with, &["--map", "order_total=revenue"]).await.unwrap().accepted, 3_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_leads_into_objects() {
    let world = World::new().await;
    let text = r#"{"user":{"id":5,"geo.country":"US"},"event":{"at":"2026-01-01"},"sum":{"total":12.5},"event_name":"buy"}
{"user":{"id":"b"},"user.id":"literal","event":{"at":"2026-01-02"},"sum.total":3,"event_name":"buy"}
"#;
    let mapped = [
        "--map",
        "id=user.id",
        "--map",
        "created_at=event.at",
        "--map",
        "order_total=sum.total",
        "--map",
        "country=user.geo.country",
        "--map",
        "activity_type=event_name",
        "--only-mapped",
    ];
    let summary = world.import(&world.file("n.ndjson", text.as_bytes()), &mapped).await.unwrap();
    assert_eq!((summary.accepted, summary.rejected.rows), (2, 0), "{summary}");
    assert_eq!(world.users().await, ["5", "literal"]);
    let mut events: Vec<_> = world.deliveries().await.into_iter().map(|delivery| delivery.event).collect();
    events.sort_by_key(|event| event.created_at);
    assert_eq!((events[0].order_total, events[1].order_total), (Decimal::parse("12.5"), Decimal::parse("3")));
    assert_eq!((events[0].country.as_deref(), events[1].country.as_deref()), (Some("US"), None));
    let properties = |at: usize| events[at].payload.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(properties(0), ["activity_type", "order_total"], "--only-mapped leaves other columns out");
    // In CSV a point is an ordinary character of a name.
    let table = world.file("t.csv", b"id,created_at,sum.total\na,2026-01-03,5\n");
    assert_eq!(world.import(&table, &["--map", "order_total=sum.total"]).await.unwrap().accepted, 1);
    let error = world.import(&table, &["--map", "order_total=sum.totl"]).await.unwrap_err().to_string();
    assert!(error.contains("did you mean `sum.total`?"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn times_of_usual_exports_are_read() {
    for (text, options, expected) in [
        ("2023-10-31 11:59:00 -0400", &[][..], "2023-10-31T15:59:00.000000Z"),
        ("2023-10-31 11:59:00 +0000", &[], "2023-10-31T11:59:00.000000Z"),
        ("2023-10-31 11:59", &[], "2023-10-31T11:59:00.000000Z"),
        ("2023-10-31T11:59Z", &[], "2023-10-31T11:59:00.000000Z"),
        ("1698753540.5", &[], "2023-10-31T11:59:00.500000Z"),
        ("2023-10-31 11:59", &["--time-zone", "America/New_York"], "2023-10-31T15:59:00.000000Z"),
        ("10/31/2023 11:59 AM", &["--time-format", "%m/%d/%Y %I:%M %p"], "2023-10-31T11:59:00.000000Z"),
        ("31.10.2023", &["--time-format", "%d.%m.%Y", "--time-zone", "Europe/Berlin"], "2023-10-30T23:00:00.000000Z"),
    ] {
        let world = World::new().await;
        let csv = world.file("o.csv", format!("id,created_at\na,\"{text}\"\n").as_bytes());
        let json = world.file("o.ndjson", format!("{{\"id\":\"a\",\"created_at\":\"{text}\"}}").as_bytes());
        let summary = run(&world.args(&[&csv, &json], options), NOW).await.unwrap();
        assert_eq!((summary.accepted, summary.rejected.rows), (2, 0), "{text}: {summary}");
        for delivery in world.deliveries().await {
            assert_eq!(instant::format(delivery.event.created_at), expected, "{text}");
        }
        assert_eq!(world.event_ids().await.len(), 1);
    }
    for wrong in [["--time-zone", "CET"], ["--time-zone", "+02:00"], ["--time-format", "%H:%M"]] {
        assert!(Cli::try_parse_from(["uss", "x.csv"].into_iter().chain(wrong)).is_err(), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_may_have_a_decimal_comma() {
    let world = World::new().await;
    let text = "id;created_at;order_total;price;order_id;note\na,5;2026-01-01;1.234,50;0,99;12,5;1,2 or 3\nb;2026-01-02;1.234;1.234;x;\n";
    let file = world.file("o.csv", text.as_bytes());
    world.import(&file, &["--delimiter", ";", "--decimal-comma"]).await.unwrap();
    let mut events: Vec<_> = world.deliveries().await.into_iter().map(|delivery| delivery.event).collect();
    events.sort_by_key(|event| event.created_at);
    assert_eq!((events[0].order_total, events[1].order_total), (Decimal::parse("1234.5"), Decimal::parse("1234")));
    let of = |at: usize, name: &str| events[at].payload[name].clone();
    assert_eq!((of(0, "price"), of(0, "note")), ("0.99".into(), "1,2 or 3".into()));
    assert_eq!(of(1, "price"), "1.234", "ambiguous without a comma");
    assert_eq!((&*events[0].client_ref_id, events[0].order_id.as_deref()), ("a,5", Some("12,5")));
    let summary = world.import(&file, &["--delimiter", ";"]).await.unwrap();
    assert_eq!((summary.accepted, summary.rejected.rows), (1, 1), "the API takes no decimal comma");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_the_first_rows_and_sends_nothing() {
    let world = World::new().await;
    let rows: String = (1..50).map(|n| format!("u{n},2026-01-01,x\n")).collect();
    let file = world.file("o.csv", format!("who,created_at,activity_type\n,2026-01-01,x\n{rows}").as_bytes());
    let lines = dry_run(&world.args(&[&file, &file], &["--map", "id=who"]), NOW).unwrap();
    assert_eq!(lines.len(), 20);
    assert!(lines[0].contains("o.csv, line 2: no user id") && lines[0].contains("MISSING_ID"), "{}", lines[0]);
    let event: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    let id = event["event_id"].as_str().unwrap();
    let expected = serde_json::json!({"id": "u1", "created_at": "2026-01-01T00:00:00.000000Z", "event_id": id, "payload": {"activity_type": "x"}});
    assert!(event == expected && id.starts_with("import:"), "{event}");
    assert!(world.deliveries().await.is_empty() && world.rejected().is_empty());
    world.import(&file, &["--map", "id=who"]).await.unwrap();
    assert!(world.event_ids().await.contains(id), "an import sends the same event");
    let error = dry_run(&world.args(&[&file], &["--map", "id=whom"]), NOW).unwrap_err().to_string();
    assert!(error.contains("did you mean `who`?"), "{error}");
}

#[test]
fn every_field_that_clients_send_can_be_mapped_and_no_other() {
    let mapped = |name: &str| format!("{name}=column").parse::<Renaming>();
    for column in EventColumn::ALL {
        match column.sent_name() {
            Some(name) => assert_eq!(mapped(name), mapped(column.field()), "{name}"),
            None => assert!(mapped(column.name()).is_err(), "{column:?}"),
        }
    }
    assert!(mapped("url").is_ok() && mapped("id").is_ok());
    assert_eq!(
        mapped("user_id").unwrap_err(),
        "`user_id` is not a field of an event; use id, id_type, region, device_type, country, created_at, event_id, \
         activity_type, url, order_total, order_id, element_id, or payload.NAME"
    );
}
