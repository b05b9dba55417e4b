//! The stored layout of values.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::written_as;
use crate::decimal::Decimal;
use crate::time::{Interval, Timestamp};
use crate::value::Value;

#[derive(Serialize, Deserialize)]
#[serde(remote = "Value")]
enum ValueLayout {
    Null,
    Bool(bool),
    Int(i64),
    Decimal(Decimal),
    Text(Arc<str>),
    Timestamp(Timestamp),
    LocalTimestamp(i64),
    Date(i32),
    #[serde(with = "IntervalLayout")]
    Interval(Interval),
    Json(Arc<str>),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Interval")]
struct IntervalLayout {
    months: i32,
    days: i32,
    micros: i64,
}

written_as!(Value: ValueLayout);
