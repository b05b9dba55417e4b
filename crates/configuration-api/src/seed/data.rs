//! The sample users, activities and segments.

use ports::config_store::{NewActivity, NewUser};

use fastrand::Rng;

const USERS: usize = 100;
const SEED: u64 = 0x5EED_0001;
/// The client id of the first sample user, which the example event of the documentation names.
const FIRST_CLIENT_ID: &str = "c1d1caef-b216-4fca-bd2d-d776bd6204d6";
/// Gets no sample events, so that the documentation's example event changes a membership.
pub(crate) const FIRST_USER: i64 = 1;

const FIRST_NAMES: [&str; 10] = ["Ada", "Ben", "Chloe", "Dario", "Emma", "Farid", "Grace", "Hugo", "Ines", "Jonas"];
const LAST_NAMES: [&str; 10] =
    ["Adams", "Brown", "Costa", "Diaz", "Evans", "Fischer", "Garcia", "Haddad", "Ito", "Jensen"];

pub(crate) struct SampleSegment {
    pub tag: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    pub where_statement: &'static str,
    /// The code of the linked activity; a segment without one is generic.
    pub activity: Option<&'static str>,
}

/// Returns users with ten first and ten last names, and UUIDs as client ids.
pub(crate) fn users() -> Vec<NewUser> {
    let mut rng = Rng::with_seed(SEED);
    let user = |index: usize| {
        let (first, last) = (FIRST_NAMES[index % 10], LAST_NAMES[index / 10]);
        let client_id = if index == 0 { FIRST_CLIENT_ID.to_owned() } else { uuid(&mut rng) };
        let email = format!("{}.{}@example.com", first.to_lowercase(), last.to_lowercase());
        NewUser { client_ref_id: Some(client_id), name: Some(format!("{first} {last}")), email: Some(email) }
    };
    (0..USERS).map(user).collect()
}

/// A random UUID (RFC 9562, version 4).
fn uuid(rng: &mut Rng) -> String {
    let (high, low) = (rng.u64(..), rng.u64(..));
    let version_and_rest = 0x4000 | (high & 0x0fff);
    let variant_and_rest = 0x8000 | ((low >> 48) & 0x3fff);
    format!(
        "{:08x}-{:04x}-{version_and_rest:04x}-{variant_and_rest:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        low & 0xffff_ffff_ffff
    )
}

pub(crate) fn activities() -> Vec<NewActivity> {
    let activity = |code: &str, title: &str, description: &str| NewActivity {
        title: title.to_owned(),
        description: Some(description.to_owned()),
        code: code.to_owned(),
    };
    vec![
        activity("page_element_clicked", "Page element clicked", "A visitor clicked an element of a page"),
        activity("page_viewed", "Page viewed", "A visitor opened a page"),
        activity("product_purchased", "Product purchased", "A visitor bought something"),
    ]
}

pub(crate) fn segments() -> [SampleSegment; 3] {
    [
        SampleSegment {
            tag: "active_visitor",
            title: "Active visitor",
            description: "Did anything in the last 30 minutes",
            where_statement: "count(*) FILTER (WHERE created_at >= now() - INTERVAL '30 minutes') > 0",
            activity: None,
        },
        SampleSegment {
            tag: "area_no_buyers",
            title: "Californians who do not buy",
            description: "Came from California and bought nothing in the last 30 days",
            where_statement: "count(*) FILTER (WHERE region = 'California') > 0 \
                AND count(*) FILTER (WHERE activity_type = 'product_purchased' \
                AND created_at >= now() - INTERVAL '30 days') = 0",
            activity: Some("product_purchased"),
        },
        SampleSegment {
            tag: "mobile_no_recent_activity",
            title: "Mobile visitors who stay away",
            description: "Viewed 10 or more pages on a mobile and did nothing in the last 7 days",
            where_statement: "count(*) FILTER (WHERE device_type = 'mobile' AND activity_type = 'page_viewed') >= 10 \
                AND count(*) FILTER (WHERE created_at >= now() - INTERVAL '7 days') = 0",
            activity: Some("page_viewed"),
        },
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn sample_users_are_distinct() {
        let users = users();
        let client_ids: HashSet<_> = users.iter().map(|user| user.client_ref_id.clone().unwrap()).collect();
        let emails: HashSet<_> = users.iter().map(|user| user.email.clone().unwrap()).collect();
        assert_eq!((users.len(), client_ids.len(), emails.len()), (100, 100, 100));
        assert_eq!(users[0].client_ref_id.as_deref(), Some("c1d1caef-b216-4fca-bd2d-d776bd6204d6"));
        assert!(client_ids.iter().all(|id| id.len() == 36 && id.as_bytes()[14] == b'4'), "{client_ids:?}");
    }

    #[test]
    fn sample_clauses_compile() {
        for segment in segments() {
            segment_engine::language::compile(segment.where_statement).unwrap();
        }
    }
}
