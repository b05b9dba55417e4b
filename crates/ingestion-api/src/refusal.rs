//! Rejected events as records of the error topic: dead letters.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ports::log::{NewRecord, Topic};
use ports::records::characters::replace_unstorable;
use ports::records::event::{Payload, is_displaced};
use ports::records::json::{Json, JsonError, Kind, Reader};
use ports::records::object::Object;
use ports::records::{ErrorRecord, ErrorType};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::schema::EventColumn;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::admission::{Cut, Received, Rejection};
use crate::limits::Limits;

/// The data of a rejected event in the shape that it has on the event topic.
#[derive(Serialize)]
struct Shaped<'a> {
    /// Always null: what was rejected has no user.
    user_id: Option<UserId>,
    #[serde(flatten)]
    fields: Object<'a>,
    /// With the displaced fields in it; without those the payload is one of `fields`.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Payload<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dedupe_forever: bool,
}

/// The data of what has no such shape: the bytes received.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unparsed {
    /// Base64; only the start if there is a `length`.
    pub raw: String,
    /// How many bytes the whole had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// Earlier builds wrote `once`.
    #[serde(default, alias = "once", skip_serializing_if = "std::ops::Not::not")]
    dedupe_forever: bool,
}

/// Returns the record of a rejected event. Its key is the client's id of the user, if that could be read. `dedupe_forever` is
/// what the request said of its event ids.
pub(crate) fn record(
    received: Received<'_>,
    rejection: &Rejection,
    at: &str,
    dedupe_forever: bool,
    limits: &Limits,
) -> NewRecord {
    let (key, data) = match shaped(received, dedupe_forever, limits) {
        Some(found) => found,
        None => (String::new(), written(&unparsed(received, dedupe_forever, limits))),
    };
    let record = ErrorRecord {
        error_type: ErrorType::IngestEvent,
        code: rejection.code.to_string(),
        message: rejection.message.clone(),
        at: at.to_owned(),
        data: RawValue::from_string(data).expect("serde_json writes JSON"),
    };
    NewRecord { topic: Topic::Errors, partition: PartitionId::ONLY, key, value: written(&record).into_bytes() }
}

fn written(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and checked JSON can be written")
}

/// The client's id of the user, and the event in the shape that it has on the event topic: `id` is called `client_ref_id`,
/// `user_id` is null, and what a client sent under our names stands in the payload. Everything else is as sent, except for
/// characters that cannot be stored. `None` if it is not a JSON object, too large for an event, or would be another event in
/// this shape.
fn shaped(received: Received<'_>, dedupe_forever: bool, limits: &Limits) -> Option<(String, String)> {
    if received.cut.is_some() || received.bytes.len() > limits.event_bytes_max {
        return None;
    }
    let mut reader = Reader::lenient(std::str::from_utf8(received.bytes).ok()?);
    let mut client_ref_id = String::new();
    let (mut fields, mut displaced) = (Object::default(), Object::default());
    let mut payload_at = None;
    let mut is_other_id = false;
    let read = reader.object(|key, reader| {
        let value = reader.value()?;
        let name = key.text().unwrap_or_default();
        is_other_id |= value.is_unstorable() && EventColumn::sent_as(&name).is_some_and(EventColumn::is_id);
        match &*name {
            "user_id" if value.kind() == Kind::Null => {}
            "id" => {
                client_ref_id = value.text().unwrap_or_default().into_owned();
                fields.push("client_ref_id", value);
            }
            known if is_displaced(known) => displaced.push(name, value),
            known => {
                if known == "payload" {
                    payload_at = Some(fields.len());
                }
                fields.push(name, value);
            }
        }
        Ok::<_, JsonError>(())
    });
    read.and_then(|()| reader.end()).ok().filter(|()| !is_other_id)?;
    let payload = match displaced.is_empty() {
        true => None,
        false => {
            let sent = payload_at.map_or_else(Json::default, |at| fields.remove(at));
            // The displaced fields have no place in a payload that is not an object.
            matches!(sent.kind(), Kind::Object | Kind::Null).then_some(())?;
            Some(Payload::new(sent, &displaced))
        }
    };
    let mut data = written(&Shaped { user_id: None, fields, payload, dedupe_forever });
    if reader.has_unstorable() {
        let mut bytes = data.into_bytes();
        replace_unstorable(&mut bytes);
        data = String::from_utf8(bytes).expect("ASCII was replaced by ASCII");
    }
    // In the payload a field stands one level deeper, and makes the event longer if there was none.
    let is_another =
        !displaced.is_empty() && (data.len() > limits.event_bytes_max || Reader::new(&data).value().is_err());
    (!is_another).then_some((client_ref_id, data))
}

