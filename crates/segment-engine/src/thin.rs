//! Lists that most users have empty or short.
//!
//! A [`ThinVec`] is one pointer: it has length and capacity beside the items, so an empty list
//! costs 8 bytes and a short one no more than a `Vec`. There are several in each user, and millions
//! of users.

use thin_vec::ThinVec;

/// Inserts an item. A full list grows by half, not to twice its size: what is reserved for nothing
/// costs more here than an allocation that moves.
pub(crate) fn insert<T>(list: &mut ThinVec<T>, place: usize, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(1 + list.len() / 2);
    }
    list.insert(place, item);
}

/// Returns the size of the list without what the items point to.
pub(crate) fn heap_bytes<T>(list: &ThinVec<T>) -> usize {
    // Of an empty list nothing is allocated.
    if list.capacity() == 0 { 0 } else { 2 * size_of::<usize>() + list.capacity() * size_of::<T>() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reserves_at_most_half_of_what_is_in_it() {
        let mut list = ThinVec::new();
        assert_eq!(heap_bytes(&list), 0);
        for number in 0..100_u32 {
            let end = list.len();
            insert(&mut list, end, number);
            assert!(list.capacity() <= 1 + list.len() * 3 / 2, "{} of {}", list.len(), list.capacity());
        }
        assert_eq!(heap_bytes(&list), 16 + 4 * list.capacity());
        assert!(list.iter().copied().eq(0..100));
    }
}
