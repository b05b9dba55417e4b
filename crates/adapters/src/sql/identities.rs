//! Identities in SQL. A look-up is a read; only changes wait for the writer.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use ports::config_store::{
    Attached, Identity, IdentityKey, IdentityRules, IdentityStore, Link, LinkDecision, LinkSide, Linked, Resolution,
    Unknown, User, decide_link, exclusive_conflict,
};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use segment_engine::ids::UserId;
use segment_engine::time::Timestamp;

use super::entities::{identity, user};
use super::index::Key;
use super::merges::merge;
use super::{BOUND_MAX, Result, SqlConfigStore, first_contact, unavailable, users};

/// The values bound per row.
const COLUMNS: usize = 5;

fn domain(row: identity::Model) -> Identity {
    let key = IdentityKey { id_type: row.id_type, id: row.spelling.unwrap_or(row.id) };
    Identity { key, user_id: UserId(row.user_id), created_at: Timestamp(row.created_at) }
}

pub(super) async fn own(db: &impl ConnectionTrait, user: i64) -> Result<Vec<Identity>> {
    let query = identity::Entity::find().filter(identity::Column::UserId.eq(user));
    let query = query.order_by_asc(identity::Column::IdType).order_by_asc(identity::Column::Id);
    Ok(query.all(db).await.map_err(unavailable)?.into_iter().map(domain).collect())
}

/// Returns the owners of those pairs, given in their forms, that have one.
pub(super) async fn by_pair(db: &impl ConnectionTrait, forms: &[IdentityKey]) -> Result<HashMap<IdentityKey, UserId>> {
    let mut owners = HashMap::with_capacity(forms.len());
    for chunk in forms.chunks(BOUND_MAX) {
        let ids = chunk.iter().map(|form| form.id.as_str());
        let rows =
            identity::Entity::find().filter(identity::Column::Id.is_in(ids)).all(db).await.map_err(unavailable)?;
        let pair = |row: identity::Model| (IdentityKey { id_type: row.id_type, id: row.id }, UserId(row.user_id));
        owners.extend(rows.into_iter().map(pair));
    }
    Ok(owners)
}

/// Returns the owners of those client ids that have one.
pub(super) async fn by_client_refs(db: &impl ConnectionTrait, ids: &[&str]) -> Result<HashMap<String, UserId>> {
    let mut owners = HashMap::new();
    for chunk in ids.chunks(BOUND_MAX) {
        let query = user::Entity::find().select_only();
        let query = query.column(user::Column::ClientRefId).column(user::Column::Id).column(user::Column::MergedInto);
        let query = query.filter(user::Column::ClientRefId.is_in(chunk.iter().copied()));
        let rows: Vec<(String, i64, Option<i64>)> = query.into_tuple().all(db).await.map_err(unavailable)?;
        owners.extend(rows.into_iter().map(|(client_id, id, into)| (client_id, UserId(into.unwrap_or(id)))));
    }
    Ok(owners)
}

/// Stores the owners of pairs. Pairs that already have an owner keep it.
pub(super) async fn keep(
    tx: &impl ConnectionTrait,
    rules: &IdentityRules,
    pairs: &[(IdentityKey, UserId)],
    now: Timestamp,
) -> Result<()> {
    for chunk in pairs.chunks(BOUND_MAX / COLUMNS) {
        let models = chunk.iter().map(|(key, user)| {
            let form = rules.form(key);
            identity::ActiveModel {
                spelling: Set((form.id != key.id).then(|| key.id.clone())),
                id_type: Set(form.id_type),
                id: Set(form.id),
                user_id: Set(user.0),
                created_at: Set(now.0),
            }
        });
        let kept = OnConflict::columns([identity::Column::IdType, identity::Column::Id]).do_nothing().to_owned();
        let insert = identity::Entity::insert_many(models).on_conflict(kept);
        insert.exec_without_returning(tx).await.map_err(unavailable)?;
    }
    Ok(())
}

/// Returns the owner of the pair, or else of the client id.
pub(super) async fn owner(
    db: &impl ConnectionTrait,
    rules: &IdentityRules,
    key: &IdentityKey,
) -> Result<Option<UserId>> {
    let form = rules.form(key);
    let pair = identity::Entity::find_by_id((form.id_type, form.id));
    match pair.one(db).await.map_err(unavailable)? {
        Some(row) => Ok(Some(UserId(row.user_id))),
        None => users::by_client_ref(db, &key.id).await,
    }
}

