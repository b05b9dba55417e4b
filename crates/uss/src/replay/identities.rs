//! Identities, the users they belong to, and the links between them.

use std::collections::HashMap;

use ports::identities::{CaselessTypes, Identity};
use segment_engine::ids::UserId;

/// A user has at most one identity of each of these types. Users with different ones are never
/// merged.
const EXCLUSIVE_TYPES: [&str; 1] = ["email"];

/// All identities seen so far.
#[derive(Default)]
pub(crate) struct Identities {
    caseless: CaselessTypes,
    /// Users by the form of an identity. Identities of an absorbed user belong to its survivor.
    owners: HashMap<Identity, UserId>,
    /// The user with id 1 is first.
    users: Vec<Known>,
}

struct Known {
    /// The client id first seen for the user.
    client_id: String,
    /// The forms of the user's identities.
    identities: Vec<Identity>,
    /// The user that absorbed this one.
    survivor: Option<UserId>,
}

/// The outcome of a link.
pub(crate) enum Linked {
    /// Both identities belong to one user already, or one of them was new. No user is absorbed.
    SameUser,
    Merged {
        absorbed: UserId,
        survivor: UserId,
    },
    /// Why the users stay apart.
    Refused(String),
}

impl Identities {
    /// Returns the user with this identity.
    pub(crate) fn get(&self, identity: &Identity) -> Option<UserId> {
        self.owners.get(&identity.form(&self.caseless)).copied()
    }

    /// Creates a user.
    pub(crate) fn create(&mut self, identity: Identity) -> UserId {
        let id = UserId(i64::try_from(self.users.len()).expect("fewer than 2⁶³ users") + 1);
        let form = identity.form(&self.caseless);
        self.owners.insert(form.clone(), id);
        self.users.push(Known { client_id: identity.id, identities: vec![form], survivor: None });
        id
    }

    /// Links two identities, unless that is refused. `to` must be a known user.
    pub(crate) fn link(&mut self, from: &Identity, to: UserId) -> Linked {
        let from_user = self.get(from);
        if from_user == Some(to) {
            return Linked::SameUser;
        }
        let forms = match from_user {
            Some(user) => self.known(user).identities.clone(),
            None => vec![from.form(&self.caseless)],
        };
        if let Some(reason) = conflict(&forms, &self.known(to).identities) {
            return Linked::Refused(reason);
        }
        for identity in &forms {
            self.owners.insert(identity.clone(), to);
        }
        self.known_mut(to).identities.extend(forms);
        match from_user {
            Some(absorbed) => {
                let known = self.known_mut(absorbed);
                known.survivor = Some(to);
                known.identities.clear();
                Linked::Merged { absorbed, survivor: to }
            }
            None => Linked::SameUser,
        }
    }

    /// Returns why `from` cannot be linked to an identity that no user has yet.
    pub(crate) fn conflict_with_new(&self, from: &Identity, to: &Identity) -> Option<String> {
        let (from_form, to) = (from.form(&self.caseless), to.form(&self.caseless));
        let forms = self.get(from).map(|user| &self.known(user).identities[..]);
        conflict(forms.unwrap_or(std::slice::from_ref(&from_form)), std::slice::from_ref(&to))
    }

    /// Returns the user into which this one was merged, if any, else the user itself.
    pub(crate) fn survivor(&self, mut user: UserId) -> UserId {
        while let Some(survivor) = self.known(user).survivor {
            user = survivor;
        }
        user
    }

    /// Returns the client id first seen for the user.
    pub(crate) fn client_id(&self, user: UserId) -> &str {
        &self.known(user).client_id
    }

    fn known(&self, user: UserId) -> &Known {
        &self.users[index(user)]
    }

    fn known_mut(&mut self, user: UserId) -> &mut Known {
        &mut self.users[index(user)]
    }
}

fn index(user: UserId) -> usize {
    usize::try_from(user.0 - 1).expect("user ids count from 1")
}

/// Returns why two sets of identities cannot be one user's: they have different ones of an
/// exclusive type.
fn conflict(left: &[Identity], right: &[Identity]) -> Option<String> {
    let exclusive = |identity: &&Identity| identity.id_type.as_deref().is_some_and(|ty| EXCLUSIVE_TYPES.contains(&ty));
    left.iter().filter(exclusive).find_map(|one| {
        let other = right.iter().find(|other| other.id_type == one.id_type && other.id != one.id)?;
        let id_type = one.id_type.as_deref().unwrap_or_default();
        Some(format!("a user has one {id_type} only, and these are two: {} and {}", one.id, other.id))
    })
}
