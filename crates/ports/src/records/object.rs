//! A JSON object whose values pass through as they were sent.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

use super::json::{Json, JsonError, Reader};

/// Fields in the order in which they were sent. Two of one name are both kept; the last one counts, as everywhere in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object<'a, V = Json<'a>>(Vec<(Cow<'a, str>, V)>);

impl<V> Default for Object<'_, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'a> Object<'a> {
    /// Reads the object that `reader` has next.
    ///
    /// # Errors
    /// It is not one that the reader accepts.
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, JsonError> {
        let mut object = Self::default();
        reader.object(|key, reader| {
            object.push(key.text().unwrap_or_default(), reader.value()?);
            Ok::<_, JsonError>(())
        })?;
        Ok(object)
    }
}

impl<'a, V> Object<'a, V> {
    /// Adds a field after the others.
    pub fn push(&mut self, name: impl Into<Cow<'a, str>>, value: V) {
        self.0.push((name.into(), value));
    }

    /// Adds the fields of another object after its own.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// Adds the fields of another object before its own.
    pub fn prepend(&mut self, other: Self) {
        self.0.splice(0..0, other.0);
    }

    /// Removes the field at this place.
    pub fn remove(&mut self, at: usize) -> V {
        self.0.remove(at).1
    }

    /// The fields, in order.
    pub fn fields(&self) -> &[(Cow<'a, str>, V)] {
        &self.0
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<V: Serialize> Serialize for Object<'_, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// Writes an object without checking again what the reader has checked, as `serde_json` would.
pub(super) struct ObjectWriter(Vec<u8>);

impl ObjectWriter {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut out = Vec::with_capacity(bytes);
        out.push(b'{');
        Self(out)
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.write(name);
        self.0.push(b':');
    }

    fn write<T: Serialize + ?Sized>(&mut self, value: &T) {
        serde_json::to_writer(&mut self.0, value).expect("plain data can be written to memory");
    }

    /// Adds a field as it was sent.
    pub(super) fn json(&mut self, name: &str, value: Json<'_>) {
        self.name(name);
        self.0.extend_from_slice(value.raw().as_bytes());
    }

    /// Adds a field.
    pub(super) fn value<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        self.name(name);
        self.write(value);
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}
