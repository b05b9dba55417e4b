//! Fields at the top level of an event that have another name than ours, and what to write instead. Pure.

use segment_engine::schema::EventColumn;
use serde::Serialize;

/// How many names one answer warns of. An event has few fields; nobody reads a longer list.
const WARNINGS_MAX: usize = 20;
/// The longest name that is compared: longer than any below.
const NAME_BYTES_MAX: usize = 32;

/// The payload, and what other services call it. Names here and below are in lower case, without separators.
const PAYLOAD: [&str; 6] = ["payload", "properties", "props", "params", "attributes", "eventproperties"];

/// Returns what other services call a column.
const fn called_elsewhere(column: EventColumn) -> &'static [&'static str] {
    match column {
        EventColumn::ClientRefId => {
            &["userid", "anonymousid", "distinctid", "customerid", "clientid", "visitorid", "clientrefid", "uid"]
        }
        EventColumn::IdType => &["identitytype", "useridtype"],
        EventColumn::Country => &["countrycode"],
        EventColumn::ActivityType => &["event", "eventname", "eventtype", "activity", "action", "type"],
        EventColumn::Url => &["pageurl"],
        EventColumn::CreatedAt => {
            &["timestamp", "originaltimestamp", "time", "datetime", "ts", "eventtime", "occurredat"]
        }
        EventColumn::EventId => &["messageid", "insertid", "$insertid", "idempotencykey"],
        EventColumn::Region
        | EventColumn::DeviceType
        | EventColumn::OrderTotal
        | EventColumn::OrderId
        | EventColumn::ElementId => &[],
        // No client sends these.
        EventColumn::UserId | EventColumn::ProcessedAt => &[],
    }
}

/// Returns which of our fields is meant by this name, if it is nearly one of ours or one that other services use.
pub fn meant(name: &str) -> Option<&'static str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let letters =
        name.chars().filter(|letter| !matches!(letter, '_' | '-' | ' ')).map(|letter| letter.to_ascii_lowercase());
    let is_called = |known: &&str| letters.clone().eq(known.chars());
    let is_own = |name: &str| letters.clone().eq(name.chars().filter(|letter| *letter != '_'));
    let is_meant = |column: &EventColumn| {
        column.sent_name().is_some_and(is_own) || called_elsewhere(*column).iter().any(is_called)
    };
    let column = EventColumn::ALL.into_iter().find(is_meant).map(EventColumn::field);
    column.or_else(|| PAYLOAD.iter().any(is_called).then_some("payload"))
}

/// A field that was kept, but has no effect where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The name of the field.
    pub field: String,
    /// What to write instead.
    pub message: String,
    /// The index of the first event that has it.
    pub index: usize,
    /// How many events have it.
    pub events: usize,
}

/// The warnings of a request, one per name of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Warnings(Vec<Warning>);

impl Warnings {
    /// Warns of a field of an accepted event that should be called `meant`.
    pub fn add(&mut self, index: usize, field: &str, meant: &'static str) {
        metrics::counter!("uss_misplaced_fields_total", "meant" => meant).increment(1);
        if let Some(known) = self.0.iter_mut().find(|warning| warning.field == field) {
            known.events += 1;
        } else if self.0.len() < WARNINGS_MAX {
            let message =
                format!("`{field}` is kept, but means nothing there; if it is what we call `{meant}`, send it as that");
            self.0.push(Warning { field: field.to_owned(), message, index, events: 1 });
        }
    }

    /// Adds the warnings of later events. `first` is the index of the first of them.
    pub fn append(&mut self, first: usize, later: Warnings) {
        for warning in later.0 {
            if let Some(known) = self.0.iter_mut().find(|known| known.field == warning.field) {
                known.events += warning.events;
            } else if self.0.len() < WARNINGS_MAX {
                self.0.push(Warning { index: first + warning.index, ..warning });
            }
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_spellings_and_the_names_of_other_services_are_known() {
        let cases = [
            ("createdAt", Some("created_at")),
            ("CREATED-AT", Some("created_at")),
            ("timestamp", Some("created_at")),
            ("time", Some("created_at")),
            ("userId", Some("id")),
            ("user_id", Some("id")),
            ("ID", Some("id")),
            ("idType", Some("id_type")),
            ("eventId", Some("event_id")),
            ("messageId", Some("event_id")),
            ("properties", Some("payload")),
            ("Payload", Some("payload")),
            ("event", Some("payload.activity_type")),
            ("type", Some("payload.activity_type")),
            ("activityType", Some("payload.activity_type")),
            ("orderTotal", Some("payload.order_total")),
            ("deviceType", Some("device_type")),
            ("Region", Some("region")),
            ("campaign", None),
            ("dedupe_forever", None),
            ("", None),
            ("created", None),
            ("ïd", None),
        ];
        for (name, expected) in cases {
            assert_eq!(meant(name), expected, "{name}");
        }
        for column in EventColumn::ALL {
            let Some(name) = column.sent_name() else { continue };
            for spelling in [name.to_ascii_uppercase(), name.replace('_', "-"), name.replace('_', "")] {
                assert_eq!(meant(&spelling), Some(column.field()), "{spelling}");
            }
        }
        let long = "_".repeat(NAME_BYTES_MAX) + "id";
        assert_eq!(meant(&long), None);
    }

    #[test]
    fn every_name_is_warned_of_once_up_to_a_bound() {
        let mut warnings = Warnings::default();
        for index in 3..5 {
            warnings.add(index, "time", "created_at");
        }
        let mut later = Warnings::default();
        later.add(0, "time", "created_at");
        later.add(1, "userId", "id");
        warnings.append(10, later);
        let found: Vec<_> = warnings.0.iter().map(|it| (it.field.as_str(), it.index, it.events)).collect();
        assert_eq!(found, [("time", 3, 3), ("userId", 11, 1)]);
        assert!(warnings.0[0].message.contains("`time`") && warnings.0[0].message.contains("`created_at`"));
        for number in 0..100 {
            warnings.add(20, &format!("id{number}"), "id");
        }
        assert_eq!(warnings.0.len(), WARNINGS_MAX);
    }
}
