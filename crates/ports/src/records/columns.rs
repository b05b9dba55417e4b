//! Values of an event's columns, as they stand in JSON.

use std::ops::{Index, IndexMut};

use segment_engine::schema::EventColumn;

use super::json::Json;

/// At most one value for each column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns<'a>([Option<Json<'a>>; EventColumn::ALL.len()]);

impl<'a> Index<EventColumn> for Columns<'a> {
    type Output = Option<Json<'a>>;

    #[inline]
    fn index(&self, column: EventColumn) -> &Option<Json<'a>> {
        &self.0[column.index()]
    }
}

impl<'a> IndexMut<EventColumn> for Columns<'a> {
    #[inline]
    fn index_mut(&mut self, column: EventColumn) -> &mut Option<Json<'a>> {
        &mut self.0[column.index()]
    }
}

impl<'a> FromIterator<(EventColumn, Json<'a>)> for Columns<'a> {
    fn from_iter<I: IntoIterator<Item = (EventColumn, Json<'a>)>>(values: I) -> Self {
        let mut columns = Self::default();
        values.into_iter().for_each(|(column, value)| columns[column] = Some(value));
        columns
    }
}
