//! The engine as a source. It gets the records one by one, as in the service.

use std::collections::{BTreeMap, BTreeSet};

use segment_engine::event::Event;
use segment_engine::ids::{SegmentId, SegmentVersion, UserId};
use segment_engine::language::compile;
use segment_engine::machine::{
    self, AccumulatorId, Cause, Change, Definition, FILTERS_MAX, Filled, Machine, PastEvent, Rule, UserProfile,
};
use segment_engine::time::Timestamp;

use crate::answers::{Answer, Answers, Verdict};
use crate::history::{Case, Effect, Step, What, World};

pub(crate) struct Engine;

impl Answers for Engine {
    fn name(&self) -> &'static str {
        "engine"
    }

    fn answer(&mut self, case: &Case, _: &[World]) -> Result<Answer, String> {
        let mut run = Run::default();
        let mut answer = Answer::new();
        let mut steps = case.steps.iter().peekable();
        for (number, instant) in case.instants.iter().enumerate() {
            while let Some(step) = steps.next_if(|step| step.at <= *instant) {
                run.step(step)?;
            }
            run.machine.advance(*instant, usize::MAX);
            run.fold_changes()?;
            for tag in run.world.segments.keys() {
                answer.insert((number, tag.clone()), run.members(tag)?);
            }
        }
        Ok(answer)
    }
}

/// A machine, and what the service around it knows.
struct Run {
    machine: Machine,
    world: World,
    /// Segment ids by tag.
    ids: BTreeMap<String, SegmentId>,
    version: u64,
    offset: u64,
    /// Memberships by the emitted changes, folded.
    emitted: BTreeSet<(UserId, SegmentId)>,
    /// Sequence and instant of each user's last change.
    last: BTreeMap<UserId, (u64, Timestamp)>,
    /// Why a clause was refused, by tag.
    refused: BTreeMap<String, String>,
}

impl Default for Run {
    fn default() -> Run {
        Run {
            machine: Machine::new(machine::Settings::default()),
            world: World::default(),
            ids: BTreeMap::new(),
            version: 0,
            offset: 0,
            emitted: BTreeSet::new(),
            last: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }
}

impl Run {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        self.offset += 1;
        let known: BTreeSet<UserId> = self.world.users.keys().copied().collect();
        let before = matches!(step.what, What::Link { .. }).then(|| self.world.users.clone()).unwrap_or_default();
        let effect = self.world.apply(step);
        self.create_users(&known, &effect, step.at);
        match (&step.what, effect) {
            (What::Segment { tag, clause: Some(clause) }, _) => self.define(tag, clause, step.at),
            (What::Segment { tag, clause: None }, _) => {
                if let Some(id) = self.ids.get(tag) {
                    self.machine.remove_segment(*id, step.at);
                }
            }
            (What::Restart, _) => self.restart(step.at)?,
            (_, Effect::Profile(id)) => self.profile(id, step.at),
            (What::Traits { traits, created_at, .. }, Effect::Traits(id)) => {
                let traits = traits.as_object().ok_or("traits are an object")?;
                self.machine.traits(id, traits, *created_at, step.at);
            }
            (_, Effect::Event(event, is_first)) => {
                let accepted = self.machine.event(&event, false, step.at);
                if accepted != is_first {
                    return Err(format!("the event at {} is accepted: {accepted}, the first: {is_first}", step.at));
                }
            }
            (_, Effect::Merge { absorbed, survivor }) => {
                let departed = self.machine.remove_user(absorbed, Cause::Merge, step.at);
                let departed = departed.ok_or("the absorbed user is not there")?;
                let lacking = self.machine.absorb(survivor, departed, u64::MAX, step.at);
                for event in before.get(&absorbed).iter().flat_map(|user| &user.events) {
                    let event = Event { user_id: survivor, ..(**event).clone() };
                    self.machine.add_history(&lacking, absorbed, &event);
                }
            }
            _ => {}
        }
        match self.machine.take_failures().first() {
            Some(failure) => Err(failure.reason.clone()),
            None => Ok(()),
        }
    }

    /// Creates the users that the record made known, including one that its merge absorbs at once.
    fn create_users(&mut self, known: &BTreeSet<UserId>, effect: &Effect, at: Timestamp) {
        let absorbed = match effect {
            Effect::Merge { absorbed, .. } => Some(*absorbed),
            _ => None,
        };
        let made: Vec<UserId> =
            self.world.users.keys().copied().chain(absorbed).filter(|id| !known.contains(id)).collect();
        for id in made {
            self.profile(id, at);
        }
    }

