use super::*;

fn decide(text: &str) -> Result<EventDraft<'_>, Rejection> {
    admit(text.as_bytes().into(), &Limits::default())
}

fn raw<'r>(object: &'r Object<'_>) -> Vec<(&'r str, &'r str)> {
    object.fields().iter().map(|(name, value)| (&**name, value.raw())).collect()
}

fn column<'r>(draft: &EventDraft<'r>, column: EventColumn) -> Option<&'r str> {
    draft.record.columns[column].map(|value| value.raw())
}

#[test]
fn the_original_sample_is_accepted() {
    let text = r#"{ "id": "c1d1caef", "id_type": "cookie", "region": "California", "device_type": "mobile",
      "country": "US", "created_at": "2023-10-31T00:00:00",
      "payload": { "activity_type": "page_viewed", "url": "http://a", "order_total": "", "order_id": "", "element_id": "" } }"#;
    let draft = decide(text).unwrap();
    assert_eq!((&*draft.id, draft.id_type.as_deref()), ("c1d1caef", Some("cookie")));
    assert_eq!(draft.record.created_at.as_deref(), Some("2023-10-31T00:00:00.000000Z"));
    assert_eq!(
        (column(&draft, EventColumn::Region), column(&draft, EventColumn::EventId)),
        (Some("\"California\""), None)
    );
    let payload = draft.record.payload.raw();
    assert!(payload.starts_with("{ \"activity_type\"") && payload.ends_with('}'), "{payload}");
}

