//! Stable shares of users, by a hash that anybody can compute.

use md5::{Digest, Md5};

use crate::decimal::Decimal;
use crate::ids::UserId;
use crate::value::Value;

/// How many buckets there are, each a hundredth of a percent.
const BUCKETS: u32 = 10_000;

/// Returns `bucket('name')` of a user: the first 32 bits of `md5(name || ':' || user_id)` as an
/// unsigned number, modulo 10,000, divided by 100.
pub fn bucket(name: &str, user: UserId) -> Value {
    let digest = Md5::new().chain_update(name).chain_update(":").chain_update(user.to_string()).finalize();
    let [a, b, c, d, ..] = <[u8; 16]>::from(digest);
    let hundredths = u32::from_be_bytes([a, b, c, d]) % BUCKETS;
    Decimal::from_scaled(i128::from(hundredths) * (Decimal::ONE.scaled() / 100)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY_HAND: [(&str, i64, &str); 5] = [
        ("checkout", 42, "44.65"),
        ("checkout", 43, "19.39"),
        ("", 1, "60.76"),
        ("größe", -7, "35.36"),
        ("a'b", 9007199254740993, "12.01"),
    ];

    /// Computed by `printf %s 'checkout:42' | md5sum` and so on.
    #[test]
    fn a_bucket_follows_the_formula() {
        for (name, user, expected) in BY_HAND {
            assert_eq!(bucket(name, UserId(user)), Decimal::parse(expected).into(), "{name} {user}");
        }
    }

    #[test]
    fn a_share_of_the_buckets_is_that_share_of_the_users() {
        let below = |limit: &str| {
            let limit = Decimal::parse(limit).into();
            (1..=20_000)
                .filter(|id| bucket("a", UserId(*id)).sql_cmp(&limit).is_some_and(std::cmp::Ordering::is_lt))
                .count()
        };
        assert!((1_900..2_100).contains(&below("10")) && (9_800..10_200).contains(&below("50")));
        assert_eq!(below("100"), 20_000);
    }
}
