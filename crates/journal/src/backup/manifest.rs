//! What a backup holds, as a text that people can read and `sha256sum` can check.

use std::fmt::Write as _;
use std::io;

use sha2::{Digest, Sha256};

use crate::{File, Files, Position};

/// Name of the manifest's file. It is written last: without it a directory is no backup.
pub const MANIFEST: &str = "manifest";
const MANIFEST_NEW: &str = "manifest.new";
const FIRST_LINE: &str = "countersign backup 1";

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Id of the store.
    pub store_id: [u8; 16],
    /// Life of the store that was copied; of the new one, when a store was made of it.
    pub epoch: u64,
    /// Lowest position in it.
    pub first: Position,
    /// Highest position in it.
    pub last: Position,
    /// Every file.
    pub contents: Vec<Contents>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of it.
    pub sha256: [u8; 32],
}

impl Manifest {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.contents.iter().map(|one| one.bytes).sum()
    }

    fn encode(&self) -> String {
        let mut text = format!(
            "{FIRST_LINE}\nstore {}\nepoch {}\nfirst {}\nlast {}\n",
            hex(&self.store_id),
            self.epoch,
            self.first,
            self.last
        );
        for one in &self.contents {
            let (name, bytes) = (&one.name, one.bytes);
            let _ = writeln!(text, "file {} {bytes} {name}", hex(&one.sha256));
        }
        let sum = hex(&Sha256::digest(text.as_bytes()));
        let _ = writeln!(text, "sum {sum}");
        text
    }

    /// Writes it where the copies are, all of which are durable.
    pub(super) fn write<F: Files>(&self, files: &F) -> io::Result<()> {
        let file = files.create(MANIFEST_NEW)?;
        file.write_at(0, self.encode().as_bytes())?;
        file.sync_data()?;
        files.sync_dir()?;
        files.rename(MANIFEST_NEW, MANIFEST)?;
        files.sync_dir()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no text")?;
        let at = text.rfind("sum ").ok_or("its end is missing")?;
        let (text, sum) = text.split_at(at);
        if sum.trim_end() != format!("sum {}", hex(&Sha256::digest(text.as_bytes()))) {
            return Err("its checksum does not match");
        }
        let mut lines = text.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err("a newer program wrote it");
        }
        let mut field = |name: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(name));
            line.map(str::trim).ok_or("a line of it is missing")
        };
        let (store, epoch) = (field("store ")?, field("epoch ")?);
        let (first, last) = (field("first ")?, field("last ")?);
        let number = |text: &str| text.parse().map_err(|_| "a number of it is none");
        let contents = lines.map(|line| {
            let mut words = line.strip_prefix("file ")?.splitn(3, ' ');
            let (sha256, bytes) = (unhex(words.next()?)?, words.next()?.parse().ok()?);
            let name = words.next()?.to_owned();
            // A name is one of this directory: it may lead nowhere else.
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
            name.chars().all(plain).then_some(Contents {
                name,
                bytes,
                sha256,
            })
        });
        Ok(Self {
            store_id: unhex(store).ok_or("the id of its store is none")?,
            epoch: number(epoch)?,
            first: number(first)?,
            last: number(last)?,
            contents: contents
                .collect::<Option<_>>()
                .ok_or("a line about a file is none")?,
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}
