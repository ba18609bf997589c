//! Where acknowledgements go.
//!
//! What the configuration says stands. Without it, the address that came with the last message is
//! used, and kept in a file beside the inbox, so that a site that starts without its hub can still
//! post what it owes (I12).

use crate::Error;
use crate::client::parse_url;
use reqwest::Url;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

#[derive(Debug)]
pub(crate) enum AckAddress {
    Configured(Url),
    Learned {
        file: PathBuf,
        last: Mutex<Option<Url>>,
    },
}

impl AckAddress {
    pub(crate) fn new(configured: Option<&str>, data_dir: &Path) -> Result<Self, Error> {
        if let Some(url) = configured {
            return Ok(Self::Configured(parse_url("ack_url", url)?));
        }
        let file = data_dir.join("ack-url");
        let kept = fs::read_to_string(&file).ok();
        let last = kept.and_then(|text| parse_url("ack_url", text.trim()).ok());
        Ok(Self::Learned {
            file,
            last: Mutex::new(last),
        })
    }

    /// The address, when one is known.
    pub(crate) fn current(&self) -> Option<Url> {
        match self {
            Self::Configured(url) => Some(url.clone()),
            Self::Learned { last, .. } => lock(last).clone(),
        }
    }

    /// A message named `text` as the address. Tells whether that was news.
    pub(crate) fn learn(&self, text: &str) -> bool {
        let Self::Learned { file, last } = self else {
            return false;
        };
        let mut last = lock(last);
        if last.as_ref().is_some_and(|url| url.as_str() == text) {
            return false;
        }
        let Ok(url) = parse_url("ack_url", text) else {
            tracing::warn!(
                ack_url = text,
                "the hub named an address for acknowledgements that is none"
            );
            return false;
        };
        if last.as_ref() == Some(&url) {
            return false;
        }
        if let Err(error) = keep(file, &url) {
            tracing::warn!(%error, "the address for acknowledgements could not be kept for the next start");
        }
        tracing::info!(%url, "acknowledgements go to the address that the hub named");
        *last = Some(url);
        true
    }
}

fn lock(last: &Mutex<Option<Url>>) -> std::sync::MutexGuard<'_, Option<Url>> {
    last.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Not flushed: it is learned again from the next message if a power cut takes it.
fn keep(file: &Path, url: &Url) -> std::io::Result<()> {
    let unfinished = file.with_extension("part");
    fs::write(&unfinished, url.as_str())?;
    fs::rename(unfinished, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_address_stands_whatever_messages_say() {
        let folder = tempfile::tempdir().unwrap();
        let address = AckAddress::new(Some("http://acks.example/a"), folder.path()).unwrap();
        assert!(!address.learn("http://elsewhere.example/"));
        assert_eq!(address.current().unwrap().as_str(), "http://acks.example/a");
    }

    #[test]
    fn a_learned_address_is_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let address = AckAddress::new(None, folder.path()).unwrap();
        assert_eq!(address.current(), None);
        assert!(address.learn("http://127.0.0.1:7421/acks/v1/acks"));
        assert!(!address.learn("http://127.0.0.1:7421/acks/v1/acks"));
        assert!(!address.learn("not an address"));
        let again = AckAddress::new(None, folder.path()).unwrap();
        assert_eq!(again.current(), address.current());
    }
}
