//! Pages of lists: `?limit=&cursor=`, and `nextCursor` in the response.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ports::ErrorCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// The most rows of a page.
pub const PAGE_ROWS_MAX: usize = 1_000;

/// The page parameters of a query string.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct PageRequest {
    /// The number of rows. All of them if absent.
    pub limit: Option<usize>,
    /// `nextCursor` of the previous page.
    pub cursor: Option<String>,
}

/// The requested page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page<K> {
    /// The number of rows; `None` for all.
    pub limit: Option<usize>,
    /// The key of the last row of the previous page.
    pub after: Option<K>,
}

impl PageRequest {
    /// Reads the cursor as a key of the list's order.
    ///
    /// # Errors
    /// `INVALID_LIMIT` or `INVALID_CURSOR`, 400.
    pub fn page<K: DeserializeOwned>(&self) -> Result<Page<K>, Problem> {
        if let Some(limit) = self.limit
            && !(1..=PAGE_ROWS_MAX).contains(&limit)
        {
            let message = format!("limit must be between 1 and {PAGE_ROWS_MAX}");
            return Err(Problem::invalid(ErrorCode::InvalidLimit, message));
        }
        let after = self.cursor.as_deref().map(read_cursor).transpose()?;
        Ok(Page { limit: self.limit, after })
    }
}

impl<K: Serialize> Page<K> {
    /// Returns the cursor of the next page, or `None` if this is the last. Read `limit + 1` rows
    /// from the store, so that this is known. Removes the surplus row from `rows`.
    pub fn next_cursor<T>(&self, rows: &mut Vec<T>, key: impl Fn(&T) -> K) -> Option<String> {
        let limit = self.limit?;
        if rows.len() <= limit {
            return None;
        }
        rows.truncate(limit);
        rows.last().map(|last| cursor(&key(last)))
    }
}

/// Encodes the key of a page's last row as an opaque cursor.
fn cursor<K: Serialize>(key: &K) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(key).expect("keys of lists are numbers and strings"))
}

fn read_cursor<K: DeserializeOwned>(cursor: &str) -> Result<K, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or_else(|| {
        let message = "the cursor does not belong to this list; start again without a cursor";
        Problem::invalid(ErrorCode::InvalidCursor, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_a_list_to_its_end() {
        let all: Vec<(String, i64)> = (0..5).map(|n| (format!("é{n}"), n)).collect();
        let mut cursor = None;
        let mut seen = Vec::new();
        for pages in 1.. {
            let page: Page<(String, i64)> = PageRequest { limit: Some(2), cursor }.page().unwrap();
            let rest = all.iter().filter(|row| page.after.as_ref().is_none_or(|after| *row > after));
            let mut rows: Vec<_> = rest.take(page.limit.unwrap() + 1).cloned().collect();
            cursor = page.next_cursor(&mut rows, Clone::clone);
            seen.extend(rows);
            if cursor.is_none() {
                assert_eq!(pages, 3);
                break;
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn bad_limits_and_cursors_are_refused() {
        let cases = [
            (Some(0), None, ErrorCode::InvalidLimit),
            (Some(1_001), None, ErrorCode::InvalidLimit),
            (None, Some("%"), ErrorCode::InvalidCursor),
        ];
        for (limit, cursor, code) in cases {
            let request = PageRequest { limit, cursor: cursor.map(str::to_owned) };
            assert_eq!(request.page::<i64>().unwrap_err().code, code);
        }
        let other = PageRequest { limit: None, cursor: Some(cursor(&"a string")) };
        assert_eq!(other.page::<i64>().unwrap_err().code, ErrorCode::InvalidCursor);
    }
}
