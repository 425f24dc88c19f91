//! The cluster's secrets: made once, proved at every run, never overwritten.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use unibus_names::text::only_line;
use unibus_names::{CLUSTER_ID_DIGITS, CLUSTER_PASS_DIGITS, secret_files};

use crate::exit::BadInput;
use crate::fsx::{PRIVATE, PUBLIC};
use crate::making::Making;
use crate::paths::Paths;
use crate::random::{self, Random};
use crate::report::Outcome;
use crate::topology::Topology;

/// What one secret is, and so how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// So many random bytes in lower-case hex.
    Hex(usize),
    /// An nkey seed in the text encoding of NATS.
    Nkey(Prefix),
}

/// The types of nkeys in use, by their prefix byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// `SA…`, signs for an account.
    Account = 0,
    /// `SU…`, a user of the bus.
    User = 20 << 3,
    /// `SX…`, encrypts.
    Curve = 23 << 3,
}

/// One secret by its file name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Secret {
    pub file: &'static str,
    kind: Kind,
    mode: u32,
}

/// Names the cluster in a store's marker. No secret.
pub(crate) const CLUSTER_ID: Secret =
    Secret { file: "cluster.id", kind: Kind::Hex(CLUSTER_ID_DIGITS / 2), mode: PUBLIC };
/// The same on every node.
pub(crate) const SHARED: [Secret; 3] = [
    Secret { file: "cluster.pass", kind: Kind::Hex(CLUSTER_PASS_DIGITS / 2), mode: PRIVATE },
    Secret { file: secret_files::ISSUER, kind: Kind::Nkey(Prefix::Account), mode: PRIVATE },
    Secret { file: secret_files::XKEY, kind: Kind::Nkey(Prefix::Curve), mode: PRIVATE },
];
/// Each node's own.
pub(crate) const PER_NODE: [Secret; 4] = [
    Secret { file: secret_files::CALLOUT, kind: Kind::Nkey(Prefix::User), mode: PRIVATE },
    Secret { file: secret_files::CONTROL, kind: Kind::Nkey(Prefix::User), mode: PRIVATE },
    Secret { file: secret_files::SYSTEM, kind: Kind::Nkey(Prefix::User), mode: PRIVATE },
    Secret { file: secret_files::BUS, kind: Kind::Nkey(Prefix::User), mode: PRIVATE },
];

/// Makes what is missing and proves what is there.
pub fn make(making: &mut Making<'_>, topology: &Topology) -> Result<()> {
    let dir = making.paths.secrets(&topology.cluster.name);
    let mut files: Vec<(PathBuf, Secret)> = vec![(dir.join(CLUSTER_ID.file), CLUSTER_ID)];
    files.extend(SHARED.map(|secret| (dir.join(secret.file), secret)));
    for node in &topology.nodes {
        files.extend(PER_NODE.map(|secret| (dir.join(&node.name).join(secret.file), secret)));
    }
    let mut seen: BTreeMap<Vec<u8>, PathBuf> = BTreeMap::new();
    let (mut wrong, mut made) = (Vec::new(), Vec::new());
    let existing = dir.is_dir() && files.iter().any(|(file, _)| file.exists());
    for (file, secret) in files {
        let old = if secret.mode == PRIVATE { making.batch.read_private(&file) } else { making.batch.read(&file) };
        let text = match old {
            Ok(Some(text)) => {
                if let Err(why) = secret.kind.check(&text) {
                    wrong.push(format!("{}: {why}", Paths::shown(&file)));
                    continue;
                }
                making.report.push(&file, Outcome::Kept, secret.kind.to_string());
                text
            }
            Ok(None) => {
                let text = secret.kind.make(making.random)?.into_bytes();
                making.batch.put(&file, secret.mode, text.as_slice());
                making.report.push(&file, Outcome::Made, secret.kind.to_string());
                made.push(Paths::shown(&file));
                text
            }
            Err(error) => {
                wrong.push(format!("{error:#}"));
                continue;
            }
        };
        // The engine refuses an nkey that stands in two accounts.
        if let Some(first) = seen.insert(only_line(&text).to_vec(), file.clone()) {
            wrong.push(format!("{} is the same as {}", Paths::shown(&file), Paths::shown(&first)));
        }
    }
    if wrong.is_empty() {
        if existing && !made.is_empty() {
            making.report.notes.push(format!(
                "new beside older secrets: {}; if nodes run already with others, bring those back instead",
                made.join(", ")
            ));
        }
        return Ok(());
    }
    Err(BadInput::new(format!(
        "the secrets of {} cannot be used as they are; nothing was changed, and none is ever overwritten. Bring the \
         right ones back, or move a broken one away to have a new one made:\n  {}",
        topology.cluster.name,
        wrong.join("\n  ")
    )))
}

/// The cluster's id, if it has been made.
pub(crate) fn cluster_id(making: &Making<'_>, dir: &Path) -> Result<Option<String>> {
    let file = dir.join(CLUSTER_ID.file);
    let Some(text) = making.batch.read(&file)? else { return Ok(None) };
    CLUSTER_ID.kind.check(&text).map_err(|why| BadInput::new(format!("{}: {why}", Paths::shown(&file))))?;
    Ok(Some(String::from_utf8_lossy(only_line(&text)).into_owned()))
}

/// A secret as every reader understands it, also where it came back through an editor of another system.
pub(crate) fn tidy(text: &[u8]) -> Vec<u8> {
    [only_line(text), b"\n"].concat()
}

