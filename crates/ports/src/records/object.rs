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