    fn profile(&mut self, id: UserId, at: Timestamp) {
        let user = self.world.users.get(&id);
        let profile = UserProfile {
            email: user.and_then(|user| user.email.clone()),
            name: user.and_then(|user| user.name.clone()),
            created_at: Some(user.map_or(at, |user| user.created_at)),
        };
        self.machine.profile(id, user.map(|user| user.key.as_str()), profile, at);
    }

    /// Defines a new version, fills it, and activates it, all in this instant.
    fn define(&mut self, tag: &str, clause: &str, at: Timestamp) {
        let next = SegmentId(self.ids.len() as i64 + 1);
        let id = *self.ids.entry(tag.to_owned()).or_insert(next);
        self.version += 1;
        self.refused.remove(tag);
        let plan = match compile(clause) {
            Ok(plan) => plan,
            Err(error) => {
                self.refused.insert(tag.to_owned(), format!("refused: {error:?}\n  {clause}"));
                return;
            }
        };
        let definition = Definition {
            id,
            tag: tag.to_owned(),
            version: SegmentVersion(self.version),
            where_statement: clause.to_owned(),
            rule: Rule::from(plan),
        };
        self.machine.define(definition, self.offset, at);
        let accumulators = self.machine.incomplete();
        // As from a store that returns no more than what is needed.
        for accumulators in accumulators.chunks(FILTERS_MAX) {
            let needs = self.machine.history_needs(accumulators);
            let filled = |accumulator: &AccumulatorId| Filled { accumulator: *accumulator, below: u64::MAX };
            let filled: Vec<Filled> = accumulators.iter().map(filled).collect();
            for event in self.world.users.values().flat_map(|known| &known.events) {
                let needed: Vec<PastEvent> = needs.reduce(event).into_iter().collect();
                self.machine.add_scanned(&filled, event.position.partition, &needed);
            }
        }
        for accumulator in accumulators {
            self.machine.complete(accumulator);
        }
        for (id, version) in self.machine.ready() {
            self.machine.activate(id, version, at);
        }
    }

    /// Writes a checkpoint, and goes on with a machine that is made of it.
    fn restart(&mut self, at: Timestamp) -> Result<(), String> {
        self.machine.advance(at, usize::MAX);
        self.fold_changes()?;
        let machine = Machine::load_state(&self.machine.save_state(), self.offset, machine::Settings::default());
        let mut machine = machine.map_err(|error| error.to_string())?;
        for id in self.world.users.keys() {
            let block = self.machine.save_user(*id).ok_or_else(|| format!("user {id} is not there"))?;
            machine.load_user(&block).map_err(|error| error.to_string())?;
        }
        self.machine = machine;
        Ok(())
    }

    /// Folds the changes. Semantics §7: a user's changes are numbered without gaps, never go back
    /// in time, and alternate.
    fn fold_changes(&mut self) -> Result<(), String> {
        for change in self.machine.take_changes() {
            let wrong = |what: &str| Err(format!("{what}: {change:?}"));
            let (sequence, at) = self.last.get(&change.user).copied().unwrap_or((0, Timestamp::MIN));
            if change.sequence != sequence + 1 {
                return wrong("the sequence has a gap");
            }
            if change.effective_at < at || change.effective_at > self.machine.now() {
                return wrong("the instant is out of order");
            }
            self.last.insert(change.user, (change.sequence, change.effective_at));
            let Change { user, entered, left, .. } = &change;
            if entered.iter().any(|id| !self.emitted.insert((*user, *id))) {
                return wrong("entered twice");
            }
            if left.iter().any(|id| !self.emitted.remove(&(*user, *id))) {
                return wrong("left without having entered");
            }
        }
        Ok(())
    }

    fn members(&self, tag: &str) -> Result<Verdict, String> {
        if let Some(why) = self.refused.values().next() {
            return Ok(Verdict::Skipped(why.clone()));
        }
        let id = self.ids[tag];
        let members: BTreeSet<UserId> = self.machine.members(id).into_iter().collect();
        let emitted = self.emitted.iter().filter(|(_, segment)| *segment == id);
        let emitted: BTreeSet<UserId> = emitted.map(|(user, _)| *user).collect();
        match members == emitted {
            true => Ok(Verdict::Members(members)),
            false => Err(format!("the members of {tag} are {members:?}, by the emitted changes {emitted:?}")),
        }
    }
}
