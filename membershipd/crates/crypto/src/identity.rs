//! The one secret of a person, from which both of their keys derive, and the words that bring it back.

use std::fmt;

use bip39::{Language, Mnemonic};
use nkeys::{KeyPair, KeyPairType};
use zeroize::Zeroizing;

use crate::Untrue;
use crate::recipient::HpkeSecret;
use crate::roster::derive;
use crate::words::{alike, place};

/// Bytes of the secret.
const SECRET: usize = 32;
/// Words of it: 256 bits and a checksum of eight.
pub const IDENTITY_WORDS: usize = 24;

/// The secret of a person: 32 random bytes. Both of their keys derive from it (HKDF-SHA256, no salt), so 24 words bring back all that
/// they can read.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentitySecret(Zeroizing<[u8; SECRET]>);

/// Why words are not those of a secret. No word is repeated in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadWords {
    /// There are more or fewer.
    #[error("there are {0} words, and an identity has {IDENTITY_WORDS}")]
    Count(usize),
    /// A word is not in the list.
    #[error("word {place} is not in the list{}", did_you_mean(.alike))]
    Unknown {
        /// Which one, from 1.
        place: usize,
        /// Words of the list that look like it.
        alike: Vec<&'static str>,
    },
    /// All words are in the list, and they are not those of one secret.
    #[error(
        "every word is in the list, but they do not belong together: one is not the word that was written down, or two are in each \
         other's place; compare them with the paper"
    )]
    Checksum,
}

fn did_you_mean(alike: &[&str]) -> String {
    match alike {
        [] => "; compare it with the paper".to_owned(),
        [one] => format!(": did you mean '{one}'?"),
        [most @ .., last] => format!(": did you mean '{}' or '{last}'?", most.join("', '")),
    }
}

impl IdentitySecret {
    /// The secret with these bytes.
    pub fn from_bytes(secret: [u8; SECRET]) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// A new one.
    pub fn random() -> Result<Self, Untrue> {
        let mut secret = Zeroizing::new([0; SECRET]);
        getrandom::fill(&mut *secret).map_err(|_| Untrue::Randomness)?;
        Ok(Self(secret))
    }

    /// Its bytes, for the file that keeps it.
    pub fn reveal(&self) -> Zeroizing<[u8; SECRET]> {
        self.0.clone()
    }

    /// The key pair that signs.
    pub fn key_pair(&self) -> Result<KeyPair, Untrue> {
        let seed = derive(&self.0, "unibus.identity.sign.1")?;
        KeyPair::new_from_raw(KeyPairType::User, *seed).map_err(|_| Untrue::Key)
    }

    /// The key that opens what is sealed.
    pub fn hpke_secret(&self) -> Result<HpkeSecret, Untrue> {
        derive(&self.0, "unibus.identity.hpke.1").map(|key| HpkeSecret::from_bytes(*key))
    }

    /// Its 24 words: those of BIP 39 for this entropy. There is no passphrase and no PBKDF2: the words are the secret.
    pub fn words(&self) -> [&'static str; IDENTITY_WORDS] {
        // Of 32 bytes BIP 39 always makes words.
        let mnemonic = Mnemonic::from_entropy_in(Language::English, &*self.0);
        let mut words = [""; IDENTITY_WORDS];
        words.iter_mut().zip(mnemonic.iter().flat_map(Mnemonic::words)).for_each(|(word, of)| *word = of);
        words
    }

