//! Events from inside the process, such as the sample data, through the same pipeline.

use async_trait::async_trait;
use ports::event_sink::{EventSink, SinkOutcome};
use uss_http::Problem;

use crate::admission::Received;
use crate::outcome;
use crate::pipeline::{Ingestion, Options};

#[async_trait]
impl EventSink for Ingestion {
    async fn submit(&self, events: Vec<serde_json::Value>) -> SinkOutcome {
        let options = Options { unknown_users: self.unknown_users, dedupe_forever: false };
        let mut answer = SinkOutcome::default();
        let mut first = 0;
        for chunk in events.chunks(self.limits.chunk_events_max.max(1)) {
            let texts: Vec<String> = chunk.iter().map(serde_json::Value::to_string).collect();
            let received: Vec<Received<'_>> = texts.iter().map(|text| text.as_bytes().into()).collect();
            match self.process(&received, options).await {
                Ok(processed) => outcome::tally(&mut answer, first, processed.outcomes),
                Err(error) => {
                    let Problem { code, message, .. } = error.into();
                    answer.not_admitted.extend(outcome::not_admitted(first..first + chunk.len(), code, &message));
                }
            }
            first += chunk.len();
        }
        answer
    }
}