async fn side(db: &impl ConnectionTrait, rules: &IdentityRules, key: &IdentityKey) -> Result<Option<LinkSide>> {
    let Some(user_id) = owner(db, rules, key).await? else { return Ok(None) };
    let row = users::require(db, user_id).await?;
    let mut identities: Vec<IdentityKey> = own(db, row.id).await?.into_iter().map(|identity| identity.key).collect();
    if !identities.iter().any(|own| rules.same(own, key)) {
        identities.push(key.clone());
    }
    Ok(Some(LinkSide { user_id, created_at: Timestamp(row.created_at), identities }))
}

#[async_trait]
impl IdentityStore for SqlConfigStore {
    async fn identities(&self, user: UserId) -> Result<Vec<Identity>> {
        let user = users::require(&self.readers, user).await?;
        own(&self.readers, user.id).await
    }

    async fn attach_identity(&self, user: UserId, key: IdentityKey, now: Timestamp) -> Result<Attached> {
        let rules = &self.rules;
        let mut tx = self.begin().await?;
        let user = UserId(users::require(&tx, user).await?.id);
        let has = own(&tx, user.0).await?;
        if let Some(identity) = has.iter().find(|identity| rules.same(&identity.key, &key)) {
            return Ok(Attached::Known(identity.clone()));
        }
        let has: Vec<IdentityKey> = has.into_iter().map(|identity| identity.key).collect();
        match owner(&tx, rules, &key).await? {
            Some(owner) if owner != user => return Err(Identity::taken(&key, owner)),
            _ => exclusive_conflict(user, &has, &key, rules)?,
        }
        keep(&tx, rules, &[(key.clone(), user)], now).await?;
        tx.owns(Key::pair(&rules.form(&key)), user);
        tx.commit().await?;
        Ok(Attached::New(Identity { key, user_id: user, created_at: now }))
    }

    async fn link(&self, link: Link, now: Timestamp) -> Result<Linked> {
        let rules = &self.rules;
        let mut tx = self.begin().await?;
        let (from, to) = (side(&tx, rules, &link.from).await?, side(&tx, rules, &link.to).await?);
        let decision = decide_link(&link, from.as_ref(), to.as_ref(), rules)?;
        let known = [(&link.from, from), (&link.to, to)];
        let mut pairs: Vec<(IdentityKey, UserId)> =
            known.into_iter().filter_map(|(key, side)| Some((key.clone(), side?.user_id))).collect();
        let linked = match &decision {
            LinkDecision::Nothing(user_id) => Linked { user_id: *user_id, absorbed: None },
            LinkDecision::Attach(user_id, key) => {
                pairs.push((key.clone(), *user_id));
                Linked { user_id: *user_id, absorbed: None }
            }
            LinkDecision::Merge { survivor, absorbed } => Linked { user_id: *survivor, absorbed: Some(*absorbed) },
        };
        keep(&tx, rules, &pairs, now).await?;
        if let LinkDecision::Merge { survivor, absorbed } = decision {
            merge(&tx, survivor, absorbed, now).await?;
        }
        tx.note_keys_after(&[linked.user_id]).await?;
        tx.commit().await?;
        Ok(linked)
    }

    fn known(&self, id_type: &str, id: &str) -> Option<UserId> {
        let form = self.rules.caseless.form(id_type, id);
        self.index.get(self.index.hash(Key::Pair { id_type, form: &form }))
    }

    async fn resolve(&self, keys: &[IdentityKey], unknown: Unknown, now: Timestamp) -> Result<Resolution> {
        let forms: Vec<IdentityKey> = keys.iter().map(|key| self.rules.form(key)).collect();
        let asked = Asked { keys, forms: &forms };
        let owners = match self.known_owners(asked) {
            Some(owners) => owners,
            None => by_pair(&self.readers, &forms).await?,
        };
        if forms.iter().all(|form| owners.contains_key(form)) {
            return Ok(resolution(&forms, &owners));
        }
        if unknown == Unknown::Reject {
            let candidates = self.client_ref_owners(&self.readers, &asked.missing(&owners)).await?;
            if candidates.is_empty() {
                return Ok(resolution(&forms, &owners));
            }
        }
        self.resolve_and_keep(asked, unknown, now).await
    }
}

/// Identities to resolve.
#[derive(Clone, Copy)]
struct Asked<'a> {
    keys: &'a [IdentityKey],
    /// The same, in the forms in which they compare.
    forms: &'a [IdentityKey],
}

impl<'a> Asked<'a> {
    /// Returns the ids, as given, of the pairs without an owner.
    fn missing(self, owners: &HashMap<IdentityKey, UserId>) -> Vec<&'a str> {
        let missing = self.keys.iter().zip(self.forms).filter(|(_, form)| !owners.contains_key(form));
        missing.map(|(key, _)| key.id.as_str()).collect()
    }

    /// Returns the pairs without an owner, each once and in the spelling that comes first.
    fn unowned(self, owners: &HashMap<IdentityKey, UserId>) -> (Vec<&'a IdentityKey>, Vec<&'a IdentityKey>) {
        let mut seen = HashSet::new();
        let pairs = self.keys.iter().zip(self.forms);
        pairs.filter(|(_, form)| !owners.contains_key(form) && seen.insert(*form)).unzip()
    }
}

