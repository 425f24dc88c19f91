//! What can be done, and how the audit and programs call it.

use super::member::RoomRole;

/// What somebody wants to do. Each action is on one kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// On the bus: open a connection.
    Connect,
    /// On the bus: see handles and public keys.
    ReadDirectory,
    /// On the bus: see all records of users.
    ListUsers,
    /// On the bus: make a user.
    AddUser,
    /// On the bus: make an invite, with which somebody makes himself a user.
    InviteUser,
    /// On the bus: see the invites.
    ListInvites,
    /// On the bus: take an invite back.
    RevokeInvite,
    /// On the bus: see those rooms of which `ReadRoom` is allowed.
    ListRooms,
    /// On the bus: make a room.
    CreateRoom,
    /// On the bus: see who did what.
    ReadAudit,
    /// On the bus: see what the nodes are and whether they are well.
    ReadStatus,
    /// On the bus: see who is connected, from where.
    ListConnections,
    /// On the bus: end a connection, which its client may make again.
    CloseConnection,
    /// On a user: see the record.
    ReadUser,
    /// On a user: enable, disable, or change the role on the bus.
    ChangeUser,
    /// On a user: remove for good.
    RemoveUser,
    /// On oneself: say which HPKE key is one's own.
    PublishKey,
    /// On a room: see the record.
    ReadRoom,
    /// On a room: change policy or subject.
    ChangeRoom,
    /// On a room: remove for good.
    RemoveRoom,
    /// On a room: see who is in it, invited, or banned.
    ListMembers,
    /// On a room: read kept messages.
    ReadHistory,
    /// On a room: fetch the keys sealed for oneself.
    ReadRoomKeys,
    /// On a room: begin a new epoch of keys.
    RotateRoomKeys,
    /// On a room: see which attachments it has.
    ListBlobs,
    /// On a room: fetch an attachment.
    ReadBlob,
    /// On a room: add an attachment.
    WriteBlob,
    /// On a room: remove an attachment that one has added.
    RemoveOwnBlob,
    /// On a room: remove an attachment, whoever added it.
    RemoveBlob,
    /// On a room: be told who comes and goes.
    ReceiveEvents,
    /// On a member: see the record.
    ReadMember,
    /// On a member to be: invite with a role.
    InviteMember(RoomRole),
    /// On oneself: accept the invitation.
    AcceptInvitation,
    /// On oneself: leave the room, or decline the invitation.
    LeaveRoom,
    /// On a member: remove, or take the invitation back.
    RemoveMember,
    /// On anybody: remove, and forbid to be invited.
    BanMember,
    /// On who is banned: lift the ban.
    UnbanMember,
    /// On a member: give another role.
    SetMemberRole(RoomRole),
    /// On a subject: publish. The engine is told this one.
    Publish,
    /// On a subject: publish in clear. Clients hold to it, and learn of a change as their connections are cut.
    PublishClear,
    /// On a subject: publish unsigned. Clients hold to it, like `PublishClear`.
    PublishUnsigned,
    /// On a subject: subscribe. The engine is told this one.
    Subscribe,
    /// On a subject: answer requests. The engine is told this one.
    Reply,
}

impl Action {
    /// All of them, those with a role once for each.
    pub const ALL: [Action; 49] = [
        Action::Connect,
        Action::ReadDirectory,
        Action::ListUsers,
        Action::AddUser,
        Action::InviteUser,
        Action::ListInvites,
        Action::RevokeInvite,
        Action::ListRooms,
        Action::CreateRoom,
        Action::ReadAudit,
        Action::ReadStatus,
        Action::ListConnections,
        Action::CloseConnection,
        Action::ReadUser,
        Action::ChangeUser,
        Action::RemoveUser,
        Action::PublishKey,
        Action::ReadRoom,
        Action::ChangeRoom,
        Action::RemoveRoom,
        Action::ListMembers,
        Action::ReadHistory,
        Action::ReadRoomKeys,
        Action::RotateRoomKeys,
        Action::ListBlobs,
        Action::ReadBlob,
        Action::WriteBlob,
        Action::RemoveOwnBlob,
        Action::RemoveBlob,
        Action::ReceiveEvents,
        Action::ReadMember,
        Action::InviteMember(RoomRole::Owner),
        Action::InviteMember(RoomRole::Moderator),
        Action::InviteMember(RoomRole::Member),
        Action::InviteMember(RoomRole::Reader),
        Action::AcceptInvitation,
        Action::LeaveRoom,
        Action::RemoveMember,
        Action::BanMember,
        Action::UnbanMember,
        Action::SetMemberRole(RoomRole::Owner),
        Action::SetMemberRole(RoomRole::Moderator),
        Action::SetMemberRole(RoomRole::Member),
        Action::SetMemberRole(RoomRole::Reader),
        Action::Publish,
        Action::PublishClear,
        Action::PublishUnsigned,
        Action::Subscribe,
        Action::Reply,
    ];

    /// A word for the audit and for programs: what it is on, and what is done.
    pub fn name(self) -> &'static str {
        match self {
            Action::Connect => "bus.connect",
            Action::ReadDirectory => "directory.read",
            Action::ListUsers => "user.list",
            Action::AddUser => "user.add",
            Action::InviteUser => "user.invite",
            Action::ListInvites => "invite.list",
            Action::RevokeInvite => "invite.revoke",
            Action::ListRooms => "room.list",
            Action::CreateRoom => "room.create",
            Action::ReadAudit => "audit.read",
            Action::ReadStatus => "status.read",
            Action::ListConnections => "connection.list",
            Action::CloseConnection => "connection.close",
            Action::ReadUser => "user.read",
            Action::ChangeUser => "user.change",
            Action::RemoveUser => "user.remove",
            Action::PublishKey => "key.publish",
            Action::ReadRoom => "room.read",
            Action::ChangeRoom => "room.change",
            Action::RemoveRoom => "room.remove",
            Action::ListMembers => "member.list",
            Action::ReadHistory => "history.read",
            Action::ReadRoomKeys => "key.read",
            Action::RotateRoomKeys => "key.rotate",
            Action::ListBlobs => "blob.list",
            Action::ReadBlob => "blob.read",
            Action::WriteBlob => "blob.write",
            Action::RemoveOwnBlob => "blob.remove-own",
            Action::RemoveBlob => "blob.remove",
            Action::ReceiveEvents => "event.receive",
            Action::ReadMember => "member.read",
            Action::InviteMember(_) => "member.invite",
            Action::AcceptInvitation => "member.accept",
            Action::LeaveRoom => "member.leave",
            Action::RemoveMember => "member.remove",
            Action::BanMember => "member.ban",
            Action::UnbanMember => "member.unban",
            Action::SetMemberRole(_) => "member.set-role",
            Action::Publish => "subject.publish",
            Action::PublishClear => "subject.publish-clear",
            Action::PublishUnsigned => "subject.publish-unsigned",
            Action::Subscribe => "subject.subscribe",
            Action::Reply => "subject.reply",
        }
    }
}
