//! Profiles of windows, revision by revision.

use async_trait::async_trait;
use mloop_core::profile::{ProfileKey, StoredProfile};
use mloop_core::{ProfileSchema, Window};
use mloop_platform::{PlatformError, ProfileStore};

use crate::error::Failure;
use crate::session::{Session, first, insert};
use crate::store::{Store, Views};
use crate::value::{Row, Value};

/// Number, digest of the counts, and body of the newest revision.
fn newest(
    session: &mut dyn Session,
    key: &ProfileKey,
    window: &Window,
) -> Result<Option<Row>, Failure> {
    let sql = "SELECT revision, digest, body FROM profiles
               WHERE model = $1 AND target = $2 AND version = $3
                 AND window_start = $4 AND window_end = $5
               ORDER BY revision DESC LIMIT 1";
    let values = [
        key.subject.model.as_str().into(),
        key.subject.target.as_str().into(),
        key.version.to_string().into(),
        window.start().into(),
        window.end().into(),
    ];
    first(session, sql, &values)
}

fn put(
    session: &mut dyn Session,
    schema: &ProfileSchema,
    stored: &StoredProfile,
) -> Result<u32, Failure> {
    let profile = &stored.profile;
    let (key, window) = (&profile.key, &profile.window);
    session.lock(&format!("profile {} {} {window}", key.subject, key.version))?;
    let digest = profile.digest().to_string();
    let before = newest(session, key, window)?;
    let last = before.as_ref().map_or(Ok(0), |row| row.revision(0))?;
    if before.is_some_and(|row| row.text(1).is_ok_and(|known| known == digest)) {
        return Ok(last);
    }
    let row = [
        ("digest", profile.schema.to_string().into()),
        ("model", schema.model.as_str().into()),
        ("body", Value::json(schema)?),
    ];
    insert(session, "profile_schemas", row, "ON CONFLICT (digest) DO NOTHING")?;
    let row = [
        ("model", key.subject.model.as_str().into()),
        ("target", key.subject.target.as_str().into()),
        ("version", key.version.to_string().into()),
        ("window_start", window.start().into()),
        ("window_end", window.end().into()),
        ("revision", (last + 1).into()),
        ("schema", profile.schema.to_string().into()),
        ("digest", digest.into()),
        ("rows", profile.rows.into()),
        ("as_of", stored.as_of.into()),
        ("body", Value::json(stored)?),
    ];
    insert(session, "profiles", row, "")?;
    Ok(last + 1)
}

fn read_newest(
    session: &mut dyn Session,
    key: &ProfileKey,
    window: &Window,
) -> Result<Option<(u32, StoredProfile)>, Failure> {
    let decode = |row: Row| Ok((row.revision(0)?, serde_json::from_str(row.text(2)?)?));
    newest(session, key, window)?.map(decode).transpose()
}

#[async_trait]
impl<S: Store> ProfileStore for Views<S> {
    async fn put(
        &self,
        schema: &ProfileSchema,
        profile: &StoredProfile,
    ) -> Result<u32, PlatformError> {
        let of = &profile.profile;
        let doing = format!("storing the profile of {} over {}", of.key.subject, of.window);
        if schema.digest() != of.schema {
            let problem = "it was counted under another schema than the one that came with it";
            return Err(PlatformError::invalid(doing, problem));
        }
        let (schema, profile) = (schema.clone(), profile.clone());
        self.write("put", doing, move |session| put(session, &schema, &profile)).await
    }

    async fn newest(
        &self,
        key: &ProfileKey,
        window: &Window,
    ) -> Result<Option<(u32, StoredProfile)>, PlatformError> {
        let doing = format!("reading the profile of {} over {window}", key.subject);
        let (key, window) = (key.clone(), *window);
        self.read(doing, move |session| read_newest(session, &key, &window)).await
    }
}
