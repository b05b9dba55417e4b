//! `uss replay`: runs segments over a history, with its own clock.
//!
//! The path of a line: [`line`] reads it, [`Replay::take`] brings the clock to its instant and
//! applies it to the same [`Machine`] that the service runs. The lines of one instant take effect
//! together: when the next instant begins, or the input ends, [`Replay::complete_instant`]
//! evaluates the segments and writes the output.

mod error;
mod history;
mod identities;
mod line;
mod output;
mod segments;

use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use ingestion_api::Limits;
use ingestion_api::admission::EventDraft;
use ports::config_store::true_since;
use ports::identities::Identity;
use ports::records::decode::{Delivery, decode_event};
use ports::records::instant;
use segment_engine::event::Position;
use segment_engine::ids::{PartitionId, SegmentId, UserId};
use segment_engine::machine::{self, Cause, Machine, UserProfile};
use segment_engine::time::Timestamp;

pub use error::{Problem, ReplayError};
use history::History;
use identities::{Identities, Linked};
use line::{Action, Identify, Line, Link};
use output::{OutputLine, written};
use segments::Segments;

/// Replays `input` (NDJSON), and writes the changes and members (NDJSON) to `output`.
///
/// # Errors
/// Returns an error for a bad line, with its number. The output of all earlier instants has been
/// written then.
pub fn run(mut input: impl BufRead, output: impl Write) -> Result<(), ReplayError> {
    let mut replay = Replay::new(output);
    let outcome = replay.read(&mut input);
    replay.output.flush()?;
    outcome
}

struct Replay<W> {
    machine: Machine,
    identities: Identities,
    history: History,
    segments: Segments,
    /// Blocks of users as of the last checkpoint.
    checkpoint: BTreeMap<UserId, Vec<u8>>,
    /// The instant whose lines are being read.
    at: Timestamp,
    /// The number of the last line read, from 1.
    line: u64,
    /// Whether this instant has a `restart` line.
    restart: bool,
    /// The `members` lines of this instant: number and tags.
    members_lines: Vec<(u64, Vec<String>)>,
    output: W,
}

impl<W: Write> Replay<W> {
    fn new(output: W) -> Self {
        Self {
            machine: Machine::new(machine::Settings::default()),
            identities: Identities::default(),
            history: History::default(),
            segments: Segments::default(),
            checkpoint: BTreeMap::new(),
            at: Timestamp::MIN,
            line: 0,
            restart: false,
            members_lines: Vec::new(),
            output,
        }
    }

    fn read(&mut self, input: &mut impl BufRead) -> Result<(), ReplayError> {
        let limits = Limits::default();
        let mut buffer = Vec::new();
        while line::next_line(input, &mut self.line, &mut buffer)? {
            let line = line::parse(&buffer, &limits).map_err(|problem| problem.at(self.line))?;
            self.take(line)?;
        }
        self.complete_instant()
    }

    fn take(&mut self, line: Line<'_>) -> Result<(), ReplayError> {
        if line.at < self.at {
            let message = format!("`at` goes back, from {} to {}", written(self.at), written(line.at));
            return Err(Problem::new(message).at(self.line));
        }
        if line.at > self.at {
            self.complete_instant()?;
            self.at = line.at;
            self.machine.advance(line.at, usize::MAX);
            self.emit_changes()?;
        }
        let applied = match line.action {
            Action::Segment(tag, where_statement) => self.segments.change(self.line, tag, where_statement),
            Action::Event(draft) => self.event(&draft),
            Action::Identify(identify) => {
                self.identify(&identify);
                Ok(())
            }
            Action::Link(link) => return self.link(&link),
            Action::Restart => {
                self.restart = true;
                Ok(())
            }
            Action::Members(tags) => {
                self.members_lines.push((self.line, tags));
                Ok(())
            }
        };
        applied.map_err(|problem| problem.at(self.line))
    }

    /// Evaluates the segments once all lines of the instant have been read, and writes changes and
    /// members.
    fn complete_instant(&mut self) -> Result<(), ReplayError> {
        self.segments.apply(&mut self.machine, &self.history, &self.identities, self.at)?;
        self.machine.settle();
        self.emit_changes()?;
        if let Some(failure) = self.machine.take_failures().into_iter().next() {
            let user = self.identities.client_id(failure.user);
            return Err(Problem::new(format!("user {user}: {}", failure.reason)).at(self.line));
        }
        if std::mem::take(&mut self.restart) {
            self.restart()?;
        }
        for (line, tags) in std::mem::take(&mut self.members_lines) {
            self.write_members(line, &tags)?;
        }
        Ok(())
    }

