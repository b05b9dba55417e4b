//! Saving a machine and loading it again: what a checkpoint holds, and what is sent when users
//! merge.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use thin_vec::ThinVec;

use super::encoding::{ManualListLayout, ProfileLayout};
use super::fence::Fence;
use super::index::UserSlot;
use super::integrity::{check_accumulator, check_counter, check_now};
use super::user::{ManualList, Source, User, UserProfile};
use super::wakeups::Wakeups;
use super::{AccumulatorId, Definition, Departed, Machine, RecentIds, Rule, Settings};
use crate::accumulator::Accumulator;
use crate::ids::{SegmentId, SegmentVersion, UserId};
use crate::language::{CompileError, compile_saved};
use crate::plan::Plan;
use crate::time::Timestamp;

/// What this build writes. Format 3 differs only in the names of accumulators, see
/// [`super::format_3`].
const FORMAT: u8 = 4;
/// The oldest that this build reads.
const FORMAT_MIN: u8 = 3;

/// The memory for a block to begin with. Most need no more.
const BLOCK_BYTES: usize = 512;

/// Why a snapshot could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Damaged, or of a format that this build no longer reads.
    #[error("the snapshot is damaged or of a format that is no longer read: {0}")]
    Format(String),
    /// A counter says more than any machine can have counted.
    #[error("the snapshot is damaged: a counter is greater than any machine can count")]
    Counter,
    /// Written by a newer build, which still needs it: keep it as it is.
    #[error(
        "the snapshot has format {0}; this build reads formats {FORMAT_MIN} to {FORMAT}. Start the newer build that wrote it"
    )]
    Newer(u8),
    /// A saved clause no longer compiles.
    #[error("the saved segment {tag} no longer compiles: {source}")]
    Clause {
        #[expect(missing_docs, reason = "the name says it")]
        tag: String,
        #[expect(missing_docs, reason = "the name says it")]
        source: CompileError,
    },
}

/// A user, with names that mean the same in every machine: segments by id, accumulators by
/// fingerprint.
#[derive(Deserialize)]
struct UserBlock {
    format: u8,
    id: UserId,
    client_ref_id: Option<Box<str>>,
    #[serde(with = "ProfileLayout")]
    profile: UserProfile,
    /// Key, JSON text, since.
    traits: Vec<(String, String, Timestamp)>,
    #[serde(with = "ManualListLayout")]
    manual: ManualList,
    recent: RecentIds,
    accumulators: Vec<(u64, Accumulator)>,
    members: Vec<SegmentId>,
    sequence: u64,
    wakeups: Vec<(Timestamp, SegmentId)>,
    sources: Vec<Source>,
}

