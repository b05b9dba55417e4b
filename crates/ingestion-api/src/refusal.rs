//! Rejected events as records of the error topic, from where they can be mended and replayed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ports::log::{NewRecord, Topic};
use ports::records::characters::replace_unstorable;
use ports::records::event::{DISPLACED, payload_with};
use ports::records::json::{JsonError, Kind, Reader};
use ports::records::{ErrorRecord, ErrorType};
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::admission::{Cut, Received, Rejection};
use crate::limits::Limits;

/// The record of a rejected event. Its key is the client's id of the user, if that could be read. `once` is what the request
/// said of its event ids.
pub fn record(received: Received<'_>, rejection: &Rejection, at: &str, once: bool, limits: &Limits) -> NewRecord {
    let (key, mut data) = match with_null_user(received, limits) {
        Some(found) => found,
        None => (String::new(), raw_data(received, limits)),
    };
    if once {
        // As on the event topic. A client's own field of this name stands in the payload.
        data.truncate(data.len() - 1);
        data.push_str(",\"once\":true}");
    }
    let record = ErrorRecord {
        error_type: ErrorType::IngestEvent,
        code: rejection.code.to_owned(),
        message: rejection.message.clone(),
        at: at.to_owned(),
        data: RawValue::from_string(data).expect("made of JSON pieces"),
    };
    let value = serde_json::to_vec(&record).expect("texts and JSON pieces can be written");
    NewRecord { topic: Topic::Errors, partition: 0, key, value }
}

/// The event in the shape it has on the event topic: `id` is called `client_ref_id`, `user_id` is null, and what a client
/// sent under our names stands in the payload. Everything else is as sent, except for characters that cannot be stored.
/// `None` if it is no JSON object, too large to be an event, or would be another event in this shape.
fn with_null_user(received: Received<'_>, limits: &Limits) -> Option<(String, String)> {
    if received.cut.is_some() || received.bytes.len() > limits.event_bytes_max {
        return None;
    }
    let mut reader = Reader::lenient(std::str::from_utf8(received.bytes).ok()?);
    let mut client_ref_id = String::new();
    let (mut fields, mut displaced, mut payload) = (Vec::new(), Vec::new(), None);
    let mut is_other_id = false;
    let read = reader.object(|key, reader| {
        let value = reader.value()?;
        let name = key.text().unwrap_or_default();
        is_other_id |= matches!(&*name, "id" | "id_type" | "event_id") && value.is_unstorable();
        match &*name {
            "user_id" if value.kind() == Kind::Null => {}
            name if DISPLACED.contains(&name) => displaced.push((key.raw(), value.raw())),
            "id" => {
                client_ref_id = value.text().unwrap_or_default().into_owned();
                fields.push(("\"client_ref_id\"", value.raw()));
            }
            name => {
                if name == "payload" {
                    payload = Some((fields.len(), value.kind()));
                }
                fields.push((key.raw(), value.raw()));
            }
        }
        Ok::<_, JsonError>(())
    });
    read.and_then(|()| reader.end()).ok().filter(|()| !is_other_id)?;
    let with_displaced;
    if !displaced.is_empty() {
        let own = match payload {
            None => "{}",
            Some((at, Kind::Object)) => fields.remove(at).1,
            Some((at, Kind::Null)) => {
                fields.remove(at);
                "{}"
            }
            Some(_) => return None,
        };
        with_displaced = payload_with(own, &displaced);
        fields.push(("\"payload\"", &with_displaced));
    }
    let mut data = "{\"user_id\":null".to_owned();
    for (key, value) in fields {
        data.extend([",", key, ":", value]);
    }
    data.push('}');
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

/// `{"raw": "<base64>"}`; of a text that is too long its start, length and hash.
fn raw_data(received: Received<'_>, limits: &Limits) -> String {
    let kept = received.bytes.len().min(limits.error_text_bytes_max);
    let raw = STANDARD.encode(&received.bytes[..kept]);
    let cut = received.cut.or_else(|| {
        (kept < received.bytes.len())
            .then(|| Cut { length: received.bytes.len() as u64, sha256: Sha256::digest(received.bytes).into() })
    });
    match cut {
        None => json!({ "raw": raw }).to_string(),
        Some(cut) => json!({ "raw": raw, "length": cut.length, "sha256": hex::encode(cut.sha256) }).to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::Value;

    fn data(bytes: &[u8], limits: &Limits) -> (String, Value) {
        let record = record(bytes.into(), &Rejection::new("CODE", "message"), "at", false, limits);
        let value: Value = serde_json::from_slice(&record.value).unwrap();
        assert_eq!((&value["error_type"], &value["code"]), (&json!("ingest_event_error"), &json!("CODE")));
        (record.key, value["data"].clone())
    }

    #[test]
    fn an_object_keeps_its_fields_and_anything_else_its_text() {
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