/// The bytes received; of what is too long its start, length and hash.
fn unparsed(received: Received<'_>, dedupe_forever: bool, limits: &Limits) -> Unparsed {
    let kept = received.bytes.len().min(limits.error_text_bytes_max);
    let cut = received.cut.or_else(|| {
        (kept < received.bytes.len())
            .then(|| Cut { length: received.bytes.len() as u64, sha256: Sha256::digest(received.bytes).into() })
    });
    Unparsed {
        raw: STANDARD.encode(&received.bytes[..kept]),
        length: cut.map(|cut| cut.length),
        sha256: cut.map(|cut| hex::encode(cut.sha256)),
        dedupe_forever,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ports::ErrorCode;
    use serde_json::{Value, json};

    fn record_of(bytes: &[u8], dedupe_forever: bool, limits: &Limits) -> (String, ErrorRecord) {
        let rejection = Rejection::new(ErrorCode::InvalidOrderTotal, "message");
        let record = record(bytes.into(), &rejection, "at", dedupe_forever, limits);
        let error: ErrorRecord = serde_json::from_slice(&record.value).unwrap();
        assert_eq!((error.error_type, &*error.code), (ErrorType::IngestEvent, "INVALID_ORDER_TOTAL"));
        (record.key, error)
    }

    fn data(bytes: &[u8], limits: &Limits) -> (String, Value) {
        let (key, error) = record_of(bytes, false, limits);
        (key, serde_json::from_str(error.data.get()).unwrap())
    }

    #[test]
    fn an_object_keeps_its_fields_and_anything_else_its_bytes() {
        let limits = Limits { error_text_bytes_max: 4, event_bytes_max: 200, ..Limits::default() };
        let event = br#"{"id":"a","payload":{"order_total":"x"},"user_id":null}"#;
        let expected = json!({"user_id": null, "client_ref_id": "a", "payload": {"order_total": "x"}});
        assert_eq!(data(event, &limits), ("a".into(), expected));
        assert_eq!(data(b"[1]", &limits), (String::new(), json!({"raw": "WzFd"})));
        assert_eq!(data(b"\xff\xfe", &limits), (String::new(), json!({"raw": "//4="})));
        let long = json!({
            "raw": "eyJhIg==", "length": 6, "sha256": hex::encode(Sha256::digest(b"{\"a\":1"))
        });
        assert_eq!(data(b"{\"a\":1", &limits), (String::new(), long));
    }

    #[test]
    fn numbers_and_the_order_of_fields_stay_as_they_were_sent() {
        let limits = Limits::default();
        for (event, expected) in [
            (
                r#"{ "z" : 1.10, "id":"a", "a":[ 1E2,"\u00fc" ], "payload":{ "order_total" : "x" } }"#,
                r#"{"user_id":null,"z":1.10,"client_ref_id":"a","a":[ 1E2,"\u00fc" ],"payload":{ "order_total" : "x" }}"#,
            ),
            (
                r#"{"payload":{"type":"own","n":1.0},"id":"a","type":1.50,"z":-0}"#,
                r#"{"user_id":null,"client_ref_id":"a","z":-0,"payload":{"type":1.50,"type":"own","n":1.0}}"#,
            ),
            (r#"{"id":"a","once":7}"#, r#"{"user_id":null,"client_ref_id":"a","payload":{"once":7}}"#),
        ] {
            let (_, error) = record_of(event.as_bytes(), false, &limits);
            assert_eq!(error.data.get(), expected);
            let (_, error) = record_of(event.as_bytes(), true, &limits);
            assert_eq!(error.data.get(), expected[..expected.len() - 1].to_owned() + ",\"dedupe_forever\":true}");
        }
        let (_, error) = record_of(b"[1]", true, &limits);
        assert_eq!(error.data.get(), r#"{"raw":"WzFd","dedupe_forever":true}"#);
    }

    #[test]
    fn characters_that_cannot_be_stored_are_replaced_unless_they_make_another_id() {
        let limits = Limits::default();
        let event = br#"{"id":"a","note\u0000":"\ud83d","payload":{"order_total":"x"}}"#;
        let expected =
            json!({"user_id": null, "client_ref_id": "a", "note\u{fffd}": "\u{fffd}", "payload": {"order_total": "x"}});
        assert_eq!(data(event, &limits), ("a".into(), expected));
        for event in [r#"{"id":"a\u0000"}"#, r#"{"id":"a","event_id":"\udc00"}"#, r#"{"id":"a","id_type":"\u0000"}"#] {
            let raw = json!({ "raw": STANDARD.encode(event) });
            assert_eq!(data(event.as_bytes(), &limits), (String::new(), raw), "as it came");
        }
    }
}
