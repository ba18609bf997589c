//! A body that grows: hashed as it is written, whole when its hash is the declared one.

use crate::folder::FolderStore;
use crate::layout::{self, BLOCK_BYTES, HEADER_BYTES};
use crate::{Declared, Error, Growing};
use aws_lc_rs::digest::{Context, SHA256};
use countersign_journal::{File, Files};
use countersign_rules::BodyId;
use std::fmt;

/// An unfinished body.
pub(crate) struct Part<F: Files> {
    store: FolderStore<F>,
    id: BodyId,
    declared: Declared,
    file: F::File,
    offset: u64,
    sums: Sums,
}

/// The hashes of what is there so far.
struct Sums {
    whole: Context,
    block: Context,
    block_bytes: u64,
    /// Of the blocks that are full.
    done: Vec<u8>,
}

impl Sums {
    fn new() -> Self {
        Self {
            whole: Context::new(&SHA256),
            block: Context::new(&SHA256),
            block_bytes: 0,
            done: Vec::new(),
        }
    }

    fn add(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        while !bytes.is_empty() {
            let room = usize::try_from(BLOCK_BYTES - self.block_bytes).expect("a block is small");
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.block.update(now);
            self.block_bytes += now.len() as u64;
            bytes = rest;
            if self.block_bytes == BLOCK_BYTES {
                self.close_block();
            }
        }
    }

    fn close_block(&mut self) {
        let full = std::mem::replace(&mut self.block, Context::new(&SHA256));
        self.done.extend_from_slice(full.finish().as_ref());
        self.block_bytes = 0;
    }
}

impl<F: Files> Part<F> {
    /// Reads what is there once more: its hash is not kept anywhere.
    pub(crate) fn open(store: &FolderStore<F>, id: BodyId) -> Result<Self, Error> {
        let file = store.files().open(&layout::part_name(id))?;
        let mut header = [0; HEADER_BYTES as usize];
        let read = file.read_at(0, &mut header)?;
        let declared = layout::read_header(id, &header[..read])?;
        // A crash may have come while the digests were written behind the body.
        let there = file
            .length()?
            .saturating_sub(HEADER_BYTES)
            .min(declared.bytes);
        let mut part = Self {
            store: store.clone(),
            id,
            declared,
            file,
            offset: 0,
            sums: Sums::new(),
        };
        let mut buffer = vec![0; BLOCK_BYTES as usize];
        while part.offset < there {
            let want = usize::try_from(there - part.offset).unwrap_or(usize::MAX);
            let want = want.min(buffer.len());
            let got = part
                .file
                .read_at(HEADER_BYTES + part.offset, &mut buffer[..want])?;
            if got == 0 {
                break;
            }
            part.sums.add(&buffer[..got]);
            part.offset += got as u64;
        }
        Ok(part)
    }

    /// Gives the body up: nobody can make it what was declared.
    fn refuse(self, why: &'static str) -> Error {
        let removed = self.store.files().remove(&layout::part_name(self.id));
        match removed.and_then(|()| self.store.files().sync_dir()) {
            Ok(()) => Error::Mismatch { why },
            Err(error) => error.into(),
        }
    }

    fn finish(mut self) -> Result<(), Error> {
        if self.offset != self.declared.bytes {
            return Err(Error::Mismatch {
                why: "its end has not come",
            });
        }
        if self.sums.block_bytes > 0 {
            self.sums.close_block();
        }
        let sha256 = self.sums.whole.clone().finish();
        if self.store.is_finish_checked() && sha256.as_ref() != self.declared.sha256 {
            return Err(self.refuse("its SHA-256 is another one"));
        }
        let digests_at = layout::digest_at(self.declared.bytes, 0);
        self.file.write_at(digests_at, &self.sums.done)?;
        self.file.set_len(layout::file_bytes(self.declared.bytes))?;
        if self.store.is_durable_first() {
            self.file.sync_data()?;
        }
        let files = self.store.files();
        files.rename(&layout::part_name(self.id), &layout::whole_name(self.id))?;
        if self.store.is_durable_first() {
            files.sync_dir()?;
        }
        Ok(())
    }
}

impl<F: Files> fmt::Debug for Part<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("id", &self.id)
            .field("declared", &self.declared)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

impl<F: Files> Growing for Part<F> {
    fn declared(&self) -> &Declared {
        &self.declared
    }

    fn offset(&self) -> u64 {
        self.offset
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let left = self.declared.bytes - self.offset;
        if bytes.len() as u64 > left {
            let bytes = self.declared.bytes;
            return Err(Error::TooLong { bytes });
        }
        self.file.write_at(HEADER_BYTES + self.offset, bytes)?;
        self.sums.add(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        Ok(self.file.sync_data()?)
    }

    fn finish(self: Box<Self>) -> Result<(), Error> {
        Part::finish(*self)
    }
}