    fn event(&mut self, draft: &EventDraft<'_>) -> Result<(), Problem> {
        let id_type = draft.id_type.as_deref().map(str::to_owned);
        let user = self.user(&Identity { id_type, id: draft.id.clone().into_owned() });
        // The same bytes and the same reader as in the service.
        let record = draft.record.encode(user, &instant::format(self.at), false);
        let position = Position { partition: PartitionId(0), offset: self.history.offset() };
        let Delivery { event, dedupe_forever } = decode_event(&record, position, self.at)
            .map_err(|bad| Problem::new(format!("the event is refused ({}): {}", bad.code, bad.message)))?;
        if self.machine.event(&event, dedupe_forever, self.at) {
            self.history.push(event);
        }
        Ok(())
    }

    fn identify(&mut self, identify: &Identify) {
        let user = self.user(&identify.identity);
        // The service decides the same when it receives a call.
        let created_at = identify.created_at.map_or(self.at, |created_at| true_since(created_at, self.at));
        self.machine.traits(user, &identify.traits, created_at, self.at);
    }

    fn link(&mut self, link: &Link) -> Result<(), ReplayError> {
        let reason = match self.identities.get(&link.to) {
            Some(_) => None,
            None => self.identities.conflict_with_new(&link.from, &link.to),
        };
        let linked = match reason {
            Some(reason) => Linked::Refused(reason),
            None => {
                let to = self.user(&link.to);
                self.identities.link(&link.from, to)
            }
        };
        match linked {
            Linked::SameUser => {}
            Linked::Merged { absorbed, survivor } => {
                if let Some(departed) = self.machine.remove_user(absorbed, Cause::Merge, self.at) {
                    let lacking = self.machine.absorb(survivor, departed, self.history.offset(), self.at);
                    if !lacking.is_empty() && !self.history.is_whole() {
                        return Err(self.history.too_long().at(self.line));
                    }
                    self.history.give(&mut self.machine, &lacking, &self.identities);
                }
            }
            Linked::Refused(refused) => {
                OutputLine::Refused { at: written(self.at), refused }.write(&mut self.output)?;
            }
        }
        Ok(())
    }

    /// Returns the user with this identity. An unknown identity creates a user.
    fn user(&mut self, identity: &Identity) -> UserId {
        if let Some(user) = self.identities.get(identity) {
            return user;
        }
        let user = self.identities.create(identity.clone());
        let profile = UserProfile { email: None, name: None, created_at: Some(self.at) };
        self.machine.profile(user, Some(&identity.id), profile, self.at);
        user
    }

    /// Writes a checkpoint of the users that changed since the last one, or of all, and goes on with a new
    /// machine made of it.
    fn restart(&mut self) -> Result<(), ReplayError> {
        // Users who were removed are among those it returns.
        let _is_whole = self.machine.begin_saving(&[]);
        let state = self.machine.save_state();
        for (user, block) in self.machine.save_some(usize::MAX) {
            match block {
                Some(block) => self.checkpoint.insert(user, block),
                None => self.checkpoint.remove(&user),
            };
        }
        self.machine = Machine::load_state(&state, self.history.offset(), machine::Settings::default())?;
        for block in self.checkpoint.values() {
            self.machine.load_user(block)?;
        }
        Ok(())
    }

    fn emit_changes(&mut self) -> Result<(), ReplayError> {
        let mut changes = self.machine.take_changes();
        changes.sort_by_key(|change| (change.effective_at, change.user, change.sequence));
        for change in changes {
            let tags = |ids: &[SegmentId]| {
                let mut tags: Vec<&str> = ids.iter().map(|id| self.segments.tag(*id)).collect();
                tags.sort_unstable();
                tags
            };
            let line = OutputLine::Change {
                at: written(change.effective_at),
                effective_at: written(change.effective_at),
                user: self.identities.client_id(change.user),
                in_segments: tags(&change.entered),
                out_segments: tags(&change.left),
                cause: change.cause,
            };
            line.write(&mut self.output)?;
        }
        Ok(())
    }

    fn write_members(&mut self, line: u64, tags: &[String]) -> Result<(), ReplayError> {
        let mut members = BTreeMap::new();
        for tag in tags {
            let Some(id) = self.segments.known(tag) else {
                return Err(Problem::new(format!("there is no segment `{tag}`")).at(line));
            };
            let users = self.machine.members(id).into_iter();
            let mut client_ids: Vec<&str> = users.map(|user| self.identities.client_id(user)).collect();
            client_ids.sort_unstable();
            members.insert(tag.as_str(), client_ids);
        }
        OutputLine::Members { at: written(self.at), members }.write(&mut self.output)?;
        Ok(())
    }
}
