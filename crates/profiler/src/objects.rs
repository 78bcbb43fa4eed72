//! Files in a bucket: listed by the folders of their hours, read as streams.

use std::io::{self, BufRead, Read};

use bytes::{Buf as _, Bytes};
use futures::{StreamExt as _, TryStreamExt as _};
use mloop_platform::PlatformError;
use mloop_s3::{Bucket, Object, Reading};
use tokio::runtime::Handle;

use crate::files::{Hours, Origin, SourceFile, Which, listing};

/// Folders that are listed at once.
const LISTED_AT_ONCE: usize = 8;

/// Lists files, in no order: all, or more than `max_files`.
pub(crate) async fn list(
    what: &str,
    bucket: &Bucket,
    which: &Which,
    max_files: usize,
) -> Result<Vec<SourceFile>, PlatformError> {
    let failed = |error: mloop_s3::S3Error| error.platform(&listing(what, bucket));
    let Which { folder, hours, suffix } = which;
    let start = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let folders = hours.as_ref().map_or(vec![String::new()], Hours::folders);
    let folders = folders.into_iter().map(|hours| format!("{start}{hours}"));
    let mut lists = futures::stream::iter(folders)
        .map(async |folder| bucket.list(&folder, suffix, max_files).await)
        .buffered(LISTED_AT_ONCE);
    let mut files = Vec::new();
    while let Some(listed) = lists.try_next().await.map_err(failed)? {
        let is_ours = |name: &str| hours.as_ref().is_none_or(|hours| is_of(hours, &start, name));
        let ours = listed.into_iter().filter(|object| is_ours(&object.name));
        files.extend(ours.map(|object| SourceFile {
            name: object.name.clone(),
            size: object.size,
            modified: object.modified,
            origin: Origin::Object(bucket.clone(), object),
        }));
        if files.len() > max_files {
            return Ok(files);
        }
    }
    if files.is_empty() && !bucket.has_any(&start).await.map_err(failed)? {
        tracing::warn!("there are no {what} files below {bucket}{start} yet: the window is empty");
    }
    Ok(files)
}

/// Whether a file lies directly in the folder of one of the hours.
fn is_of(hours: &Hours, start: &str, name: &str) -> bool {
    let Some((folder, _)) = name.strip_prefix(start).and_then(|below| below.rsplit_once('/'))
    else {
        return false;
    };
    let numbers: Result<Vec<u32>, _> = folder.split('/').map(str::parse).collect();
    numbers.is_ok_and(|numbers| numbers.len() == 4 && hours.touch(&numbers))
}

/// The bytes of an object, for readers that block, on a thread that may.
pub(crate) fn open(bucket: &Bucket, object: &Object) -> io::Result<impl BufRead + use<>> {
    let runtime = Handle::try_current().map_err(io::Error::other)?;
    Ok(Blocking { reading: bucket.read(object), part: Bytes::new(), runtime })
}

struct Blocking {
    reading: Reading,
    /// What has come and was not read yet.
    part: Bytes,
    runtime: Handle,
}

impl BufRead for Blocking {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.part.is_empty() {
            match self.runtime.block_on(self.reading.next())? {
                Some(part) => self.part = part,
                None => break,
            }
        }
        Ok(&self.part)
    }

    fn consume(&mut self, amount: usize) {
        self.part.advance(amount);
    }
}

impl Read for Blocking {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_directly_in_the_folder_of_an_hour_are_taken() {
        let at = |text: &str| text.parse().expect("a moment");
        let hours = Hours::between(at("2026-03-01T00:00:00Z"), at("2026-03-02T01:00:00Z"));
        for (name, expected) in [
            ("e/v/2026/03/01/12/a.jsonl", true),
            ("e/v/2026/03/02/01/a.jsonl", true),
            ("e/v/2026/03/02/02/a.jsonl", false),
            ("e/v/2026/03/01/a.jsonl", false),
            ("e/v/2026/03/01/12/more/a.jsonl", false),
            ("e/v/2026/03/01/noon/a.jsonl", false),
            ("a.jsonl", false),
        ] {
            assert_eq!(is_of(&hours, "e/v/", name), expected, "{name}");
        }
        assert!(is_of(&hours, "", "2026/03/01/12/a.jsonl"));
    }
}