/// A [`UserBlock`] that is written: the same fields in the same order, without copies of what a user
/// has.
#[derive(Serialize)]
struct UserBlockRef<'a> {
    format: u8,
    id: UserId,
    client_ref_id: Option<&'a str>,
    #[serde(serialize_with = "profile")]
    profile: &'a UserProfile,
    traits: Vec<(&'a str, String, Timestamp)>,
    #[serde(serialize_with = "manual_list")]
    manual: &'a ManualList,
    recent: &'a RecentIds,
    accumulators: Vec<(u64, &'a Accumulator)>,
    members: Vec<SegmentId>,
    sequence: u64,
    wakeups: Vec<(Timestamp, SegmentId)>,
    sources: &'a [Source],
}

fn profile<S: Serializer>(profile: &&UserProfile, serializer: S) -> Result<S::Ok, S::Error> {
    ProfileLayout::serialize(profile, serializer)
}

fn manual_list<S: Serializer>(list: &&ManualList, serializer: S) -> Result<S::Ok, S::Error> {
    ManualListLayout::serialize(list, serializer)
}

/// Follows a [`UserBlock`] if it has anything in it. Builds that do not know it read only the
/// block.
#[derive(Default, Serialize, Deserialize)]
struct UserAppendix {
    /// Accumulators that lack events, each with the instant until which it lacks them.
    limited: Vec<(u64, Timestamp)>,
}

/// A departed user, and a digest of the accumulators that its machine kept.
#[derive(Serialize, Deserialize)]
struct DepartedBlock {
    digest: u64,
    user: Vec<u8>,
}

/// A machine besides its users.
#[derive(Serialize, Deserialize)]
struct MachineBlock {
    format: u8,
    now: Timestamp,
    has_history: bool,
    segments: Vec<SegmentBlock>,
    /// Of the accumulators in force. A build that names them differently would not find those of
    /// the users again; the digest reveals it.
    digest: u64,
}

/// Follows a [`MachineBlock`] if users' blocks have accumulators that no version in force reads: pending
/// versions need not read all their history again. Builds that do not know it read only the block.
#[derive(Serialize, Deserialize)]
struct HistoryBlock {
    /// The accumulators that lack history.
    fences: Vec<FenceBlock>,
    /// The names of those that have it all.
    complete: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
struct FenceBlock {
    accumulator: u64,
    offset: u64,
    sources: Vec<(UserId, u64)>,
}

#[derive(Clone, Serialize, Deserialize)]
struct SegmentBlock {
    id: SegmentId,
    tag: String,
    version: SegmentVersion,
    /// `None` for a manual segment.
    where_statement: Option<String>,
    in_force: bool,
}

impl Machine {
    /// Returns a user's block; `None` for an unknown user. The instant must be settled.
    pub fn save_user(&self, id: UserId) -> Option<Vec<u8>> {
        let user = self.users[self.by_id.get(&id)?.0 as usize].as_ref()?;
        Some(self.user_block(user))
    }

    /// Returns what [`Machine::load_departed`] reads in the machine that absorbs the user.
    pub fn save_departed(&self, departed: &Departed) -> Vec<u8> {
        let block = DepartedBlock { digest: self.catalog.digest(FORMAT), user: self.user_block(&departed.user) };
        postcard::to_stdvec(&block).expect("blocks hold nothing that cannot be written")
    }

    fn user_block(&self, user: &User) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        self.write_user(user, self.now, &[], &mut bytes);
        bytes
    }

    /// Appends the block of a user as of an instant. It has `apart`, what stands apart of them, by
    /// accumulator. It has no other incomplete accumulators: after a restart their whole history is read
    /// again, up to the checkpoint.
    pub(super) fn write_user(
        &self,
        user: &User,
        at: Timestamp,
        apart: &[(AccumulatorId, Option<&Accumulator>)],
        bytes: &mut Vec<u8>,
    ) {
        debug_assert!(user.dirty.is_empty(), "the instant is settled");
        let name = |id: AccumulatorId| {
            let shared = self.catalog.accumulators[id.0 as usize].as_ref()?;
            let is_saved = shared.fence.is_none() || apart.iter().any(|(other, _)| *other == id);
            is_saved.then_some(shared.fingerprint)
        };
        let all = user.accumulators.iter().map(|(id, kept)| (*id, kept));
        let all = all.chain(apart.iter().filter_map(|(id, kept)| Some((*id, (*kept)?))));
        let accumulators = all.filter_map(|(id, kept)| Some((name(id)?, kept)));
        let traits = user.traits.entries().map(|(key, value, since)| (key, value.to_string(), since));
        let wakeups = user.wakeups.iter().filter_map(|(due, index)| Some((due, self.catalog.id_of(index)?)));
        let block = UserBlockRef {
            format: FORMAT,
            id: user.id,
            client_ref_id: user.client_ref_id.as_deref(),
            profile: user.profile(),
            traits: traits.collect(),
            manual: &user.rare().manual,
            recent: &user.recent,
            accumulators: accumulators.collect(),
            members: user.members.iter().filter_map(|index| self.catalog.id_of(*index)).collect(),
            sequence: user.sequence,
            wakeups: wakeups.collect(),
            sources: &user.rare().sources,
        };
        postcard::to_io(&block, &mut *bytes).expect("blocks hold nothing that cannot be written");
        let limited = user.rare().limited.accumulators(at);
        let limited: Vec<_> = limited.filter_map(|(id, until)| Some((name(id)?, until))).collect();
        if !limited.is_empty() {
            let appendix = postcard::to_stdvec(&UserAppendix { limited });
            bytes.extend(appendix.expect("blocks hold nothing that cannot be written"));
        }
    }

    /// Loads a user from their block.
    pub fn load_user(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        if bytes.first() == Some(&3) {
            self.catalog.keep_names_of_format_3();
        }
        let (mut user, apart) = self.read_user(bytes)?;
        self.tally.enter(&user.members);
        self.tally.measure(&mut user);
        let (id, due) = (user.id, user.wakeups.next());
        let slot = UserSlot::new(self.users.len());
        for (id, kept) in apart {
            if let Some(fence) = self.catalog.fence_mut(id) {
                fence.restore(slot, kept);
            }
        }
        user.armed = due;
        self.users.push(Some(user));
        self.by_id.insert(id, slot);
        if due < Timestamp::MAX {
            self.timers.arm(due, slot);
        }
        Ok(())
    }

    /// Reads a user that departed from another machine.
    pub fn load_departed(&self, bytes: &[u8]) -> Result<Departed, SnapshotError> {
        let block: DepartedBlock =
            postcard::from_bytes(bytes).map_err(|error| SnapshotError::Format(error.to_string()))?;
        let (mut user, _) = self.read_user(&block.user)?;
        (user.members, user.wakeups) = (ThinVec::new(), Wakeups::default());
        // If the other machine kept the same accumulators as this one, an accumulator that the user
        // does not have is one without events. Otherwise, because one machine is ahead with a
        // definition, the other may not have kept it.
        let format = block.user.first().copied().unwrap_or(FORMAT);
        let lacking = if block.digest == self.catalog.digest(format) {
            Vec::new()
        } else {
            let complete = self.catalog.complete_accumulators().map(|(id, _)| id);
            complete.filter(|id| user.accumulator(*id).is_none()).collect()
        };
        Ok(Departed { user: Box::new(user), lacking })
    }

    /// Returns a user, and what stands apart of them.
    fn read_user(&self, bytes: &[u8]) -> Result<(User, Vec<(AccumulatorId, Accumulator)>), SnapshotError> {
        let (block, rest) = read::<UserBlock>(bytes)?;
        check_counter(block.sequence)?;
        let appendix = if rest.is_empty() {
            UserAppendix::default()
        } else {
            postcard::from_bytes(rest).map_err(|error| SnapshotError::Format(error.to_string()))?
        };
        let mut user = User::new(block.id);
        user.client_ref_id = block.client_ref_id;
        user.set_profile(block.profile);
        for (key, text, since) in block.traits {
            let value = serde_json::from_str(&text).map_err(|error| SnapshotError::Format(error.to_string()))?;
            user.traits.set(&key, value, since);
        }
        if block.manual != ManualList::default() {
            user.rare_mut().manual = block.manual;
        }
        user.recent = block.recent;
        // An accumulator that is not restored reads all of its history again. A block may have it
        // nevertheless: written when it was complete, after the instant of the checkpoint; or before it was
        // removed and defined again. It would count twice.
        let names = self.catalog.names(block.format);
        let fence = |id: AccumulatorId| self.catalog.accumulator(id).fence.as_ref();
        let is_saved = |id: &AccumulatorId| fence(*id).is_none_or(|fence| fence.is_restored);
        let id_of = |name| names.get(&name).copied().filter(is_saved);
        let mut apart = Vec::new();
        for (name, kept) in block.accumulators {
            let Some(id) = id_of(name) else { continue };
            check_accumulator(&self.catalog.accumulator(id).key, &kept)?;
            if fence(id).is_some() {
                apart.push((id, kept));
            } else {
                user.accumulators.push((id, kept));
            }
        }
        for (name, until) in appendix.limited {
            if let Some(id) = id_of(name) {
                user.rare_mut().limited.note(id, until, self.now);
            }
        }
        user.accumulators.sort_unstable_by_key(|(id, _)| *id);
        user.accumulators.shrink_to_fit();
        user.members = block.members.iter().filter_map(|id| self.catalog.index_of(*id)).collect();
        user.members.sort_unstable();
        user.members.shrink_to_fit();
        user.sequence = block.sequence;
        let wakeups = block.wakeups.iter().filter_map(|(due, id)| Some((*due, self.catalog.index_of(*id)?)));
        user.wakeups = wakeups.collect();
        if !block.sources.is_empty() {
            user.rare_mut().sources = block.sources;
        }
        Ok((user, apart))
    }

    /// Returns the machine's block, without users. The instant must be settled, with nobody behind. If a
    /// checkpoint has just begun, the block belongs to it.
    pub fn save_state(&self) -> Vec<u8> {
        debug_assert!(self.sweep.is_none(), "nobody is behind");
        let segment = |definition: &Definition, in_force| SegmentBlock {
            id: definition.id,
            tag: definition.tag.clone(),
            version: definition.version,
            where_statement: match &definition.rule {
                Rule::Where(_) => Some(definition.where_statement.clone()),
                Rule::Manual => None,
            },
            in_force,
        };
        let mut segments = Vec::new();
        for slot in &self.catalog.slots {
            segments.extend(slot.in_force.iter().map(|compiled| segment(&compiled.definition, true)));
            segments.extend(slot.pending.iter().map(|compiled| segment(&compiled.definition, false)));
        }
        let digest = self.catalog.digest_in_force(FORMAT);
        let block = MachineBlock { format: FORMAT, now: self.now, has_history: self.has_history, segments, digest };
        let mut bytes = postcard::to_stdvec(&block).expect("blocks hold nothing that cannot be written");
        let apart = self.saving.iter().flat_map(|saving| saving.apart());
        let fences: Vec<FenceBlock> = apart.filter_map(|id| self.fence_block(*id)).collect();
        let complete = self.catalog.complete_and_pending();
        if !fences.is_empty() || !complete.is_empty() {
            let history = postcard::to_stdvec(&HistoryBlock { fences, complete });
            bytes.extend(history.expect("blocks hold nothing that cannot be written"));
        }
        bytes
    }

    fn fence_block(&self, id: AccumulatorId) -> Option<FenceBlock> {
        let shared = self.catalog.accumulators.get(id.0 as usize)?.as_ref()?;
        let Fence { offset, sources, .. } = shared.fence.as_ref()?;
        let mut sources: Vec<_> = sources.iter().map(|(user, below)| (*user, *below)).collect();
        sources.sort_unstable();
        Some(FenceBlock { accumulator: shared.fingerprint, offset: *offset, sources })
    }

    /// Loads a machine from its block, without users. `offset` is the log's position: accumulators
    /// of versions that were not yet in force need the history before it, unless users' blocks have
    /// what stood apart of them.
    pub fn load_state(bytes: &[u8], offset: u64, settings: Settings) -> Result<Self, SnapshotError> {
        Self::load_state_with(bytes, offset, settings, &mut |clause| compile_saved(clause).map(Arc::new))
    }

    /// Like [`Machine::load_state`], but takes the plan of each clause from `plan`, so that the
    /// machines of one process can share plans.
    pub fn load_state_with(
        bytes: &[u8],
        offset: u64,
        settings: Settings,
        plan: &mut dyn FnMut(&str) -> Result<Arc<Plan>, CompileError>,
    ) -> Result<Self, SnapshotError> {
        let (block, rest) = read::<MachineBlock>(bytes)?;
        check_now(block.now)?;
        let mut machine = Machine::new(settings);
        machine.now = block.now;
        machine.settled = block.now;
        machine.has_history = block.has_history;
        let (in_force, pending): (Vec<_>, Vec<_>) = block.segments.into_iter().partition(|segment| segment.in_force);
        for segment in in_force {
            let (index, _) = machine.catalog.define(definition(segment, plan)?, None);
            machine.catalog.activate(index);
        }
        if machine.catalog.digest_in_force(block.format) != block.digest {
            return Err(SnapshotError::Format(
                "this build names the accumulators of its segments differently".to_owned(),
            ));
        }
        for segment in pending {
            machine.catalog.define(definition(segment, plan)?, block.has_history.then_some(offset));
        }
        if !rest.is_empty() {
            let history = postcard::from_bytes(rest).map_err(|error| SnapshotError::Format(error.to_string()))?;
            machine.restore_history(history, offset);
        }
        Ok(machine)
    }
}

impl Machine {
    fn restore_history(&mut self, HistoryBlock { fences, complete }: HistoryBlock, offset: u64) {
        for block in fences {
            let id = self.catalog.accumulator_named(block.accumulator);
            if let Some(fence) = id.and_then(|id| self.catalog.fence_mut(id)) {
                fence.offset = block.offset.min(offset);
                fence.sources = block.sources.into_iter().collect();
                fence.is_restored = true;
            }
        }
        for name in complete {
            if let Some(id) = self.catalog.accumulator_named(name) {
                self.catalog.complete(id);
            }
        }
    }
}

/// Reads a block, whose first byte is its format. Returns the bytes that follow it as well.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), SnapshotError> {
    match bytes.first() {
        Some(format) if *format > FORMAT => return Err(SnapshotError::Newer(*format)),
        Some(format) if *format < FORMAT_MIN => return Err(SnapshotError::Format(format!("format {format}"))),
        _ => {}
    }
    postcard::take_from_bytes(bytes).map_err(|error| SnapshotError::Format(error.to_string()))
}

fn definition(
    segment: SegmentBlock,
    plan: &mut dyn FnMut(&str) -> Result<Arc<Plan>, CompileError>,
) -> Result<Definition, SnapshotError> {
    let SegmentBlock { id, tag, version, where_statement, .. } = segment;
    let rule = match &where_statement {
        Some(text) => Rule::Where(plan(text).map_err(|source| SnapshotError::Clause { tag: tag.clone(), source })?),
        None => Rule::Manual,
    };
    Ok(Definition { id, tag, version, where_statement: where_statement.unwrap_or_default(), rule })
}
