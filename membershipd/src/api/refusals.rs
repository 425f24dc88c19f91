//! What is said where a command was not carried out, or is not known to be.

use super::problem::Refuse as _;
use super::problem::{self, Problem};
use crate::commands::CommandError;
use unibus_api_types::problem::Kind;
use unibus_core::domain::{ClaimError, Denial, Refusal};

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let kind = match &refusal {
            Refusal::Denied(denial) => return (*denial).into(),
            // The same as for whoever asks for anything else in it.
            Refusal::RoomRemoved(_) => {
                let detail = Some(format!("{refusal}; {}", refusal.remedy()).into());
                return Self { detail, ..Denial::RoomRemoved.into() };
            }
            Refusal::Claim(ClaimError::Overlap { subject, claimed, .. }) if subject == claimed => Kind::SUBJECT_TAKEN,
            Refusal::Claim(ClaimError::Overlap { .. }) => Kind::SUBJECT_NESTED,
            Refusal::Claim(ClaimError::Full(_)) => Kind::SPACE_FULL,
            Refusal::Claim(ClaimError::OtherSpace(..)) => Kind::BAD_SUBJECT,
            Refusal::Claim(ClaimError::Frozen) => {
                return Kind::UNAVAILABLE.because(format!("{refusal}; {}", refusal.remedy())).soon();
            }
            Refusal::RoomExists(_) => Kind::ROOM_EXISTS,
            Refusal::MustEncrypt => Kind::ROOM_IN_CLEAR,
            Refusal::PersistUnsigned => Kind::PERSIST_UNSIGNED,
            Refusal::KeepNotYet => Kind::NEEDS_LEVEL,
            Refusal::KeepOutOfBounds(_) => Kind::KEEP_BOUNDS,
            Refusal::NoSuchUser(_) => Kind::NO_SUCH_USER,
            Refusal::UserInactive(_) => Kind::USER_INACTIVE,
            Refusal::Banned(_) => Kind::USER_BANNED,
            Refusal::NotBanned(_) => Kind::NOT_BANNED,
            Refusal::NotPresent(_) => Kind::NOT_PRESENT,
            Refusal::AlreadyJoined(_) => Kind::ALREADY_JOINED,
            Refusal::LastOwner(_) => Kind::LAST_OWNER,
            Refusal::TooManyRooms(_) => Kind::TOO_MANY_ROOMS,
            Refusal::TooManyMembers(_) => Kind::TOO_MANY_MEMBERS,
            Refusal::Quota(..) => Kind::QUOTA,
            Refusal::NoMoreRooms => Kind::NO_MORE_ROOMS,
            Refusal::TooManyPersisted => Kind::TOO_MANY_PERSISTED,
        };
        kind.because(format!("{refusal}; {}", refusal.remedy()))
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let said = format!("{error}; {}", error.remedy());
        let cause = Some(error.to_string().into());
        match error {
            CommandError::Refused(refusal) => refusal.into(),
            CommandError::Precondition { .. } => Kind::PRECONDITION_FAILED.because(said),
            CommandError::Overtaken(_) => Kind::OVERTAKEN.because(said),
            CommandError::NotProven(_) => problem::no_lease(),
            CommandError::Contended(_) => Kind::CONTENDED.because(said).soon(),
            // Why is for the log.
            CommandError::Unknown { .. } => Self { cause, store: true, ..problem::unknown_outcome() },
            CommandError::Unavailable(error) | CommandError::Audit(error) | CommandError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::NotProven;
    use unibus_store::{Operation, StoreError};

    #[test]
    fn each_refusal_has_a_type_of_its_own() {
        let (bob, room) = (|| "bob".parse().unwrap(), || "kitchen".parse().unwrap());
        let subject = |text: &str| text.parse().unwrap();
        let overlap = |claimed: &str| {
            Refusal::Claim(ClaimError::Overlap { subject: subject("rpc.a"), claimed: subject(claimed), holder: room() })
        };
        let refusals = [
            Refusal::Denied(Denial::NotMember),
            overlap("rpc.a"),
            overlap("rpc.a.b"),
            Refusal::Claim(ClaimError::Full(unibus_core::domain::Space::Rpc.into())),
            Refusal::RoomExists(room()),
            Refusal::RoomRemoved(room()),
            Refusal::MustEncrypt,
            Refusal::PersistUnsigned,
            Refusal::KeepNotYet,
            Refusal::KeepOutOfBounds(unibus_core::domain::Keeping::DEFAULT),
            Refusal::NoSuchUser(bob()),
            Refusal::UserInactive(bob()),
            Refusal::Banned(bob()),
            Refusal::NotBanned(bob()),
            Refusal::NotPresent(bob()),
            Refusal::AlreadyJoined(bob()),
            Refusal::LastOwner(bob()),
            Refusal::TooManyRooms(bob()),
            Refusal::TooManyMembers(room()),
            Refusal::NoMoreRooms,
            Refusal::Quota("bob".parse().unwrap(), unibus_core::domain::Exhausted::Persisting(200)),
            Refusal::TooManyPersisted,
        ];
        let slugs: std::collections::BTreeSet<_> =
            refusals.iter().map(|refusal| Problem::from(refusal.clone()).kind.slug).collect();
        assert_eq!(slugs.len(), refusals.len(), "{slugs:?}");
        assert!(!Problem::from(overlap("rpc.a.b")).detail.unwrap().contains("kitchen"), "whose it is, is not said");
    }

    #[test]
    fn what_may_have_been_done_is_unknown_and_what_was_not_says_so() {
        let operation = || Operation::on("update", unibus_core::bus::Bucket::Rooms);
        let kind = |error: CommandError| Problem::from(error).kind;
        assert_eq!(kind(CommandError::Unknown { why: String::new() }), Kind::UNKNOWN_OUTCOME);
        assert_eq!(kind(NotProven { why: String::new() }.into()), Kind::UNAVAILABLE);
        let unavailable = StoreError::Unavailable { operation: operation(), why: "no leader".to_owned() };
        assert_eq!(kind(CommandError::Unavailable(unavailable)), Kind::UNAVAILABLE);
        // The audit's first record may be there, and nothing else is.
        let unknown = StoreError::Unknown { operation: operation(), why: "no answer".to_owned() };
        assert_eq!(kind(CommandError::Unavailable(unknown)), Kind::UNKNOWN_OUTCOME);
    }
}
