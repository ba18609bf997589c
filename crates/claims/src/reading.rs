//! A whole body, read block by block, each block checked.

use crate::folder::FolderStore;
use crate::layout::{self, BLOCK_BYTES, DIGEST_BYTES, HEADER_BYTES};
use crate::{Body, Declared, Error};
use aws_lc_rs::digest::{SHA256, digest};
use countersign_journal::{File, Files};
use countersign_rules::BodyId;
use std::fmt;

/// A body that can be read.
pub(crate) struct Whole<F: Files> {
    declared: Declared,
    file: F::File,
    is_checked: bool,
}

impl<F: Files> Whole<F> {
    pub(crate) fn open(store: &FolderStore<F>, id: BodyId) -> Result<Self, Error> {
        let file = store.files().open(&layout::whole_name(id))?;
        let mut header = [0; HEADER_BYTES as usize];
        let read = file.read_at(0, &mut header)?;
        let declared = layout::read_header(id, &header[..read])?;
        let length = file.length()?;
        if length != layout::file_bytes(declared.bytes) {
            return Err(Error::damaged(format!("its file has {length} bytes")));
        }
        Ok(Self {
            declared,
            file,
            is_checked: store.is_read_checked(),
        })
    }

    fn block(&self, block: u64) -> Result<Vec<u8>, Error> {
        let begins = block * BLOCK_BYTES;
        let bytes = BLOCK_BYTES.min(self.declared.bytes - begins);
        let mut buffer = vec![0; usize::try_from(bytes).expect("a block is small")];
        let got = self.file.read_at(HEADER_BYTES + begins, &mut buffer)?;
        let mut wanted = [0; DIGEST_BYTES as usize];
        let digest_at = layout::digest_at(self.declared.bytes, block);
        let digest_got = self.file.read_at(digest_at, &mut wanted)?;
        let is_whole = got == buffer.len() && digest_got == wanted.len();
        let is_right = || digest(&SHA256, &buffer).as_ref() == wanted;
        if !is_whole || (self.is_checked && !is_right()) {
            let why = format!("the {bytes} bytes at {begins} fail their SHA-256");
            return Err(Error::damaged(why));
        }
        Ok(buffer)
    }
}

impl<F: Files> fmt::Debug for Whole<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Whole")
            .field("declared", &self.declared)
            .finish_non_exhaustive()
    }
}

impl<F: Files> Body for Whole<F> {
    fn declared(&self) -> &Declared {
        &self.declared
    }

    fn read_from(&mut self, offset: u64) -> Result<Vec<u8>, Error> {
        if offset >= self.declared.bytes {
            return Ok(Vec::new());
        }
        let mut block = self.block(offset / BLOCK_BYTES)?;
        let skip = usize::try_from(offset % BLOCK_BYTES).expect("a block is small");
        Ok(block.split_off(skip))
    }
}
