//! `/api/v1/clock`: the time in use, and what to do about a system clock that jumped.

use axum::extract::State;
use ports::ErrorCode;
use ports::clock::Clock;
use ports::records::instant;
use serde::Serialize;
use uss_http::extract::JsonContentType;

use crate::api::Api;
use crate::wire::response::Data;

const MICROS_PER_SECOND: f64 = 1e6;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClockView {
    /// The time in use.
    now: String,
    /// `null` if there is nothing to report.
    warning: Option<WarningView>,
    /// How far the system clock is ahead of the time in use, or behind if negative; `null` without a jump.
    jump_seconds: Option<f64>,
    /// In how many seconds the jump is accepted if it lasts; `null` if only an operator can accept it.
    taken_in_seconds: Option<f64>,
    /// How far the time in use is behind the log's time.
    behind_seconds: f64,
    /// Jumps since the start.
    jumps: u64,
}

#[derive(Serialize)]
struct WarningView {
    code: ErrorCode,
    message: String,
}

impl ClockView {
    fn of(clock: &dyn Clock) -> Self {
        let (now, status) = (clock.now(), clock.status());
        let seconds = |micros: i64| micros as f64 / MICROS_PER_SECOND;
        Self {
            now: instant::format(now),
            warning: status.warning().map(|(code, message)| WarningView { code, message }),
            jump_seconds: status.jump.map(|jump| seconds(jump.ahead_micros)),
            taken_in_seconds: status.jump.and_then(|jump| jump.taken_in_micros).map(seconds),
            behind_seconds: seconds(status.behind_micros),
            jumps: status.jumps,
        }
    }
}

pub(crate) async fn get(State(api): State<Api>) -> Data<ClockView> {
    Data(ClockView::of(api.clock.as_ref()))
}

/// Accepts the time of the system clock.
pub(crate) async fn accept(State(api): State<Api>, _: JsonContentType) -> Data<ClockView> {
    api.clock.accept();
    Data(ClockView::of(api.clock.as_ref()))
}
