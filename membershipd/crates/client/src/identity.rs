//! The identity file of a person or bot: the seeds with which it signs and decrypts.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nkeys::{KeyPair, KeyPairType};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use unibus_core::domain::{Handle, SignPub};
use unibus_core::private_file;
use unibus_crypto::{HpkeSecret, Recipient};

const VERSION: u32 = 1;

/// An identity: who it is and what proves it.
#[derive(Debug)]
pub struct Identity {
    /// Handle under which the user is known.
    pub handle: Handle,
    /// Public half of the signing key.
    pub sign_pub: SignPub,
    sign: SecretString,
    hpke: SecretString,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    handle: Handle,
    /// Ed25519 seed as an nkey (`SU…`), which NATS clients take as it is.
    sign: SecretString,
    /// X25519 secret key, 64 hex digits.
    hpke: SecretString,
}

/// The same as it is written.
#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    handle: &'a Handle,
    sign: &'a str,
    hpke: &'a str,
}

impl Identity {
    /// A new identity from 64 bytes of randomness.
    pub fn from_entropy(handle: Handle, entropy: [u8; 64]) -> Result<Self> {
        let (sign, hpke) = entropy.split_at(32);
        let pair = KeyPair::new_from_raw(KeyPairType::User, sign.try_into()?)?;
        let (sign, hpke) = (pair.seed()?.into(), data_encoding::HEXLOWER.encode(hpke).into());
        Self::from_document(Document { version: VERSION, handle, sign, hpke })
    }

    /// Reads an identity file; refuses one that others can read.
    pub fn load(path: &Path) -> Result<Self> {
        let text = private_file::read(path)?;
        // The parser's own error would quote the line, and with it a seed.
        let document = toml::from_str(text.expose_secret()).ok().with_context(|| {
            format!("{}: not an identity file: it has version, handle, sign and hpke, and nothing else", path.display())
        })?;
        Self::from_document(document).with_context(|| format!("in the identity file {}", path.display()))
    }

    /// Writes the identity to a new file, mode 0600; never over an existing one.
    pub fn create(&self, path: &Path) -> Result<()> {
        if path.exists() {
            bail!(
                "{} exists: an identity is never overwritten; choose another --out or move the file away",
                path.display()
            );
        }
        let (sign, hpke) = (self.sign.expose_secret(), self.hpke.expose_secret());
        let document = Written { version: VERSION, handle: &self.handle, sign, hpke };
        private_file::create(path, Zeroizing::new(toml::to_string(&document)?).as_bytes())?;
        // One that would be refused the next time is not made, as in a directory in which others can write.
        private_file::open(path).inspect_err(|_| drop(std::fs::remove_file(path)))?;
        Ok(())
    }

    /// The signing seed in the form that NATS clients read (`SU…`).
    pub fn nkey_seed(&self) -> &str {
        self.sign.expose_secret()
    }

    /// The pair of keys with which it signs.
    pub fn key_pair(&self) -> Result<KeyPair> {
        KeyPair::from_seed(self.nkey_seed()).context("the signing key of the identity is not one")
    }

    /// The key with which it opens what is sealed for it.
    pub fn hpke_secret(&self) -> Result<HpkeSecret> {
        let key = data_encoding::HEXLOWER.decode(self.hpke.expose_secret().as_bytes()).unwrap_or_default();
        let key = key.try_into().ok().context("hpke is not 64 hexadecimal digits")?;
        Ok(HpkeSecret::from_bytes(key))
    }

    /// How others know it, to seal for it.
    pub fn recipient(&self) -> Result<Recipient> {
        let hpke_pub = self.hpke_secret()?.public()?;
        Ok(Recipient { handle: self.handle.clone(), sign_pub: self.sign_pub, hpke_pub })
    }

    fn from_document(document: Document) -> Result<Self> {
        ensure!(document.version == VERSION, "version {} is not {VERSION}", document.version);
        let pair = KeyPair::from_seed(document.sign.expose_secret())
            .ok()
            .filter(|pair| pair.key_pair_type() == KeyPairType::User);
        let pair = pair.context("sign is not the seed of a user nkey (SU…)")?;
        let hpke = data_encoding::HEXLOWER.decode(document.hpke.expose_secret().as_bytes()).unwrap_or_default();
        ensure!(hpke.len() == 32, "hpke is not 64 hexadecimal digits");
        Ok(Self {
            handle: document.handle,
            sign_pub: SignPub::from_nkey(&pair.public_key())?,
            sign: document.sign,
            hpke: document.hpke,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_file_and_is_never_overwritten() {
        let dir = std::env::temp_dir().join(format!("unibus-identity-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("root.toml");
        let made = Identity::from_entropy("root".parse().unwrap(), [7; 64]).unwrap();
        made.create(&path).unwrap();
        assert_eq!(Identity::load(&path).unwrap().sign_pub, made.sign_pub);
        assert!(made.create(&path).is_err());
        // As an editor of another system leaves it.
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
        assert_eq!(Identity::load(&path).unwrap().sign_pub, made.sign_pub);
        std::fs::write(&path, "version = 1\nhandle = \"root\"\nsign = \"SUSECRET\"\nhpke = \"\"\n").unwrap();
        let error = format!("{:#}", Identity::load(&path).unwrap_err());
        assert!(error.contains("nkey") && !error.contains("SUSECRET"), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
