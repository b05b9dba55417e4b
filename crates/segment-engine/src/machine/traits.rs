//! The traits of a user.

use thin_vec::ThinVec;

use crate::eval::{find, read_steps};
use crate::plan::JsonPath;
use crate::thin;
use crate::time::Timestamp;
use crate::value::Value;

/// A user's attributes: per key the value with the newest `created_at`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traits(
    /// Ascending by key.
    ThinVec<Trait>,
);

#[derive(Clone, Debug, PartialEq)]
struct Trait {
    key: Box<str>,
    value: serde_json::Value,
    since: Timestamp,
}

impl Traits {
    /// Sets a key, unless the present value is newer; of two values of one age the later record
    /// wins. `null` is kept and marks that the key was removed then. Returns whether the value was
    /// set.
    pub fn set(&mut self, key: &str, value: serde_json::Value, created_at: Timestamp) -> bool {
        match self.place(key) {
            Ok(place) if self.0[place].since > created_at => return false,
            Ok(place) => (self.0[place].value, self.0[place].since) = (value, created_at),
            Err(place) => thin::insert(&mut self.0, place, Trait { key: key.into(), value, since: created_at }),
        }
        true
    }

    /// Adds an absorbed user's traits: key by key the newer value wins; of two values of one age
    /// the present one stays.
    pub fn absorb(&mut self, other: Traits) {
        for new in other.0 {
            match self.place(&new.key) {
                Ok(place) if self.0[place].since >= new.since => {}
                Ok(place) => self.0[place] = new,
                Err(place) => thin::insert(&mut self.0, place, new),
            }
        }
    }

    fn place(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|known| (*known.key).cmp(key))
    }

    pub(super) fn get(&self, path: &JsonPath) -> Value {
        self.present(path).map_or(Value::Null, |value| read_steps(value, &path.keys[1..], path.as_text))
    }

    /// Returns the JSON at a path.
    pub(super) fn json(&self, path: &JsonPath) -> Option<&serde_json::Value> {
        find(self.present(path)?, &path.keys[1..])
    }

    /// Returns the value of the key that the path begins with; `None` for a removed key.
    fn present(&self, path: &JsonPath) -> Option<&serde_json::Value> {
        self.of(path).map(|known| &known.value).filter(|value| !value.is_null())
    }

    /// Returns since when the key that the path begins with has its value or is removed.
    pub(super) fn since(&self, path: &JsonPath) -> Option<Timestamp> {
        self.of(path).map(|known| known.since)
    }

    fn of(&self, path: &JsonPath) -> Option<&Trait> {
        self.place(path.root_key()).ok().map(|place| &self.0[place])
    }

    /// Returns each key with its value and since when it has it; `null` for removed keys.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &serde_json::Value, Timestamp)> {
        self.0.iter().map(|known| (&*known.key, &known.value, known.since))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let texts: usize = self.0.iter().map(|known| known.key.len() + json_bytes(&known.value)).sum();
        thin::heap_bytes(&self.0) + texts
    }
}

fn json_bytes(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|item| size_of::<Value>() + json_bytes(item)).sum(),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| size_of::<(String, Value)>() + key.len() + json_bytes(value)).sum()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn traits(of: &[(&str, serde_json::Value, i64)]) -> Traits {
        let mut traits = Traits::default();
        for (key, value, since) in of {
            traits.set(key, value.clone(), Timestamp(*since));
        }
        traits
    }

    #[test]
    fn of_a_key_the_newest_value_holds_and_of_two_the_later_record() {
        let mut set = traits(&[("plan", json!("free"), 5), ("age", json!(7), 1), ("zip", json!("1"), 1)]);
        assert!(!set.set("plan", json!("old"), Timestamp(4)));
        assert!(set.set("plan", json!("pro"), Timestamp(5)));
        assert!(set.set("age", json!(null), Timestamp(2)));
        let entries: Vec<_> = set.entries().collect();
        let expected = [
            ("age", &json!(null), Timestamp(2)),
            ("plan", &json!("pro"), Timestamp(5)),
            ("zip", &json!("1"), Timestamp(1)),
        ];
        assert_eq!(entries, expected);
    }

    #[test]
    fn of_a_merged_user_the_newer_values_are_taken() {
        let mut survivor = traits(&[("a", json!(1), 5), ("b", json!(1), 5), ("d", json!(1), 5)]);
        survivor.absorb(traits(&[("a", json!(2), 6), ("b", json!(2), 5), ("c", json!(2), 1), ("d", json!(2), 4)]));
        let expected = traits(&[("a", json!(2), 6), ("b", json!(1), 5), ("c", json!(2), 1), ("d", json!(1), 5)]);
        assert_eq!(survivor, expected);
    }
}