fn resolution(forms: &[IdentityKey], owners: &HashMap<IdentityKey, UserId>) -> Resolution {
    Resolution { owners: forms.iter().map(|form| owners.get(form).copied()).collect(), ..Resolution::default() }
}

impl SqlConfigStore {
    /// Returns the owners of pairs from the index, if it is complete.
    fn known_owners(&self, asked: Asked<'_>) -> Option<HashMap<IdentityKey, UserId>> {
        if !self.index.is_complete() {
            return None;
        }
        let owner = |form: &IdentityKey| self.index.get(self.index.hash(Key::pair(form)));
        Some(asked.forms.iter().filter_map(|form| Some((form.clone(), owner(form)?))).collect())
    }

    /// Returns the owners of those client ids that have one.
    async fn client_ref_owners(&self, db: &impl ConnectionTrait, ids: &[&str]) -> Result<HashMap<String, UserId>> {
        if !self.index.is_complete() {
            return by_client_refs(db, ids).await;
        }
        let owner = |id: &str| self.index.get(self.index.hash(Key::ClientRef(id)));
        Ok(ids.iter().filter_map(|id| Some(((*id).to_owned(), owner(id)?))).collect())
    }

    /// Like [`IdentityStore::resolve`], but in the writer, which sees every user created before.
    /// Stores what it resolves.
    async fn resolve_and_keep(&self, asked: Asked<'_>, unknown: Unknown, now: Timestamp) -> Result<Resolution> {
        let mut tx = self.begin().await?;
        let mut owners = match self.known_owners(asked) {
            Some(owners) => owners,
            None => by_pair(&tx, asked.forms).await?,
        };
        let by_client_ref = self.client_ref_owners(&tx, &asked.missing(&owners)).await?;
        // Known users first: one of several spellings may be known.
        let mut pairs = Vec::new();
        for (key, form) in asked.keys.iter().zip(asked.forms) {
            if let (None, Some(owner)) = (owners.get(form), by_client_ref.get(&key.id)) {
                owners.insert(form.clone(), *owner);
                tx.owns(Key::pair(form), *owner);
                pairs.push((key.clone(), *owner));
            }
        }
        keep(&tx, &self.rules, &pairs, now).await?;
        let (mut created, mut entries) = (Vec::new(), 0..0);
        if unknown == Unknown::Create {
            let (unowned, forms) = asked.unowned(&owners);
            (created, entries) = first_contact::create(&tx, &self.rules, &unowned, now).await?;
            for (form, user) in forms.into_iter().zip(&created) {
                owners.insert(form.clone(), user.id);
                tx.owns(Key::pair(form), user.id);
            }
        }
        tx.commit().await?;
        Ok(Resolution { created, entries, ..resolution(asked.forms, &owners) })
    }
}

/// Fills in the first identity of users without a client id.
pub(super) async fn with_first_identities(db: &impl ConnectionTrait, mut found: Vec<User>) -> Result<Vec<User>> {
    let mut without_client_id: Vec<&mut User> = found.iter_mut().filter(|user| user.client_ref_id.is_none()).collect();
    for chunk in without_client_id.chunks_mut(BOUND_MAX) {
        let of = identity::Column::UserId.is_in(chunk.iter().map(|user| user.id.0));
        let query = identity::Entity::find().filter(of).order_by_asc(identity::Column::CreatedAt);
        let query = query.order_by_asc(identity::Column::IdType).order_by_asc(identity::Column::Id);
        let mut first: HashMap<i64, String> = HashMap::new();
        for row in query.all(db).await.map_err(unavailable)? {
            first.entry(row.user_id).or_insert(row.spelling.unwrap_or(row.id));
        }
        for user in chunk {
            user.first_identity = first.remove(&user.id.0);
        }
    }
    Ok(found)
}

/// Moves an absorbed user's identities to the survivor.
pub(super) async fn hand_over(tx: &impl ConnectionTrait, survivor: UserId, absorbed: UserId) -> Result<()> {
    let update = identity::Entity::update_many().filter(identity::Column::UserId.eq(absorbed.0));
    let update = update.col_expr(identity::Column::UserId, sea_orm::sea_query::Expr::value(survivor.0));
    update.exec(tx).await.map_err(unavailable)?;
    Ok(())
}
