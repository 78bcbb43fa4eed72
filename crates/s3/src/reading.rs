//! The bytes of one object.

use std::fmt;

use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;

use crate::{Bucket, Object, S3Error};

/// Reads an object as it was listed: all of its bytes, or an error.
pub struct Reading {
    bucket: Bucket,
    object: Object,
    /// Bytes that have come.
    at: u64,
    stream: Option<BoxStream<'static, object_store::Result<Bytes>>>,
    failures: u32,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reading({} from {})", self.object.key, self.at)
    }
}

impl Reading {
    pub(crate) fn new(bucket: Bucket, object: Object) -> Self {
        Self { bucket, object, at: 0, stream: None, failures: 0 }
    }

    /// The next bytes; none when all that were listed have come.
    ///
    /// # Errors
    /// [`S3Error`], of the last try.
    pub async fn next(&mut self) -> Result<Option<Bytes>, S3Error> {
        while self.at < self.object.size {
            match self.part().await {
                Ok(part) => {
                    self.at += part.len() as u64;
                    return Ok(Some(part));
                }
                Err(error) => {
                    // It goes on where it broke off, over another connection.
                    self.stream = None;
                    self.bucket.pause(&mut self.failures, error).await?;
                }
            }
        }
        Ok(None)
    }

    async fn part(&mut self) -> Result<Bytes, S3Error> {
        let place = self.bucket.shown(self.object.key.as_ref());
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(self.bucket.begin(&self.object, self.at).await?),
        };
        let bucket = &self.bucket;
        let next = async { stream.try_next().await.map_err(|error| bucket.error(&place, &error)) };
        let part = bucket.within(&place, next).await?;
        let left = self.object.size - self.at;
        match part {
            Some(part) if part.len() as u64 > left => {
                // Whatever follows was not there when it was listed.
                Ok(part.slice(..usize::try_from(left).unwrap_or(usize::MAX)))
            }
            Some(part) => Ok(part),
            None => {
                let said = format!("it broke off after {} of {} bytes", self.at, self.object.size);
                Err(self.bucket.unavailable(&place, said))
            }
        }
    }
}