    /// The secret with these words, as a person types them: on one line or several, in any case, with the numbers of the words or without.
    pub fn from_words(text: &str) -> Result<Self, BadWords> {
        let is_number =
            |token: &&str| token.trim_end_matches(['.', ')', ':']).bytes().all(|byte| byte.is_ascii_digit());
        let text = Zeroizing::new(text.to_lowercase());
        let typed: Vec<&str> = text.split_whitespace().filter(|token| !is_number(token)).collect();
        if typed.len() != IDENTITY_WORDS {
            return Err(BadWords::Count(typed.len()));
        }
        if let Some((index, word)) = typed.iter().enumerate().find(|(_, word)| place(word).is_none()) {
            return Err(BadWords::Unknown { place: index + 1, alike: alike(word) });
        }
        let joined = Zeroizing::new(typed.join(" "));
        let mnemonic = Mnemonic::parse_in_normalized(Language::English, &joined).map_err(|_| BadWords::Checksum)?;
        let (entropy, _) = mnemonic.to_entropy_array();
        let entropy = Zeroizing::new(entropy);
        let secret = entropy.first_chunk().copied().map(Self::from_bytes);
        secret.ok_or(BadWords::Checksum)
    }
}

impl fmt::Debug for IdentitySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The first and the last of the official examples with 256 bits (trezor/python-mnemonic, vectors.json).
    const ZERO: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
                        abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon art";
    const ONES: &str =
        "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo vote";

    #[test]
    fn words_bring_the_secret_back_and_are_those_of_bip_39() {
        for (secret, words) in [([0; 32], ZERO), ([0xff; 32], ONES)] {
            let secret = IdentitySecret::from_bytes(secret);
            assert_eq!(secret.words().join(" "), words);
            assert_eq!(IdentitySecret::from_words(words), Ok(secret));
        }
        let secret = IdentitySecret::random().unwrap();
        let numbered = secret.words().iter().zip(1..).map(|(word, at)| format!("{at:2}. {word}\n")).collect::<String>();
        assert_eq!(IdentitySecret::from_words(&numbered.to_uppercase()), Ok(secret));
    }

    #[test]
    fn what_was_mistyped_is_said_and_no_word_of_it_repeated() {
        let words = IdentitySecret::from_bytes([7; 32]).words();
        let with = |at: usize, word: &'static str| {
            let mut words = words;
            words[at - 1] = word;
            IdentitySecret::from_words(&words.join(" ")).unwrap_err()
        };
        assert_eq!(with(7, "abandn").to_string(), "word 7 is not in the list: did you mean 'abandon'?");
        assert_eq!(with(24, "xyxyxyxy").to_string(), "word 24 is not in the list; compare it with the paper");
        let three = with(1, "zan");
        assert!(matches!(&three, BadWords::Unknown { place: 1, alike } if alike.len() > 1), "{three}");
        assert!(three.to_string().contains("' or '"), "{three}");
        assert_eq!(IdentitySecret::from_words(&words[..23].join(" ")), Err(BadWords::Count(23)));
        assert_eq!(IdentitySecret::from_words(""), Err(BadWords::Count(0)));
        let (first, second) = (words[0], words[1]);
        let mut swapped = words;
        (swapped[0], swapped[1]) = (second, first);
        assert_ne!(first, second);
        assert_eq!(IdentitySecret::from_words(&swapped.join(" ")), Err(BadWords::Checksum));
        for error in [with(7, "abandn"), BadWords::Checksum, BadWords::Count(23)] {
            assert!(!words.iter().any(|word| error.to_string().split(' ').any(|said| said == *word && word.len() > 4)));
        }
        assert_eq!(format!("{:?}", IdentitySecret::from_bytes([7; 32])), "[secret]");
    }

    #[test]
    fn keys_derive_from_the_secret_and_from_nothing_else() {
        let secret = IdentitySecret::from_bytes([7; 32]);
        let keys = |secret: &IdentitySecret| {
            (secret.key_pair().unwrap().public_key(), secret.hpke_secret().unwrap().public().unwrap())
        };
        assert_eq!(keys(&secret), keys(&IdentitySecret::from_bytes([7; 32])));
        let other = keys(&IdentitySecret::from_bytes([8; 32]));
        assert!(keys(&secret).0 != other.0 && keys(&secret).1 != other.1);
        assert_ne!(
            *derive(&secret.0, "unibus.identity.sign.1").unwrap(),
            *derive(&secret.0, "unibus.identity.hpke.1").unwrap()
        );
    }
}
