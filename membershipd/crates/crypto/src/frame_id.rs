//! What the history keeper calls a frame: by all of its bytes, so no member can make another member's frame vanish.

use sha2::{Digest, Sha256};

use super::context::Context;
use super::encoded::encoded;
use unibus_core::domain::RoomId;

const LENGTH: usize = 16;

encoded! {
    /// Which frame it is, on which subject of which room. The id in its head is its sender's choice; this is not.
    FrameId[LENGTH], "frame id", HEXLOWER, "32 hexadecimal digits"
}

impl FrameId {
    /// The first 128 bits of the SHA-256 of `context("unibus.frame-id.1", room, subject, frame)`.
    pub fn of(room: &RoomId, subject: &str, frame: &[u8]) -> Self {
        let before = Context::new("unibus.frame-id.1").and(room.as_str()).and(subject);
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        // As `and(frame)` would, without a copy of it.
        let digest = Sha256::new().chain_update(before.bytes()).chain_update(length.to_be_bytes());
        let digest = digest.chain_update(frame).finalize();
        let mut id = [0; LENGTH];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self::from_bytes(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_of_all_parts_and_survives_its_text() {
        let (hall, other): (RoomId, RoomId) = ("hall".parse().unwrap(), "hal".parse().unwrap());
        let id = FrameId::of(&hall, "room.hall", b"frame");
        let whole = Context::new("unibus.frame-id.1").and("hall").and("room.hall").and("frame");
        assert_eq!(id.to_bytes()[..], Sha256::digest(whole.bytes())[..16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        for another in [
            FrameId::of(&other, "room.hall", b"frame"),
            FrameId::of(&other, "lroom.hall", b"frame"),
            FrameId::of(&hall, "room.hallf", b"rame"),
            FrameId::of(&hall, "room.hall", b"frames"),
        ] {
            assert_ne!(id, another);
        }
        // To the last byte of one as large as there can be.
        let mut large = vec![7; 1 << 20];
        let before = FrameId::of(&hall, "room.hall", &large);
        large[(1 << 20) - 1] = 8;
        assert_ne!(FrameId::of(&hall, "room.hall", &large), before);
    }
}
