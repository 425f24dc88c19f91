//! Attachments: sealed with a key of their own, which comes of the room's.
//!
//! ```text
//! version   1 byte   1
//! epoch     4 bytes  of the room's key, most significant first
//! salt     16 bytes  random
//! sealed             the attachment, the tag at its end
//! ```

use super::Untrue;
use super::context::Context;
use super::epoch::Epoch;
use super::room_key::{MessageKey, RoomKey, TAG};
use unibus_core::domain::RoomId;

const VERSION: u8 = 1;
const SALT: usize = 16;
const HEAD: usize = 1 + 4 + SALT;
/// Each key seals one attachment.
const NONCE: [u8; 12] = [0; 12];

/// Bytes that a seal adds to an attachment.
pub const OVERHEAD: usize = HEAD + TAG;

/// Seals an attachment with the room's key of `epoch`; `salt` is random and never used twice.
pub fn seal(room: &RoomId, epoch: Epoch, key: &RoomKey, salt: [u8; SALT], plain: Vec<u8>) -> Result<Vec<u8>, Untrue> {
    let mut sealed = vec![VERSION];
    sealed.extend_from_slice(&epoch.to_bytes());
    sealed.extend_from_slice(&salt);
    let mut plain = plain;
    derived(room, &sealed, key)?.seal(NONCE, &bound(room, &sealed), &mut plain)?;
    sealed.append(&mut plain);
    Ok(sealed)
}

/// The epoch whose key opens it; none: it is no sealed attachment.
pub fn epoch(sealed: &[u8]) -> Option<Epoch> {
    let (head, _) = sealed.split_first_chunk::<HEAD>()?;
    match head {
        [VERSION, a, b, c, d, ..] => Epoch::new(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

/// Opens an attachment of `room` with the room's key of its epoch.
pub fn open(room: &RoomId, key: &RoomKey, sealed: &[u8]) -> Result<Vec<u8>, Untrue> {
    let (head, body) = sealed.split_first_chunk::<HEAD>().ok_or(Untrue::Seal)?;
    epoch(sealed).ok_or(Untrue::Seal)?;
    derived(room, head, key)?.open(NONCE, &bound(room, head), body)
}

fn derived(room: &RoomId, head: &[u8], key: &RoomKey) -> Result<MessageKey, Untrue> {
    key.sealing_key(&Context::new("unibus.blob-key.1").and(room.as_str()).and(head))
}

fn bound(room: &RoomId, head: &[u8]) -> Context {
    Context::new("unibus.blob.1").and(room.as_str()).and(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_opens_in_its_room_with_its_key_and_whole() {
        let (room, other): (RoomId, RoomId) = ("kitchen".parse().unwrap(), "cellar".parse().unwrap());
        let key = RoomKey::from_bytes([4; 32]);
        let sealed = seal(&room, Epoch::FIRST, &key, [5; SALT], b"a picture".to_vec()).unwrap();
        assert_eq!((sealed.len(), epoch(&sealed)), (9 + OVERHEAD, Some(Epoch::FIRST)));
        assert_eq!(open(&room, &key, &sealed).unwrap(), b"a picture");
        assert_eq!(open(&other, &key, &sealed), Err(Untrue::Seal));
        assert_eq!(open(&room, &RoomKey::from_bytes([6; 32]), &sealed), Err(Untrue::Seal));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(open(&room, &key, &changed), Err(Untrue::Seal), "byte {at}");
            assert_eq!(open(&room, &key, &sealed[..at]), Err(Untrue::Seal));
        }
    }
}