#[test]
fn a_time_may_be_spelled_as_exporters_do() {
    for (written, read) in [
        ("2023-10-31T12:00:00+0200", "2023-10-31T10:00:00.000000Z"),
        ("2023-10-31T12:00:00+02", "2023-10-31T10:00:00.000000Z"),
        ("2023-10-31T12:00Z", "2023-10-31T12:00:00.000000Z"),
        ("2023-10-31 11:59:00 -0400", "2023-10-31T15:59:00.000000Z"),
        ("20231031T115900,5Z", "2023-10-31T11:59:00.500000Z"),
    ] {
        let text = format!(r#"{{"id":"a","created_at":"{written}"}}"#);
        assert_eq!(decide(&text).unwrap().record.created_at.as_deref(), Some(read), "{written}");
    }
}

#[test]
fn well_formed_events_are_accepted() {
    for text in [
        r#"{"id":"a"}"#,
        r#"{"id":"a","payload":null,"region":null,"created_at":null,"id_type":null,"event_id":null}"#,
        r#"{"id":"a","payload":{}}"#,
        r#"{"id":"a","payload":{"order_total":1}}"#,
        r#"{"id":"a","payload":{"order_total":-0.5e-3}}"#,
        r#"{"id":"a","payload":{"order_total":"19.90"}}"#,
        r#"{"id":"a","payload":{"order_total":null,"url":null}}"#,
        r#"{"id":"a","payload":{"order_total":99999999999999999999999999999}}"#,
        r#"{"id":"a","created_at":"2099-10-31T00:00:00.123456789+05:30"}"#,
        r#"{"id":"a","user_id":null}"#,
        r#"{"id":"a","payload":{"x\u0000":["\ud83d",{"\udc00":"\u0000"}]},"region":"\u0000"}"#,
        r#"{"id":"a","url":"/x","order_total":"19.90","activity_type":null}"#,
        r#"{"id":"a","order_total":"ten","payload":{"order_total":1}}"#,
        "\u{20}{\"id\":\"ü\\u00fc\"}\r",
    ] {
        assert!(decide(text).is_ok(), "{text}: {:?}", decide(text));
    }
}

#[test]
fn other_events_are_rejected_with_a_code() {
    let deep = format!(r#"{{"id":"a","payload":{{"x":{}}}}}"#, "[".repeat(100) + &"]".repeat(100));
    let long_id = format!(r#"{{"id":"{}"}}"#, "x".repeat(1025));
    let cases = [
        ("", "INVALID_JSON"),
        ("{", "INVALID_JSON"),
        (r#"{"id":"a"} x"#, "INVALID_JSON"),
        (r#"{"id":"a",}"#, "INVALID_JSON"),
        (r#"{"id":"\ud800"}"#, "INVALID_ID"),
        (r#"{"id":"a\u0000"}"#, "INVALID_ID"),
        (r#"{"id":"a","id_type":"\udc00\ud83d"}"#, "INVALID_ID"),
        (r#"{"id":"a","event_id":"\u0000"}"#, "INVALID_ID"),
        ("{\"id\":\"a\",\"x\":\"\0\"}", "INVALID_JSON"),
        (&deep, "INVALID_JSON"),
        ("5", "NOT_AN_OBJECT"),
        ("[]", "NOT_AN_OBJECT"),
        (r#"{"batch":[{"id":"a"}]}"#, "EVENTS_WRAPPED"),
        (r#"{"id":null,"events":[]}"#, "EVENTS_WRAPPED"),
        ("{}", "MISSING_ID"),
        (r#"{"id":null}"#, "MISSING_ID"),
        (r#"{"id":5}"#, "INVALID_FIELD"),
        (r#"{"id":""}"#, "INVALID_ID"),
        (&long_id, "INVALID_ID"),
        (r#"{"id":"a","id_type":1}"#, "INVALID_FIELD"),
        (r#"{"id":"a","region":{}}"#, "INVALID_FIELD"),
        (r#"{"id":"a","device_type":[]}"#, "INVALID_FIELD"),
        (r#"{"id":"a","country":true}"#, "INVALID_FIELD"),
        (r#"{"id":"a","event_id":7}"#, "INVALID_FIELD"),
        (r#"{"id":"a","payload":"text"}"#, "INVALID_FIELD"),
        (r#"{"id":"a","payload":[]}"#, "INVALID_FIELD"),
        (r#"{"id":"a","payload":{"activity_type":1}}"#, "INVALID_FIELD"),
        (r#"{"id":"a","payload":{"url":1}}"#, "INVALID_FIELD"),
        (r#"{"id":"a","payload":{"order_id":1}}"#, "INVALID_FIELD"),
        (r#"{"id":"a","payload":{"element_id":1}}"#, "INVALID_FIELD"),
        (r#"{"id":"a","payload":{"order_total":true}}"#, "INVALID_FIELD"),
        (r#"{"id":"a","payload":{"order_total":"ten"}}"#, "INVALID_ORDER_TOTAL"),
        (r#"{"id":"a","payload":{"order_total":"NaN"}}"#, "INVALID_ORDER_TOTAL"),
        (r#"{"id":"a","payload":{"order_total":1e30}}"#, "INVALID_ORDER_TOTAL"),
        (r#"{"id":"a","order_total":"ten"}"#, "INVALID_ORDER_TOTAL"),
        (r#"{"id":"a","order_total":true,"payload":{"url":"/"}}"#, "INVALID_FIELD"),
        (r#"{"id":"a","activity_type":7}"#, "INVALID_FIELD"),
        (r#"{"id":"a","url":[]}"#, "INVALID_FIELD"),
        (r#"{"id":"a","order_id":1}"#, "INVALID_FIELD"),
        (r#"{"id":"a","element_id":1}"#, "INVALID_FIELD"),
        (r#"{"id":"a","created_at":""}"#, "INVALID_CREATED_AT"),
        (r#"{"id":"a","created_at":"yesterday"}"#, "INVALID_CREATED_AT"),
        (r#"{"id":"a","created_at":"2023-02-30T00:00:00Z"}"#, "INVALID_CREATED_AT"),
        (r#"{"id":"a","created_at":"9999-12-31T23:59:59-23:59"}"#, "INVALID_CREATED_AT"),
        (r#"{"id":"a","created_at":"0000-01-01T00:00:00+23:59"}"#, "INVALID_CREATED_AT"),
        (r#"{"id":"a","created_at":1698710400}"#, "INVALID_FIELD"),
    ];
    for (text, code) in cases {
        let rejection = decide(text).expect_err(text);
        assert_eq!(rejection.code.as_str(), code, "{text}");
        assert!(rejection.message.len() > 20, "{text}: {}", rejection.message);
    }
    assert_eq!(admit(b"{\"id\":\"\xff\"}"[..].into(), &Limits::default()).unwrap_err().code, ErrorCode::InvalidJson);
}

#[test]
fn the_size_is_that_of_the_whole_text() {
    let limits = Limits { event_bytes_max: 20, ..Limits::default() };
    let fits = br#"{"id":"a","x":12345}"#;
    assert!(admit(fits[..].into(), &limits).is_ok());
    assert_eq!(admit(br#"{"id":"a","x":123456}"#[..].into(), &limits).unwrap_err().code, ErrorCode::EventTooLarge);
    let cut =
        Received { bytes: fits, cut: Some(Cut { length: 1 << 30, sha256: [0; 32] }), event_id: None, fault: None };
    let rejection = admit(cut, &limits).unwrap_err();
    assert_eq!(rejection.code, ErrorCode::EventTooLarge);
    assert!(rejection.message.contains("1073741824"));
}

#[test]
fn unknown_fields_are_kept_as_sent_and_reserved_ones_cannot_pass_for_ours() {
    let text = r#"{"id":"a","campaign":1.10,"type":"merge","us\u0065r_id":7,"client_ref_id":"b","dedupe_forever":true,"once":true,"event_id":""}"#;
    let draft = decide(text).unwrap();
    let record = &draft.record;
    assert_eq!(raw(&record.other), [("campaign", "1.10")]);
    let names: Vec<&str> = raw(&record.displaced).iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["type", "user_id", "client_ref_id", "dedupe_forever", "once"]);
    let ids = [EventColumn::ClientRefId, EventColumn::EventId].map(|id| column(&draft, id));
    assert_eq!(ids, [Some("\"a\""), None]);
}

#[test]
fn of_two_fields_with_one_name_the_last_counts() {
    let text = r#"{"id":"a","id":"b","payload":{"order_total":"x"},"payload":{"order_total":"x","order_total":1}}"#;
    let draft = decide(text).unwrap();
    assert_eq!((&*draft.id, draft.record.payload.raw()), ("b", r#"{"order_total":"x","order_total":1}"#));
}

#[test]
fn fields_of_the_payload_beside_the_id_are_the_payloads() {
    let text = r#"{"id":"a","url":"/1","url":"/2","order_total":1.50,"element_id":"top","type":"t",
      "payload":{"element_id":"own"}}"#;
    let draft = decide(text).unwrap();
    let taken = [("url", "\"/2\""), ("order_total", "1.50"), ("type", "\"t\"")];
    assert_eq!(raw(&draft.record.displaced), taken);
    assert_eq!(raw(&draft.record.other), [("element_id", "\"top\"")], "the payload has its own");
    let misplaced: Vec<_> = draft.misplaced.iter().map(|(name, meant)| (&**name, *meant)).collect();
    assert_eq!(misplaced, [("type", "payload.activity_type"), ("element_id", "payload.element_id")]);
}

#[test]
fn fields_that_are_nearly_ours_are_kept_and_named() {
    let text = r#"{"id":"a","createdAt":1,"userId":"u","user_id":7,"campaign":"x","properties":{}}"#;
    let draft = decide(text).unwrap();
    let misplaced: Vec<_> = draft.misplaced.iter().map(|(name, meant)| (&**name, *meant)).collect();
    let expected = [("createdAt", "created_at"), ("userId", "id"), ("user_id", "id"), ("properties", "payload")];
    assert_eq!(misplaced, expected);
    assert_eq!((draft.record.other.len(), draft.record.displaced.len()), (4, 1));
    assert_eq!(decide(r#"{"id":"a","user_id":null}"#).unwrap().misplaced, []);
    let message = decide(r#"{"userId":"u","event":"A"}"#).unwrap_err().message;
    assert!(message.contains("`userId`, call it `id`"), "{message}");
}

#[test]
fn what_is_too_large_for_one_event_may_be_many() {
    let limits = Limits { event_bytes_max: 20, ..Limits::default() };
    for (text, code) in [
        (r#" [{"id":"a"},{"id":"b"}]"#, "NOT_AN_OBJECT"),
        (r#"{"batch":[{"id":"a"},{"id":"b"}]}"#, "EVENTS_WRAPPED"),
        (r#"{"id":"a","batch":[1,2,3]}"#, "EVENT_TOO_LARGE"),
    ] {
        assert_eq!(admit(text.as_bytes().into(), &limits).unwrap_err().code.as_str(), code, "{text}");
    }
}
