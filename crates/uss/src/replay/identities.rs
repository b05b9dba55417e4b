//! Who is who: identities, the users they belong to, and the links between them.

use std::collections::HashMap;

use ports::identities::{CaselessTypes, Identity};
use segment_engine::event::UserId;

/// Of these types a person has one identity: users whose identities differ are two people.
const EXCLUSIVE_TYPES: [&str; 1] = ["email"];

/// The identities that were ever seen.
#[derive(Default)]
pub struct Identities {
    caseless: CaselessTypes,
    /// By their forms. Absorbed users' answer their survivors.
    owners: HashMap<Identity, UserId>,
    /// By user, whose ids count from 1.
    users: Vec<Known>,
}

struct Known {
    /// The client id first seen for the user.
    client_id: String,
    /// In their forms.
    identities: Vec<Identity>,
    /// Whom it was merged into.
    survivor: Option<UserId>,
}

/// What is to be done about a link.
pub enum Linked {
    /// Nothing: it was known, or only an identity was new.
    AsOne,
    /// The user is absorbed by the other.
    Merged(UserId, UserId),
    /// They stay two.
    Refused(String),
}

impl Identities {
    /// Whose identity it is, if anyone's.
    pub fn get(&self, identity: &Identity) -> Option<UserId> {
        self.owners.get(&identity.form(&self.caseless)).copied()
    }

    /// Makes a user.
    pub fn create(&mut self, identity: Identity) -> UserId {
        let id = UserId(i64::try_from(self.users.len()).expect("fewer than 2⁶³ users") + 1);
        let form = identity.form(&self.caseless);
        self.owners.insert(form.clone(), id);
        self.users.push(Known { client_id: identity.id, identities: vec![form], survivor: None });
        id
    }

    /// Decides about a link; `to` is known. What is not refused holds from now on.
    pub fn link(&mut self, from: &Identity, to: UserId) -> Linked {
        let from_user = self.get(from);
        if from_user == Some(to) {
            return Linked::AsOne;
        }
        let theirs = match from_user {
            Some(user) => self.known(user).identities.clone(),
            None => vec![from.form(&self.caseless)],
        };
        if let Some(reason) = conflict(&theirs, &self.known(to).identities) {
            return Linked::Refused(reason);
        }
        for identity in &theirs {
            self.owners.insert(identity.clone(), to);
        }
        self.known_mut(to).identities.extend(theirs);
        match from_user {
            Some(absorbed) => {
                let known = self.known_mut(absorbed);
                known.survivor = Some(to);
                known.identities.clear();
                Linked::Merged(absorbed, to)
            }
            None => Linked::AsOne,
        }
    }

    /// Why `from` could not be linked to an identity that nobody has yet.
    pub fn conflict_with_new(&self, from: &Identity, to: &Identity) -> Option<String> {
        let (from_form, to) = (from.form(&self.caseless), to.form(&self.caseless));
        let theirs = self.get(from).map(|user| &self.known(user).identities[..]);
        conflict(theirs.unwrap_or(std::slice::from_ref(&from_form)), std::slice::from_ref(&to))
    }

    /// Who the user is now.
    pub fn survivor(&self, mut user: UserId) -> UserId {
        while let Some(survivor) = self.known(user).survivor {
            user = survivor;
        }
        user
    }

    /// The client id first seen for the user.
    pub fn client_id(&self, user: UserId) -> &str {
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

/// Two different identities of one exclusive type.
fn conflict(left: &[Identity], right: &[Identity]) -> Option<String> {
    let exclusive = |identity: &&Identity| identity.id_type.as_deref().is_some_and(|ty| EXCLUSIVE_TYPES.contains(&ty));
    left.iter().filter(exclusive).find_map(|one| {
        let other = right.iter().find(|other| other.id_type == one.id_type && other.id != one.id)?;
        let id_type = one.id_type.as_deref().unwrap_or_default();
        Some(format!("a user has one {id_type} only, and these are two: {} and {}", one.id, other.id))
    })
}
