//! Limits and forms of names that `membershipd` and `xtask` both check, so that they check the same, and how both show text of
//! others ([`printable`]), what both ask of a file that holds a secret ([`private`]), and what says nothing in a file that people bring
//! ([`text`]).
//!
//! A rule belongs here when both programs apply it: `xtask` to what it writes or is told, `membershipd` to what it is started with.
//! It depends on no crate, reads no file and knows no type of either program; it says whether a text has the form, and what
//! the form is. A rule that only one of them applies is in that one.

pub mod printable;
pub mod private;
pub mod text;

/// Longest name of a node or a cluster, in bytes.
///
/// A host name's label could have 63. Names also become file names, part of durable names in the engine and columns of tables.
pub const MAX_LABEL_BYTES: usize = 32;

/// The form of a node's or a cluster's name, for messages.
pub const LABEL_RULE: &str = "1 to 32 of a-z, 0-9 and '-', neither first nor last a '-'";

/// Whether this can name a node or a cluster: it is then a label of a host name, too (RFC 1123 section 2.1), and stands as such in
/// certificates.
pub fn is_label(name: &str) -> bool {
    (1..=MAX_LABEL_BYTES).contains(&name.len())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name.bytes().all(|byte| is_lower_alphanumeric(byte) || byte == b'-')
}

/// Longest name of a user, in bytes.
pub const MAX_HANDLE_BYTES: usize = 32;

/// The form of a user's name, for messages.
pub const HANDLE_RULE: &str = "1 to 32 characters of a-z, 0-9, '_' and '-', the first a letter or digit";

/// Whether this can name a user: it is then one token of a subject.
pub fn is_handle(name: &str) -> bool {
    name.len() <= MAX_HANDLE_BYTES
        && name.bytes().next().is_some_and(is_lower_alphanumeric)
        && name.bytes().all(|byte| is_lower_alphanumeric(byte) || matches!(byte, b'_' | b'-'))
}

/// Digits of a cluster's id.
pub const CLUSTER_ID_DIGITS: usize = 32;
/// Digits of a SHA-256.
pub const SHA256_DIGITS: usize = 64;
/// Digits of an Ed25519 public key.
pub const SIGN_PUB_DIGITS: usize = 64;
/// Digits of the password of the route layer.
pub const CLUSTER_PASS_DIGITS: usize = 64;

/// Whether this is so many hexadecimal digits in lower case, the one spelling that both programs write.
pub fn is_lower_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// How many copies of a bucket there may be: an even number survives no more losses than one less, and JetStream knows five at
/// most.
pub const REPLICAS: [usize; 3] = [1, 3, 5];

/// Fewest nodes of a cluster.
pub const MIN_CLUSTER_NODES: usize = 3;

/// Whether a cluster may have so many nodes: it survives the loss of one, and an even number survives no more losses than one less.
pub fn is_cluster_size(nodes: usize) -> bool {
    nodes >= MIN_CLUSTER_NODES && !nodes.is_multiple_of(2)
}

/// Files of a node's secrets directory; each holds the seed of an nkey.
pub mod secret_files {
    /// The account that signs what the engine is told about a connection.
    pub const ISSUER: &str = "issuer.nk";
    /// The curve key that decrypts what the engine asks.
    pub const XKEY: &str = "xkey.nk";
    /// The daemon's user in the account of the callout.
    pub const CALLOUT: &str = "callout.nk";
    /// The daemon's user in the account of the buckets.
    pub const CONTROL: &str = "control.nk";
    /// The daemon's user in the system account.
    pub const SYSTEM: &str = "system.nk";
    /// The daemon's user among the members.
    pub const BUS: &str = "bus.nk";
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_is_a_host_name_label_of_32_bytes_at_most() {
        for good in ["a", "0", "node-1", &"a".repeat(32)] {
            assert!(is_label(good), "{good}");
        }
        for bad in ["", "A", "a_b", "a.b", "-a", "a-", "é", "../b", &"a".repeat(33)] {
            assert!(!is_label(bad), "{bad}");
        }
        assert!(LABEL_RULE.contains(&format!("1 to {MAX_LABEL_BYTES} ")));
    }

    #[test]
    fn handle_is_one_token_of_a_subject() {
        for good in ["root", "0", "a_b-", &"a".repeat(32)] {
            assert!(is_handle(good), "{good}");
        }
        for bad in ["", "Root", "-x", "_x", "a b", "a.b", "a*", &"a".repeat(33)] {
            assert!(!is_handle(bad), "{bad}");
        }
        assert!(HANDLE_RULE.contains(&format!("1 to {MAX_HANDLE_BYTES} ")));
    }

    #[test]
    fn hexadecimal_digits_are_counted_and_in_lower_case() {
        assert!(is_lower_hex("00ff", 4) && is_lower_hex("", 0));
        assert!(!is_lower_hex("00fF", 4) && !is_lower_hex("00ff", 5) && !is_lower_hex("00fg", 4));
    }

    #[test]
    fn cluster_has_an_odd_number_of_nodes() {
        assert_eq!((0..8).filter(|&nodes| is_cluster_size(nodes)).collect::<Vec<_>>(), [3, 5, 7]);
    }
}
