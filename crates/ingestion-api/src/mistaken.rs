//! Recognises events that were sent in another form than the request says, to say what to send instead. Pure.

use ports::ErrorCode;
use ports::records::json::{JsonError, Kind, Reader};
use uss_http::Problem;

use crate::admission::{Received, Rejection};

/// The names under which other services take many events in one object.
const ENVELOPES: [&str; 6] = ["batch", "events", "data", "items", "messages", "records"];

/// The rejection of an array where one event should be.
pub(crate) fn array_for_an_event() -> Rejection {
    let advice = "send an array with Content-Type: application/json";
    Rejection::new(ErrorCode::NotAnObject, format!("an event must be one JSON object, not an array; {advice}"))
}

/// The rejection of an object around an array of events, as other services take it: `{"batch": [{…}, …]}`. `None` if the
/// text is not such an object.
pub(crate) fn envelope(text: &str) -> Option<Rejection> {
    let name = envelope_name(text)?;
    let advice = "send an array of events itself, not an object around it";
    Some(Rejection::new(ErrorCode::EventsWrapped, format!("`{name}` holds an array, and there is no `id`; {advice}")))
}

fn envelope_name(text: &str) -> Option<&'static str> {
    /// Ends the search.
    enum Stop {
        At(Option<&'static str>),
        Json,
    }
    impl From<JsonError> for Stop {
        fn from(_: JsonError) -> Self {
            Stop::Json
        }
    }
    let read = Reader::lenient(text).object(|key, reader| {
        let name = key.text().unwrap_or_default();
        if name == "id" && reader.kind()? != Kind::Null {
            return Err(Stop::At(None));
        }
        if let Some(envelope) = ENVELOPES.iter().find(|envelope| **envelope == name)
            && reader.kind()? == Kind::Array
        {
            return Err(Stop::At(Some(envelope)));
        }
        reader.value()?;
        Ok(())
    });
    match read {
        Err(Stop::At(found)) => found,
        Ok(()) | Err(Stop::Json) => None,
    }
}

/// One JSON value over several lines where each line should be an event: an array, or an object that was printed to be
/// read. Judged by the first lines of a request.
pub(crate) fn one_value_over_lines(first_lines: &[Received<'_>]) -> Option<Problem> {
    let first = first_lines.first().filter(|line| line.cut.is_none())?.bytes.trim_ascii();
    let second = first_lines.get(1).map_or(&b""[..], |line| line.bytes.trim_ascii());
    let is_array = first.starts_with(b"[") && (first.len() == 1 || !first.ends_with(b"]"));
    let what = match is_array {
        true => "an array",
        false if first == b"{" && second.starts_with(b"\"") => "an object",
        false => return None,
    };
    let advice = "send an array with Content-Type: application/json, or each event on a line of its own";
    let message = format!("the first line begins {what} that goes on in the next; {advice}");
    Some(Problem::invalid(ErrorCode::InvalidJson, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_in_an_object_is_an_envelope_unless_the_object_is_an_event() {
        let cases = [
            (r#"{"batch":[{"id":"a"}]}"#, Some("batch")),
            (r#"{"writeKey":"k","sentAt":1,"events":[]}"#, Some("events")),
            (r#"{"data":[1,"cut off"#, Some("data")),
            (r#"{"id":"a","events":[1]}"#, None),
            (r#"{"id":null,"events":[1]}"#, Some("events")),
            (r#"{"events":{"id":"a"}}"#, None),
            (r#"{"tags":[1]}"#, None),
            (r#"[{"batch":[]}]"#, None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(envelope_name(text), expected, "{text}");
        }
    }

    #[test]
    fn one_value_over_several_lines_is_known_by_the_first() {
        let cases = [
            ("[\n  {", true),
            ("[", true),
            ("[{\"id\":\"a\"},\n{\"id\":\"b\"}]", true),
            ("{\n  \"id\": \"a\"\n}", true),
            ("[{\"id\":\"a\"}]\n{\"id\":\"b\"}", false),
            ("{\n{\"id\":\"b\"}", false),
            ("{\"id\":\n{\"id\":\"b\"}", false),
            ("{", false),
            ("5\n[", false),
        ];
        for (body, expected) in cases {
            let lines: Vec<Received<'_>> = body.lines().map(|line| line.as_bytes().into()).collect();
            assert_eq!(one_value_over_lines(&lines).is_some(), expected, "{body}");
        }
    }
}
