//! Seals with age, for recipients or with a passphrase, and opens again. What passes through is never on a disk in clear.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use age::{Decryptor, Encryptor, Identity, Recipient, scrypt, x25519};
use anyhow::{Context, Result, anyhow};
use unibus_ops::exit::BadInput;
use unibus_ops::fsx;
use unibus_ops::paths::Paths;
use zeroize::Zeroizing;

/// Characters of a passphrase, at least: what is sealed is the whole cluster.
const LEAST: usize = 16;
/// How a secret key of age begins.
const SECRET_KEY: &str = "AGE-SECRET-KEY-1";

/// For whom it is sealed.
pub(crate) enum For {
    /// The holders of these keys.
    Recipients(Vec<x25519::Recipient>),
    /// Those who know it.
    Passphrase(SecretString),
}

/// By what it is opened.
pub(crate) enum With {
    /// One of these keys.
    Keys(Vec<x25519::Identity>),
    /// The passphrase.
    Passphrase(SecretString),
}

/// A recipient as it is typed.
pub(crate) fn recipient(text: &str) -> Result<x25519::Recipient, String> {
    text.parse().map_err(|why| format!("{why}: give the public key of the other machine, age1…"))
}

/// The passphrase in the first line of a file that only its owner reads.
pub(crate) fn passphrase(file: &Path) -> Result<SecretString> {
    let text = private(file)?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.chars().count() < LEAST {
        return Err(BadInput::new(format!(
            "the first line of {} has fewer than {LEAST} characters, and it is to keep the whole cluster",
            Paths::shown(file)
        )));
    }
    Ok(SecretString::from(line.to_owned()))
}

/// The secret keys in a file, as age-keygen writes it.
pub(crate) fn keys(file: &Path) -> Result<Vec<x25519::Identity>> {
    let text = private(file)?;
    let keys = text.lines().map(str::trim).filter(|line| line.starts_with(SECRET_KEY));
    // What the line is instead is never shown.
    let keys: Option<Vec<x25519::Identity>> = keys.map(|line| line.parse().ok()).collect();
    keys.filter(|keys| !keys.is_empty()).ok_or_else(|| {
        BadInput::new(format!(
            "{} holds no secret key of age ({SECRET_KEY}…), as age-keygen makes it",
            Paths::shown(file)
        ))
    })
}

fn private(file: &Path) -> Result<Zeroizing<String>> {
    let missing = || BadInput::new(format!("there is no file {}", Paths::shown(file)));
    let bytes = Zeroizing::new(fsx::read_private(file)?.ok_or_else(missing)?);
    let text = std::str::from_utf8(&bytes).with_context(|| format!("{} is no text", Paths::shown(file)))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Seals what `write` writes.
pub(crate) fn seal(to: &File, whom: &For, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let encryptor = match whom {
        For::Passphrase(passphrase) => Encryptor::with_user_passphrase(passphrase.clone()),
        For::Recipients(all) => Encryptor::with_recipients(all.iter().map(|one| one as &dyn Recipient))
            .map_err(|error| anyhow!("sealing: {error}"))?,
    };
    let mut sealed = encryptor.wrap_output(to).context("sealing")?;
    write(&mut sealed)?;
    // Without its last piece it is not whole, and is refused.
    sealed.finish().context("sealing")?;
    Ok(())
}

/// Opens a sealed file; what is read is proved piece by piece, and its end by the last one.
pub(crate) fn open(file: &Path, with: &With) -> Result<Box<dyn Read>> {
    let shown = Paths::shown(file);
    let opened = File::open(file).with_context(|| format!("reading {shown}"))?;
    let decryptor = Decryptor::new(BufReader::new(opened));
    let decryptor =
        decryptor.map_err(|error| BadInput::new(format!("{shown} is no file that age has sealed: {error}")))?;
    let refused = |error: age::DecryptError| BadInput::new(format!("{shown} cannot be opened: {error}"));
    Ok(match with {
        With::Keys(keys) => {
            let keys = keys.iter().map(|key| key as &dyn Identity);
            Box::new(decryptor.decrypt(keys).map_err(refused)?)
        }
        With::Passphrase(passphrase) => {
            let identity = scrypt::Identity::new(passphrase.clone());
            Box::new(decryptor.decrypt(std::iter::once(&identity as &dyn Identity)).map_err(refused)?)
        }
    })
}

/// Flags that say by what a file is opened.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct WithArgs {
    /// Open it with the secret key in this file, as age-keygen makes it, mode 0600
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Open it with the passphrase in the first line of this file, mode 0600
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl WithArgs {
    /// Reads what was named.
    pub(crate) fn read(&self) -> Result<With> {
        match (&self.identity, &self.passphrase_file) {
            (Some(file), _) => keys(file).map(With::Keys),
            (None, Some(file)) => passphrase(file).map(With::Passphrase),
            (None, None) => Err(BadInput::new("name a key or a passphrase: --identity FILE or --passphrase-file FILE")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use age::secrecy::ExposeSecret;

    use super::*;

    fn private_file(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn what_is_sealed_is_opened_by_its_key_or_passphrase_and_by_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (own, other) = (x25519::Identity::generate(), x25519::Identity::generate());
        let words = private_file(dir.path(), "words", "correct horse battery staple\n");
        for whom in [For::Recipients(vec![own.to_public()]), For::Passphrase(passphrase(&words).unwrap())] {
            let file = dir.path().join("sealed");
            let to = File::create(&file).unwrap();
            seal(&to, &whom, |to| Ok(to.write_all(b"the keys")?)).unwrap();
            assert!(!fs::read(&file).unwrap().windows(8).any(|bytes| bytes == b"the keys"));
            let right = match &whom {
                For::Recipients(_) => {
                    let text = format!("# created: now\n{}\n", own.to_string().expose_secret());
                    With::Keys(keys(&private_file(dir.path(), "key", &text)).unwrap())
                }
                For::Passphrase(_) => With::Passphrase(passphrase(&words).unwrap()),
            };
            let mut read = String::new();
            open(&file, &right).unwrap().read_to_string(&mut read).unwrap();
            assert_eq!(read, "the keys");
            let wrong = [With::Keys(vec![other.clone()]), With::Passphrase(SecretString::from("x".repeat(20)))];
            assert!(wrong.iter().all(|wrong| open(&file, wrong).is_err()));
            let whole = fs::read(&file).unwrap();
            fs::write(&file, &whole[..whole.len() - 1]).unwrap();
            let cut = open(&file, &right).and_then(|mut from| Ok(from.read_to_string(&mut String::new())?));
            assert!(cut.is_err(), "what is cut off is refused");
        }
    }

    #[test]
    fn keys_and_passphrases_that_are_none_are_refused_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let short = private_file(dir.path(), "short", "letmein\n");
        assert!(passphrase(&short).unwrap_err().to_string().contains("fewer than 16"));
        let broken = private_file(dir.path(), "broken", &format!("{SECRET_KEY}XYZ\n"));
        let said = keys(&broken).err().unwrap().to_string();
        assert!(said.contains("no secret key") && !said.contains("XYZ"), "{said}");
        fs::set_permissions(&short, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(passphrase(&short).unwrap_err().to_string().contains("0644"));
        assert!(recipient("age1xyz").is_err());
    }
}
