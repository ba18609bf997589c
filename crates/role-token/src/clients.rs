//! Who may ask for a token, and how a client proves to be who it says.

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use countersign_access::Scopes;

/// One client that may ask for tokens.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its `client_id`, which becomes the subject of its tokens.
    pub id: String,
    /// The digest of its secret.
    pub secret_sha256: SecretDigest,
    /// The scopes it may be given. It gets all of them when it asks for none.
    pub scopes: Scopes,
    /// Whose data its tokens open.
    pub tenant: String,
    /// The agent its tokens speak for, if any.
    pub agent: Option<String>,
}

/// SHA-256 of a client secret. One digest is enough because the secret is drawn by a machine: there is nothing to guess.
///
/// Cannot be compared with `==`: a comparison that stops at the first difference tells how far a guess was right.
#[derive(Clone, Copy)]
pub struct SecretDigest([u8; 32]);

/// The text is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a secret's digest is 64 hexadecimal digits")]
pub struct UnreadableDigest;

impl SecretDigest {
    /// The digest of `secret`.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
        Self(bytes)
    }

    /// Reads what [`Display`](fmt::Display) writes and `sha256sum` prints.
    ///
    /// # Errors
    /// [`UnreadableDigest`] unless it is 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, UnreadableDigest> {
        let digits: Vec<u8> = text
            .chars()
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()
            .ok_or(UnreadableDigest)?;
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return Err(UnreadableDigest);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(bytes))
    }

    fn fits(&self, secret: &str) -> bool {
        verify_slices_are_equal(&self.0, &Self::of(secret).0).is_ok()
    }
}

impl fmt::Display for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest(..)")
    }
}

/// The clients by id.
#[derive(Debug)]
pub(crate) struct Clients {
    by_id: HashMap<String, Client>,
    /// Compared with when the id is unknown, so that the answer takes as long as for a known one.
    nobody: SecretDigest,
}

impl Clients {
    /// `Err` with the id that two clients share.
    pub(crate) fn new(clients: Vec<Client>) -> Result<Self, String> {
        let mut by_id = HashMap::with_capacity(clients.len());
        for client in clients {
            if let Some(former) = by_id.insert(client.id.clone(), client) {
                return Err(former.id);
            }
        }
        Ok(Self {
            by_id,
            nobody: SecretDigest([0; 32]),
        })
    }

    pub(crate) fn authenticate(&self, id: &str, secret: &str) -> Option<&Client> {
        let client = self.by_id.get(id);
        let expected = client.map_or(&self.nobody, |client| &client.secret_sha256);
        match expected.fits(secret) {
            true => client,
            false => None,
        }
    }
}
