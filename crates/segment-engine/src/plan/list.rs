//! The items of an `IN`. A list may have thousands, so all copies of a plan share it, and items are
//! found by binary search.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use super::Expr;
use crate::value::Value;

/// Lists of at least this many constants have an index; shorter ones are searched from front to
/// back.
const INDEXED_FROM: usize = 8;

/// The items of an `IN`. Equality, hash and `Debug` are those of the items.
#[derive(Clone)]
pub struct List {
    items: Arc<[Expr]>,
    /// Whether [`List::sorted`] made it, and of constants only.
    is_sorted: bool,
    index: Option<Index>,
}

/// The places of the constants that are not NULL, in the order of their values.
#[derive(Clone)]
struct Index {
    places: Arc<[u32]>,
    has_null: bool,
}

impl List {
    /// Makes a list of items that the compiler has sorted.
    pub(crate) fn sorted(items: Vec<Expr>) -> List {
        let list = List::from(items);
        List { is_sorted: list.iter().all(|item| matches!(item, Expr::Literal(..))), ..list }
    }

    /// Whether it is sorted and has only constants. Then it cannot be simplified further.
    pub(crate) fn is_sorted_constants(&self) -> bool {
        self.is_sorted
    }

    /// Returns the items.
    pub fn into_vec(self) -> Vec<Expr> {
        self.items.to_vec()
    }

    /// Returns the list with every item changed by `f`. Sorted constants have no parts to change,
    /// and stay as they are.
    pub(crate) fn map(self, f: &mut impl FnMut(Expr) -> Expr) -> List {
        if self.is_sorted { self } else { self.into_vec().into_iter().map(f).collect::<Vec<_>>().into() }
    }

    /// Returns the truth of `x IN (…)` for a value that is not NULL; `None` if the list has no
    /// index.
    pub fn find(&self, x: &Value) -> Option<Value> {
        let index = self.index.as_ref()?;
        let found = index.places.binary_search_by(|place| order(&self.items[*place as usize], x)).is_ok();
        Some(if !found && index.has_null { Value::Null } else { Value::Bool(found) })
    }

    /// Whether a text is in the list; `None` if that is NULL, or if an item is not a constant text.
    pub fn holds_text(&self, text: &str) -> Option<bool> {
        let constant = |item: &'_ Expr| match item {
            Expr::Literal(Value::Text(constant), _) => Some((**constant).cmp(text)),
            _ => None,
        };
        if let Some(index) = &self.index {
            constant(&self.items[*index.places.first()? as usize])?;
            let order = |place: &u32| constant(&self.items[*place as usize]).unwrap_or(Ordering::Less);
            let found = index.places.binary_search_by(order).is_ok();
            return (found || !index.has_null).then_some(found);
        }
        for item in self.iter() {
            if constant(item)? == Ordering::Equal {
                return Some(true);
            }
        }
        Some(false)
    }
}

/// Compares a constant with a value of its type.
fn order(constant: &Expr, x: &Value) -> Ordering {
    match constant {
        Expr::Literal(value, _) => value.sql_cmp(x).unwrap_or(Ordering::Less),
        _ => Ordering::Less,
    }
}

impl Index {
    /// Returns the index of constants that all compare with each other; `None` for other items, and
    /// for few.
    fn of(items: &[Expr]) -> Option<Index> {
        let mut values = Vec::with_capacity(items.len());
        let mut has_null = false;
        for (place, item) in (0_u32..).zip(items) {
            match item {
                Expr::Literal(Value::Null, _) => has_null = true,
                Expr::Literal(value, _) => values.push((place, value)),
                _ => return None,
            }
        }
        let (_, first) = *values.first()?;
        if values.len() < INDEXED_FROM || !values.iter().all(|(_, value)| first.sql_cmp(value).is_some()) {
            return None;
        }
        values.sort_by(|(_, a), (_, b)| a.sql_cmp(b).unwrap_or(Ordering::Equal));
        Some(Index { places: values.into_iter().map(|(place, _)| place).collect(), has_null })
    }
}

impl From<Vec<Expr>> for List {
    fn from(items: Vec<Expr>) -> List {
        List { index: Index::of(&items), items: items.into(), is_sorted: false }
    }
}

impl Deref for List {
    type Target = [Expr];

    fn deref(&self) -> &[Expr] {
        &self.items
    }
}

/// The text of the items: checkpoints of format 3 name accumulators by it.
impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.items.fmt(f)
    }
}

impl PartialEq for List {
    fn eq(&self, other: &List) -> bool {
        Arc::ptr_eq(&self.items, &other.items) || self.items == other.items
    }
}

impl Eq for List {}

impl Hash for List {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.items.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Type;

    fn texts(count: usize, with_null: bool) -> List {
        // Not in the order of the values.
        let mut items: Vec<Expr> = (0..count)
            .map(|number| Expr::Literal(Value::from(&*format!("t{}", number * 7 % count)), Type::Text))
            .collect();
        if with_null {
            items.insert(count / 2, Expr::Literal(Value::Null, Type::Text));
        }
        items.into()
    }

    #[test]
    fn an_index_finds_what_a_search_from_front_to_back_finds() {
        for count in [INDEXED_FROM, 100] {
            for with_null in [false, true] {
                let list = texts(count, with_null);
                let missing = if with_null { Value::Null } else { Value::Bool(false) };
                for number in 0..count {
                    let text = format!("t{number}");
                    assert_eq!(list.find(&Value::from(&*text)), Some(Value::Bool(true)), "{text}");
                    assert_eq!(list.holds_text(&text), Some(true), "{text}");
                }
                for text in ["", "t", "t100", "u"] {
                    assert_eq!(list.find(&Value::from(text)), Some(missing.clone()), "{text}");
                    assert_eq!(list.holds_text(text), missing.as_bool(), "{text}");
                }
            }
        }
        assert_eq!(texts(INDEXED_FROM - 1, false).find(&Value::from("t0")), None, "short lists have no index");
        assert_eq!(texts(3, false).holds_text("t0"), Some(true));
        assert_eq!(texts(3, true).holds_text("x"), None);
    }

    #[test]
    fn intervals_that_sql_calls_equal_are_found() {
        let interval = |text: &str| Value::from(text).cast(Type::Interval);
        let items: Vec<Expr> =
            (1..20).map(|days| Expr::Literal(interval(&format!("{days} days")), Type::Interval)).collect();
        let list = List::from(items);
        assert_eq!(list.find(&interval("48 hours")), Some(Value::Bool(true)));
        assert_eq!(list.find(&interval("1 month")), Some(Value::Bool(false)));
    }

    /// Checkpoints of format 3 name accumulators by this text.
    #[test]
    fn the_debug_text_is_that_of_the_items() {
        let items = vec![Expr::Literal(Value::Int(1), Type::Int), Expr::Literal(Value::Null, Type::Int)];
        assert_eq!(format!("{:?}", List::from(items.clone())), format!("{items:?}"));
    }
}
