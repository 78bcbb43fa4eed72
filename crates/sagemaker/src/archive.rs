//! A version's folder as `model.tar.gz`, the same bytes for the same files everywhere.
//!
//! The gzip frame holds its content as it is: weights hardly compress, and the bytes then depend on
//! no compressor's version.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mloop_core::Sha256Digest;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

/// Most bytes of a version: one S3 upload takes 5 GiB.
const MAX_BYTES: u64 = 4 << 30;

/// Deepest folder of a version.
const MAX_DEPTH: usize = 8;

/// Most bytes of a stored block.
const BLOCK: usize = 0xffff;

/// An archive; its file is gone once this is dropped.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(crate) file: NamedTempFile,
    pub(crate) digest: Sha256Digest,
    pub(crate) bytes: u64,
}

/// How the file of an archive is named while it is there.
const NAME: [&str; 2] = ["model-", ".tar.gz"];

/// An archive that is older was left by a run that was killed: no upload takes so long.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Removes the archives that killed runs left in a folder. What cannot be removed hinders nobody.
fn sweep(folder: &Path) {
    let [prefix, suffix] = NAME;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_archive = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(prefix) && name.ends_with(suffix));
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED));
        if is_archive && is_old {
            fs::remove_file(entry.path()).unwrap_or_default();
        }
    }
}

/// Packs a folder into a file beside it. Blocks. What is wrong with the version itself, and stays so, is
/// [`io::ErrorKind::InvalidData`]; anything else is the disk's.
pub(crate) fn pack(folder: &Path) -> io::Result<Archive> {
    let beside = folder.parent().unwrap_or(folder);
    sweep(beside);
    let [prefix, suffix] = NAME;
    let file = tempfile::Builder::new().prefix(prefix).suffix(suffix).tempfile_in(beside)?;
    let mut builder = tar::Builder::new(Stored::new(Hashing::new(file))?);
    let mut bytes = 0;
    for name in names(folder)? {
        let path = folder.join(&name);
        let content = File::open(&path)?;
        let size = content.metadata()?.len();
        bytes += size;
        if bytes > MAX_BYTES {
            return Err(unfit(format!("a version has at most {MAX_BYTES} bytes")));
        }
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_entry_type(tar::EntryType::Regular);
        builder.append_data(&mut header, &name, BufReader::new(content).take(size))?;
    }
    let Hashing { inner, hash, bytes } = builder.into_inner()?.finish()?;
    let digest = hex(hash.finalize().as_slice());
    let digest = digest.parse().map_err(io::Error::other)?;
    Ok(Archive { file: inner, digest, bytes })
}

fn unfit(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All files of a folder, by their relative paths, sorted.
fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut waiting) = (vec![], vec![(PathBuf::new(), 0)]);
    while let Some((below, depth)) = waiting.pop() {
        if depth > MAX_DEPTH {
            return Err(unfit(format!("a version is at most {MAX_DEPTH} folders deep")));
        }
        for entry in fs::read_dir(folder.join(&below))? {
            let entry = entry?;
            let (name, kind) = (below.join(entry.file_name()), entry.file_type()?);
            if kind.is_dir() {
                waiting.push((name, depth + 1));
            } else if kind.is_file() {
                found.push(name);
            } else {
                let problem = format!("{} is neither file nor folder", name.display());
                return Err(unfit(problem));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Counts and hashes what is written.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A gzip frame (RFC 1952) of stored blocks (RFC 1951, 3.2.4).
struct Stored<W: Write> {
    inner: W,
    block: Vec<u8>,
    sum: crc32fast::Hasher,
    length: u32,
}

impl<W: Write> Stored<W> {
    fn new(mut inner: W) -> io::Result<Self> {
        // Deflate, no flags, no time, no hint, unknown system.
        inner.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
        let block = Vec::with_capacity(BLOCK);
        Ok(Self { inner, block, sum: crc32fast::Hasher::new(), length: 0 })
    }

    fn emit(&mut self, last: bool) -> io::Result<()> {
        let length = u16::try_from(self.block.len()).map_err(io::Error::other)?;
        self.inner.write_all(&[u8::from(last)])?;
        self.inner.write_all(&length.to_le_bytes())?;
        self.inner.write_all(&(!length).to_le_bytes())?;
        self.inner.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<W> {
        self.emit(true)?;
        self.inner.write_all(&self.sum.clone().finalize().to_le_bytes())?;
        self.inner.write_all(&self.length.to_le_bytes())?;
        self.inner.flush()?;
        Ok(self.inner)
    }
}

impl<W: Write> Write for Stored<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.emit(false)?;
        }
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        self.sum.update(&bytes[..taken]);
        // The frame's length field counts modulo 2^32.
        self.length = self.length.wrapping_add(taken as u32);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;

    fn version(folder: &Path) {
        fs::create_dir_all(folder.join("reference")).expect("made");
        fs::write(folder.join("model.json"), b"{}").expect("written");
        // More than one block.
        fs::write(folder.join("model.safetensors"), vec![7; 200_000]).expect("written");
        fs::write(folder.join("reference/profile.json"), b"[1]").expect("written");
    }

    #[test]
    fn the_same_files_give_the_same_bytes_and_come_back() {
        let [one, two] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let [first, second] = [&one, &two].map(|folder| folder.path().join("version"));
        version(&first);
        version(&second);
        // Neither owner, times nor modes are part of it.
        let file = File::open(second.join("model.json")).expect("open");
        file.set_modified(std::time::UNIX_EPOCH).expect("set");
        let [first, second] = [&first, &second].map(|folder| pack(folder).expect("packed"));
        assert_eq!(first.digest, second.digest);
        let bytes = fs::read(first.file.path()).expect("read");
        assert_eq!(first.digest, Sha256Digest::of(&bytes));
        assert_eq!(first.bytes, bytes.len() as u64);

        let back = tempfile::tempdir().expect("a folder");
        tar::Archive::new(GzDecoder::new(bytes.as_slice())).unpack(back.path()).expect("unpacked");
        let weights = fs::read(back.path().join("model.safetensors")).expect("read");
        assert_eq!(weights, vec![7; 200_000]);
        assert_eq!(fs::read(back.path().join("reference/profile.json")).expect("read"), b"[1]");
    }

    #[test]
    fn links_are_refused_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let version_folder = folder.path().join("version");
        version(&version_folder);
        std::os::unix::fs::symlink("/etc/passwd", version_folder.join("link")).expect("linked");
        let error = pack(&version_folder).expect_err("a link");
        assert!(error.to_string().contains("link"), "{error}");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "that is the version's fault");
        let gone = pack(&folder.path().join("gone")).expect_err("no such folder");
        assert_ne!(gone.kind(), io::ErrorKind::InvalidData, "that is the disk's");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
    }
}
