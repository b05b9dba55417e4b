//! Identities in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use segment_engine::ids::UserId;

use ports::clock::Clock;
use ports::identities::{CaselessTypes, Created, Hold, Identities, Identity, IdentityError, Profile, Resolved};
use ports::records::{UserRecord, instant};

/// Users and their identities in memory.
pub struct MemoryIdentities {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    caseless: CaselessTypes,
    /// By the identity in its compared form.
    pairs: HashMap<Identity, UserId>,
    client_refs: HashMap<String, UserId>,
    last_id: i64,
    /// Counts the calls, for tests of caches.
    calls: u64,
    down: bool,
    on_release: Option<OnRelease>,
}

type OnRelease = Arc<dyn Fn() + Send + Sync>;

/// Calls the function when it is dropped.
struct Guard(Option<OnRelease>);

impl Hold for Guard {
    fn appended(self: Box<Self>) {}
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(call) = &self.0 {
            call();
        }
    }
}

impl State {
    fn find(&mut self, identity: &Identity) -> Option<UserId> {
        let form = identity.form(&self.caseless);
        if let Some(user_id) = self.pairs.get(&form) {
            return Some(*user_id);
        }
        let user_id = *self.client_refs.get(&identity.id)?;
        self.pairs.insert(form, user_id);
        Some(user_id)
    }

    fn next_id(&mut self) -> UserId {
        self.last_id += 1;
        UserId(self.last_id)
    }
}

impl MemoryIdentities {
    /// Without users.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// Creates a user as `POST /users` does.
    pub fn add_user(&self, client_ref_id: &str) -> UserId {
        let mut state = self.state();
        let user_id = state.next_id();
        state.client_refs.insert(client_ref_id.to_owned(), user_id);
        user_id
    }

    /// Deletes a user and frees their identities.
    pub fn delete_user(&self, user_id: UserId) {
        let mut state = self.state();
        state.pairs.retain(|_, owner| *owner != user_id);
        state.client_refs.retain(|_, owner| *owner != user_id);
    }

    /// Makes all later calls fail, or succeed again.
    pub fn set_down(&self, down: bool) {
        self.state().down = down;
    }

    /// Sets a function to call when a caller drops the hold on new users.
    pub fn on_release(&self, call: impl Fn() + Send + Sync + 'static) {
        self.state().on_release = Some(Arc::new(call));
    }

    /// Returns the number of calls so far.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self) -> Result<MutexGuard<'_, State>, IdentityError> {
        let mut state = self.state();
        state.calls += 1;
        if state.down { Err(IdentityError::Unavailable("set to fail by the test".to_owned())) } else { Ok(state) }
    }
}

#[async_trait]
impl Identities for MemoryIdentities {
    async fn ping(&self) -> Result<(), IdentityError> {
        Ok(())
    }

    fn known(&self, id_type: Option<&str>, id: &str) -> Option<UserId> {
        let state = self.state();
        let identity = Identity { id_type: id_type.map(str::to_owned), id: id.to_owned() };
        state.pairs.get(&identity.form(&state.caseless)).copied()
    }

    async fn resolve(&self, identities: &[Identity]) -> Result<Vec<Option<UserId>>, IdentityError> {
        let mut state = self.call()?;
        Ok(identities.iter().map(|identity| state.find(identity)).collect())
    }

    async fn create(&self, identities: &[Identity]) -> Result<Created, IdentityError> {
        let now = self.clock.now();
        let mut state = self.call()?;
        let resolve = |identity: &Identity| match state.find(identity) {
            Some(user_id) => Resolved { user_id, new: None },
            None => {
                let user_id = state.next_id();
                let form = identity.form(&state.caseless);
                state.pairs.insert(form, user_id);
                let new = UserRecord::User { user_id, client_ref_id: None, email: None, name: None, created_at: now };
                Resolved { user_id, new: Some(new) }
            }
        };
        let users = identities.iter().map(resolve).collect();
        Ok(Created { users, hold: Box::new(Guard(state.on_release.clone())) })
    }

    async fn profile(&self, client_ref_id: &str) -> Result<Option<Profile>, IdentityError> {
        let now = instant::format(self.clock.now());
        let state = self.call()?;
        Ok(state.client_refs.get(client_ref_id).map(|id| Profile {
            id: *id,
            client_ref_id: Some(client_ref_id.to_owned()),
            name: None,
            email: None,
            created_at: now.clone(),
            updated_at: now,
            segments: Vec::new(),
        }))
    }
}
