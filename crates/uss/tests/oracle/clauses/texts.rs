//! Conditions on strings that functions make of others, and on long lists.

use super::Clauses;

impl Clauses<'_> {
    /// Returns a condition on a string that a function makes of a column.
    pub(super) fn made_text_condition(&mut self, column: &str) -> String {
        let (op, part) = (self.comparison(), self.random.text(&["o", "/", "page_", "s", "é", "ß", ""]));
        let (count, other) = (self.random.between(-7, 7), self.random.between(-2, 5));
        // PostgreSQL raises an error here, and the spelling in words has no other form.
        let length = if self.portable() { other.max(0) } else { other };
        match self.random.below(14) {
            0 => format!("({column} || '{part}' {op} 'south')"),
            1 => format!("('{part}' || ({column}) || coalesce(country, '-') {op} 'page')"),
            2 => format!("({column} || length({column}) LIKE '%5')"),
            3 => format!("(trim({column}) || '|' <> '|')"),
            4 => format!(
                "(trim({} '/short' FROM {column}) {op} 'p')",
                self.random.text(&["BOTH", "LEADING", "TRAILING", ""])
            ),
            5 => format!("({}({column}, 'npsu/') {op} 'o')", self.random.text(&["btrim", "ltrim", "rtrim"])),
            6 => format!("(left({column}, {count}) {op} '{part}')"),
            7 => format!("(right({column}, {count}) {op} '{part}')"),
            8 => format!("(substring({column} FROM {count} FOR {length}) {op} '{part}')"),
            9 => format!("(substring({column}, {count}) {op} '{part}')"),
            10 => format!("(length(substring({column} FOR {length})) {op} 2)"),
            11 => format!("(split_part({column}, '{part}', {other}) {op} 'p')"),
            12 => format!("(replace({column}, '{part}', '{}') {op} 'rs')", self.random.text(&["", "oo", "s"])),
            _ if self.random.chance(50) => format!("(strpos({column}, '{part}') {op} {other})"),
            _ => format!("(position('{part}' IN {column}) {op} {other})"),
        }
    }

    /// Returns a list that is long enough to be searched by an index.
    pub(super) fn long_list(&mut self, column: &str, values: &[&str]) -> String {
        let mut items: Vec<String> = (0..self.random.between(5, 40)).map(|number| format!("'{number}'")).collect();
        items.extend(values.iter().filter(|_| self.random.chance(50)).map(|value| format!("'{value}'")));
        if self.random.chance(20) {
            items.push("NULL".to_owned());
        }
        format!("({column} {} ({}))", self.random.text(&["IN", "NOT IN"]), items.join(", "))
    }
}
