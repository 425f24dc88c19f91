//! Changes of users with their records in the audit log: what is to be done before it is done, and then what came of it.

use std::sync::Arc;

use crate::commands::audit::{AuditRecord, Decided, Journal, Stage};
use crate::domain::{Action, Author, Handle, InviteId, Role, State, User};
use crate::store::Revision;
use crate::users::{Outcome, UserError, Users, Wish};
use crate::view::user_key;

/// Who changes a user, and by which right.
#[derive(Debug, Clone)]
pub struct By {
    /// Who.
    pub author: Author,
    /// The role on the bus; none: root on a node.
    pub role: Option<Role>,
}

impl From<&User> for By {
    fn from(user: &User) -> Self {
        Self { author: Author::User(user.handle.clone()), role: Some(user.role) }
    }
}

/// Changes users through one node, each change with its records.
#[derive(Debug, Clone)]
pub struct RecordedUsers {
    users: Users,
    journal: Arc<Journal>,
    root: By,
}

/// A change of a user, as the audit calls it.
struct Change<'a> {
    by: &'a By,
    action: Action,
    handle: &'a Handle,
    with: Option<String>,
}

impl RecordedUsers {
    /// Has `users` make the changes and `journal` keep their records; `root` is who changes them over the control socket.
    pub fn new(users: Users, journal: Arc<Journal>, root: Author) -> Self {
        Self { users, journal, root: By { author: root, role: None } }
    }

    /// Root on this node.
    pub fn root(&self) -> &By {
        &self.root
    }

    /// Fails where nothing can be decided or written now.
    pub(crate) fn ready(&self) -> Result<(), UserError> {
        self.users.ready()
    }

    /// See [`Users::list`].
    pub fn list(&self) -> Result<Vec<User>, UserError> {
        self.users.list()
    }

    /// See [`Users::show`].
    pub fn show(&self, handle: &Handle) -> Result<User, UserError> {
        self.users.show(handle)
    }

    /// See [`Users::add`].
    pub async fn add(&self, by: &By, user: User) -> Result<Outcome, UserError> {
        let with = Some(format!("role={} key={}", word(user.role), user.sign_pub));
        let handle = &user.handle.clone();
        self.carry_out(&Change { by, action: Action::AddUser, handle, with }, self.users.add(user)).await
    }

    /// See [`Users::add`]; of an invite, for which who made it answers.
    pub async fn add_invited(&self, by: &By, user: User, invite: &InviteId) -> Result<Outcome, UserError> {
        let with = Some(format!("role={} key={} invite={invite}", word(user.role), user.sign_pub));
        let handle = &user.handle.clone();
        self.carry_out(&Change { by, action: Action::AddUser, handle, with }, self.users.add(user)).await
    }

    /// Makes a user who is removed from the first moment, so that neither handle nor key can ever be had: of an invite that is
    /// taken back while somebody may be registering with it.
    pub async fn shut_out(&self, by: &By, user: User, invite: &InviteId) -> Result<Outcome, UserError> {
        let with = Some(format!("key={} invite={invite}", user.sign_pub));
        let handle = &user.handle.clone();
        let removed = self.users.add(User { state: State::Removed, ..user });
        self.carry_out(&Change { by, action: Action::RemoveUser, handle, with }, removed).await
    }

    /// See [`Users::change`].
    pub async fn change(
        &self,
        by: &By,
        handle: &Handle,
        wish: Wish,
        only: Option<&[u64]>,
    ) -> Result<Outcome, UserError> {
        let action = if wish.state == Some(State::Removed) { Action::RemoveUser } else { Action::ChangeUser };
        let state = wish.state.filter(|state| *state != State::Removed).map(|state| match state {
            State::Active => "state=active".to_owned(),
            State::Disabled | State::Removed => "state=disabled".to_owned(),
        });
        let role = wish.role.map(|role| format!("role={}", word(role)));
        let last = wish.last_admin.then(|| "last-admin".to_owned());
        let with: Vec<_> = [state, role, last].into_iter().flatten().collect();
        let with = (!with.is_empty()).then(|| with.join(" "));
        self.carry_out(&Change { by, action, handle, with }, self.users.change(handle, wish, only)).await
    }

    async fn carry_out(
        &self,
        change: &Change<'_>,
        doing: impl Future<Output = Result<Outcome, UserError>>,
    ) -> Result<Outcome, UserError> {
        // Without a quorum nothing can be written anyway, and nobody should wait to hear that.
        self.users.ready()?;
        let record = |id, stage| {
            let record = self.journal.record(id, change.by.author.clone(), change.action.name(), stage);
            AuditRecord { user: Some(change.handle.clone()), with: change.with.clone(), ..record }
        };
        let ended = |outcome: &Result<Outcome, UserError>| match outcome {
            Ok(Outcome { user, revision, .. }) => {
                let stands = Revision::new(*revision).map(|revision| (user_key(&user.handle), revision));
                Stage::Done(stands.into_iter().collect())
            }
            Err(error @ (UserError::Missing(_) | UserError::Conflict(_))) => Stage::Refused(error.to_string()),
            Err(error) if error.is_unknown() => Stage::Unknown(error.to_string()),
            Err(error) => Stage::Failed(error.to_string()),
        };
        let decided = Decided { bus: change.by.role, room: None };
        // Whether the first record is there or not where it fails: nothing else has happened.
        self.journal.around(record, decided, doing, ended).await.map_err(UserError::Audit)?
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Admin => "admin",
        Role::User => "user",
    }
}