impl Kind {
    fn make(self, random: &dyn Random) -> Result<String> {
        let text = match self {
            Self::Hex(length) => {
                let mut bytes = vec![0; length];
                random.fill(&mut bytes)?;
                HEXLOWER.encode(&bytes)
            }
            Self::Nkey(prefix) => seed(prefix, &random::bytes(random)?),
        };
        Ok(text + "\n")
    }

    /// Why a text is not such a secret. What it is instead is never shown.
    fn check(self, text: &[u8]) -> Result<(), String> {
        // Anything else around it would be read differently by others.
        let line = only_line(text);
        match self {
            Self::Hex(length) => {
                let digits = length * 2;
                if line.len() != digits {
                    return Err(format!("it must be {digits} hex digits, and is {} characters long", line.len()));
                }
                HEXLOWER
                    .decode(line)
                    .map(|_| ())
                    .map_err(|error| format!("it must be lower-case hex, and character {} is not", error.position + 1))
            }
            Self::Nkey(prefix) => check_seed(prefix, line),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hex(length) => write!(f, "{} bit in hex", length * 8),
            Self::Nkey(prefix) => write!(f, "nkey, {}", prefix.name()),
        }
    }
}

impl Prefix {
    fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::User => "user",
            Self::Curve => "curve",
        }
    }

    /// How a seed of this type begins.
    fn start(self) -> &'static str {
        match self {
            Self::Account => "SA",
            Self::User => "SU",
            Self::Curve => "SX",
        }
    }

    /// The first two bytes: the prefix of seeds (18 << 3) and this type, in five bits each after the first three.
    fn lead(self) -> [u8; 2] {
        let kind = self as u8;
        [18 << 3 | kind >> 5, (kind & 31) << 3]
    }
}

const SEED: usize = 32;

fn seed(prefix: Prefix, random: &[u8; SEED]) -> String {
    let mut bytes = prefix.lead().to_vec();
    bytes.extend_from_slice(random);
    bytes.extend(crc16(&bytes).to_le_bytes());
    BASE32_NOPAD.encode(&bytes)
}

fn check_seed(prefix: Prefix, text: &[u8]) -> Result<(), String> {
    let (name, start) = (prefix.name(), prefix.start());
    let bytes = BASE32_NOPAD
        .decode(text)
        .map_err(|_| format!("it must be the seed of an nkey ({name}, {start}…): base32 without padding"))?;
    let Some((body, sum)) = bytes.split_last_chunk::<2>().filter(|(body, _)| body.len() == SEED + 2) else {
        return Err(format!("it must be the seed of an nkey ({name}, {start}…), and is not of its length"));
    };
    if u16::from_le_bytes(*sum) != crc16(body) {
        return Err("the nkey's checksum is wrong: it was damaged or mistyped".to_owned());
    }
    if !body.starts_with(&prefix.lead()) {
        let other = String::from_utf8_lossy(text.get(..2).unwrap_or_default()).into_owned();
        return Err(format!("it must be the seed of a {name} nkey ({start}…), and is one of another type ({other}…)"));
    }
    Ok(())
}

/// CRC-16/XMODEM, as nkeys use it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte) << 8, |sum, _| if sum & 0x8000 == 0 { sum << 1 } else { sum << 1 ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u8);

    impl Random for Fixed {
        fn fill(&self, bytes: &mut [u8]) -> Result<()> {
            bytes.fill(self.0);
            Ok(())
        }
    }

    #[test]
    fn the_checksum_is_xmodems() {
        // The check value of CRC-16/XMODEM.
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn seeds_begin_as_their_type_says() {
        for prefix in [Prefix::Account, Prefix::User, Prefix::Curve] {
            for fill in [0, 0x55, 0xff] {
                let text = Kind::Nkey(prefix).make(&Fixed(fill)).unwrap();
                assert!(text.starts_with(prefix.start()), "{prefix:?}");
                assert_eq!(text.len(), 59);
                Kind::Nkey(prefix).check(text.as_bytes()).unwrap();
            }
        }
    }

    #[test]
    fn a_seed_of_another_type_damaged_or_short_is_refused() {
        let user = Kind::Nkey(Prefix::User);
        let good = user.make(&Fixed(9)).unwrap();
        let account = Kind::Nkey(Prefix::Account).check(good.as_bytes()).unwrap_err();
        assert!(account.contains("another type (SU…)"), "{account}");
        let damaged = good.replacen("SU", "SV", 1);
        assert!(user.check(damaged.as_bytes()).unwrap_err().contains("checksum"));
        assert!(user.check(&good.as_bytes()[..40]).is_err());
        assert!(user.check(good.to_lowercase().as_bytes()).unwrap_err().contains("base32"));
        assert!(user.check(b"").unwrap_err().contains("length"));
        assert!(user.check(format!("{good}\n").as_bytes()).is_err());
    }

    #[test]
    fn hex_is_lower_case_and_whole() {
        let pass = Kind::Hex(32);
        let good = pass.make(&Fixed(0xab)).unwrap();
        assert_eq!(good.len(), 65);
        pass.check(good.as_bytes()).unwrap();
        for text in [good.trim_end().to_owned(), good.replace('\n', "\r\n"), format!("\u{feff}{good}")] {
            pass.check(text.as_bytes()).unwrap();
            assert_eq!(tidy(text.as_bytes()), good.as_bytes());
        }
        assert!(pass.check(&good.as_bytes()[..62]).unwrap_err().contains("62 characters"));
        assert!(pass.check(good.to_uppercase().as_bytes()).unwrap_err().contains("character 1"));
        assert!(pass.check(good.replacen('a', "x", 1).as_bytes()).is_err());
        assert!(pass.check(b"").is_err());
    }
}
