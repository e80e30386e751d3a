//! Ed25519 (RFC 8032), and the two key files: one line of text each.

use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use std::fmt;

const SECRET_PREFIX: &str = "drover-signing-key-1 ";
const PUBLIC_PREFIX: &str = "drover-public-key-1 ";

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It does not begin with the prefix of a key file.
    #[error("this is no Drover key: it must begin with {expected:?}")]
    Prefix {
        /// The prefix.
        expected: &'static str,
    },
    /// The part behind the prefix is not 64 hexadecimal digits.
    #[error("this Drover key is damaged: 64 hexadecimal digits must follow the prefix")]
    Digits,
    /// The machine gave no random numbers.
    #[error("the machine gave no random numbers")]
    Random,
}

/// The site's secret key.
pub struct SigningKey {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

/// The key that clients trust.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

fn parse_hex(text: &str, prefix: &'static str) -> Result<[u8; 32], KeyError> {
    let digits = text.trim().strip_prefix(prefix).ok_or(KeyError::Prefix { expected: prefix })?;
    crate::ids::BlobHash::from_hex(digits.trim()).map(|h| h.0).ok_or(KeyError::Digits)
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate() -> Result<Self, KeyError> {
        let seed: [u8; 32] =
            ring::rand::generate(&SystemRandom::new()).map_err(|_| KeyError::Random)?.expose();
        Self::from_seed(seed)
    }

    fn from_seed(seed: [u8; 32]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| KeyError::Digits)?;
        Ok(Self { seed, pair })
    }

    /// Reads the text of a secret key file.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        Self::from_seed(parse_hex(text, SECRET_PREFIX)?)
    }

    /// The text of a secret key file.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{SECRET_PREFIX}{}\n", crate::ids::BlobHash(self.seed))
    }

    /// The key that verifies its signatures.
    ///
    /// # Panics
    /// Never: an Ed25519 public key has 32 bytes.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.pair.public_key().as_ref().try_into().expect("Ed25519 keys have 32 bytes"))
    }

    /// Signs a message.
    ///
    /// # Panics
    /// Never: an Ed25519 signature has 64 bytes.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.pair.sign(message).as_ref().try_into().expect("Ed25519 signatures have 64 bytes")
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}

impl PublicKey {
    /// Reads the text of a public key file.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        parse_hex(text, PUBLIC_PREFIX).map(Self)
    }

    /// Whether this key made that signature over that message.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }

    /// Its first eight bytes: enough to tell keys apart.
    #[must_use]
    pub fn id(&self) -> [u8; 8] {
        let mut id = [0; 8];
        id.copy_from_slice(&self.0[..8]);
        id
    }
}

impl fmt::Display for PublicKey {
    /// The text of a public key file, without the end of line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_PREFIX}{}", crate::ids::BlobHash(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_files() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::parse(&key.to_text()).unwrap();
        let public = PublicKey::parse(&format!("{}\n", key.public())).unwrap();
        assert_eq!(again.public(), public);
        assert!(public.verify(b"m", &again.sign(b"m")));
        assert!(!public.verify(b"n", &again.sign(b"m")));
        assert!(!format!("{key:?}").contains(&crate::ids::BlobHash(key.seed).to_hex()));
    }

    #[test]
    fn what_is_no_key_says_so() {
        assert_eq!(
            PublicKey::parse("ssh-ed25519 AAAA"),
            Err(KeyError::Prefix { expected: PUBLIC_PREFIX })
        );
        assert_eq!(PublicKey::parse("drover-public-key-1 12"), Err(KeyError::Digits));
    }
}
