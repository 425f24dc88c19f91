//! Where the sender of a frame is told what came of it.

use unibus_core::bus;
use unibus_core::domain::{Handle, RoomId};

/// Where `sender` is told what came of what it said in `room`.
pub(crate) fn subject(sender: &Handle, room: &RoomId) -> String {
    bus::kept_notices(sender.as_str(), room.as_str())
}

/// Every such subject, for those who hold what others append.
pub(crate) fn all_subjects() -> String {
    bus::kept_notices("*", "*")
}

/// Whether a notice comes on `subject`.
pub(crate) fn is_notice(subject: &str) -> bool {
    let [first, second, _, word, _] = *subject.split('.').collect::<Vec<_>>() else { return false };
    [first, second, word] == ["unibus", "user", "kept"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_known_by_its_subject() {
        let subject = subject(&"bob".parse().unwrap(), &"kitchen".parse().unwrap());
        assert_eq!(subject, "unibus.user.bob.kept.kitchen");
        assert!(is_notice(&subject));
        for other in ["unibus.user.bob.rights", "room.user.bob.kept.kitchen", "unibus.user.bob.kept.a.b"] {
            assert!(!is_notice(other), "{other}");
        }
        assert_eq!(all_subjects(), "unibus.user.*.kept.*");
    }
}
