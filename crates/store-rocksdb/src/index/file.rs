//! Sorted rows as one file, written beside the database and moved into it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use logwood_store::{IndexRow, LogNumber, RoundNumber};
use rocksdb::{DB, IngestExternalFileOptions, Options, SstFileWriter};

use crate::{family, keys, options, values};

/// Where files are made, inside the store's directory.
const DIRECTORY: &str = "ingest";

/// A row as the engine stores it, padded so that rows compare as arrays: a key of one kind has one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    key: [u8; keys::LEAF_KEY_BYTES],
    index: [u8; keys::INDEX_BYTES],
}

impl Row {
    pub(super) fn new(log: LogNumber, row: IndexRow) -> Self {
        let mut key = [0; keys::LEAF_KEY_BYTES];
        match row {
            IndexRow::Identity { prefix, index } => {
                key[..keys::IDENTITY_KEY_BYTES].copy_from_slice(&keys::identity(log, &prefix));
                Self { key, index: keys::index_bytes(index.0) }
            }
            IndexRow::Leaf { prefix, index } => {
                Self { key: keys::leaf(log, prefix, index), index: keys::index_bytes(index.0) }
            }
        }
    }
}

/// The one place where a file of the index is made.
pub(super) struct IndexFile {
    path: PathBuf,
    options: Options,
}

impl IndexFile {
    pub(super) fn new(dir: &Path, options: Options) -> io::Result<Self> {
        let dir = dir.join(DIRECTORY);
        fs::create_dir_all(&dir)?;
        Ok(Self { path: dir.join("rows.sst"), options })
    }

    /// Writes `rows` and the watermark, synced. A file that a crash left here is removed first: it may be a second
    /// name of one that was moved in, so it must not be written to.
    pub(super) fn write(&self, mut rows: Vec<Row>, watermark: Option<RoundNumber>) -> io::Result<()> {
        self.remove()?;
        rows.sort_unstable();
        rows.dedup();
        let mut writer = SstFileWriter::create(&self.options);
        self.fill(&mut writer, &rows, watermark).map_err(io::Error::other)
    }

    fn fill<'a>(
        &'a self,
        writer: &mut SstFileWriter<'a>,
        rows: &[Row],
        watermark: Option<RoundNumber>,
    ) -> Result<(), rocksdb::Error> {
        writer.open(&self.path)?;
        for same_key in rows.chunk_by(|a, b| a.key == b.key) {
            let key = &same_key[0].key;
            if key[4] == keys::KIND_IDENTITY {
                let list: Vec<u8> = same_key.iter().flat_map(|row| row.index).collect();
                writer.merge(&key[..keys::IDENTITY_KEY_BYTES], list)?;
            } else {
                writer.put(key, [])?;
            }
        }
        if let Some(watermark) = watermark {
            let key = keys::INDEX_WATERMARK;
            writer.put(key, values::seal(key, 8, |value| value.extend(watermark.0.to_be_bytes())))?;
        }
        writer.finish()
    }

    /// Moves the written file into the family: all of its rows at once, on disk when this returns.
    pub(super) fn ingest(&self, db: &DB) -> io::Result<()> {
        let mut moved = IngestExternalFileOptions::default();
        moved.set_move_files(true);
        let family = family(db, options::INDEX);
        db.ingest_external_file_cf_opts(family, &moved, vec![&self.path]).map_err(io::Error::other)?;
        self.remove()
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
