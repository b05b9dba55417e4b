//! Prints JSON as the warehouse stores it, as [`jsonb_ordered`] prints its tree, but straight from
//! the text: no tree, and scalars as they were sent.
//!
//! [`jsonb_ordered`]: segment_engine::eval::jsonb_ordered

use std::borrow::Cow;

use super::json::{Json, JsonError, Kind, Reader, is_kept_number};

/// Returns an object of these keys and values; of two with one key the last counts.
pub(super) fn object(properties: Vec<(Json<'_>, Json<'_>)>) -> String {
    let mut out = String::with_capacity(256);
    let properties = properties.into_iter().map(|(key, value)| (key.text().unwrap_or_default(), value)).collect();
    write_object(properties, &mut out, |value, out| write_value(*value, out));
    out
}

/// Writes the properties in the order of a jsonb: by the length of the key, then by its bytes.
fn write_object<T>(mut properties: Vec<(Cow<'_, str>, T)>, out: &mut String, mut write: impl FnMut(&T, &mut String)) {
    // Stable, so that the last of equal keys stays the last.
    properties.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes())));
    out.push('{');
    let mut is_first = true;
    for (place, (key, value)) in properties.iter().enumerate() {
        if properties.get(place + 1).is_some_and(|(next, _)| next == key) {
            continue;
        }
        out.push_str(if is_first { "" } else { ", " });
        is_first = false;
        write_string(key, out);
        out.push_str(": ");
        write(value, out);
    }
    out.push('}');
}

fn write_value(value: Json<'_>, out: &mut String) {
    match value.kind() {
        Kind::Null | Kind::Bool => out.push_str(value.raw()),
        Kind::Number if is_kept_number(value.raw()) => out.push_str(value.raw()),
        // As in a tree, it is a string: its text is what was sent.
        Kind::Number => {
            out.push('"');
            out.push_str(value.raw());
            out.push('"');
        }
        Kind::String if value.is_escaped() => write_string(&value.text().unwrap_or_default(), out),
        Kind::String => out.push_str(value.raw()),
        Kind::Object | Kind::Array => {
            write_next(&mut Reader::of_checked(value.raw()), out).expect("the reader has checked this piece");
        }
    }
}

/// Writes the reader's next value.
fn write_next(reader: &mut Reader<'_>, out: &mut String) -> Result<(), JsonError> {
    match reader.kind()? {
        Kind::Object => {
            // Their order is known when all are read. So they are written where they will not stay.
            let (start, mut properties) = (out.len(), Vec::new());
            reader.object(|key, reader| {
                let from = out.len() - start;
                write_next(reader, out)?;
                properties.push((key.text().unwrap_or_default(), from..out.len() - start));
                Ok::<_, JsonError>(())
            })?;
            let written = out.split_off(start);
            write_object(properties, out, |place, out| out.push_str(&written[place.clone()]));
        }
        Kind::Array => {
            let mut separator = "[";
            reader.array(|reader| {
                out.push_str(separator);
                separator = ", ";
                write_next(reader, out)
            })?;
            out.push_str(if separator == "[" { "[]" } else { "]" });
        }
        Kind::Null | Kind::Bool | Kind::Number | Kind::String => write_value(reader.value()?, out),
    }
    Ok(())
}

fn write_string(text: &str, out: &mut String) {
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}
