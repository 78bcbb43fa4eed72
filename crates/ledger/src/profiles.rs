//! Profiles of windows, revision by revision, and how hours become days.

use std::io::{Read as _, Write as _};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use mloop_core::profile::{ProfileKey, StoredProfile};
use mloop_core::{ProfileSchema, Sha256Digest, Subject, Window};
use mloop_platform::{PlatformError, ProfileQuery, ProfileStore, mergeable};

use crate::error::Failure;
use crate::session::{Session, first, insert};
use crate::store::{Store, Views};
use crate::value::{Row, Value};

/// First byte of a packed body: what follows is deflated JSON.
const DEFLATED: u8 = 1;

/// No profile is longer, in bytes of JSON: a damaged one must not fill the memory.
const LONGEST: u64 = 1 << 28;

/// Days that are looked through at once for windows to merge.
const DAYS_AT_ONCE: u32 = 100;

/// The body of a row, packed.
fn pack(stored: &StoredProfile) -> Result<Value, Failure> {
    let mut packed = DeflateEncoder::new(vec![DEFLATED], Compression::default());
    packed.write_all(&serde_json::to_vec(stored)?)?;
    Ok(Value::Bytes(packed.finish()?))
}

/// The body of a row whose columns `at` and after it are `body` and `packed`; rows of older releases
/// are not packed.
fn unpack(row: &Row, at: usize) -> Result<StoredProfile, Failure> {
    match row.optional_bytes(at + 1)? {
        None => Ok(serde_json::from_str(row.text(at)?)?),
        Some([DEFLATED, packed @ ..]) => {
            let mut json = vec![];
            let read = DeflateDecoder::new(packed).take(LONGEST).read_to_end(&mut json);
            read.map_err(serde_json::Error::io)?;
            Ok(serde_json::from_slice(&json)?)
        }
        Some(_) => Err(Failure::Column(at + 1)),
    }
}

/// What tells a window of a version from all others.
fn values_of(key: &ProfileKey, window: &Window) -> [Value; 5] {
    [
        key.subject.model.as_str().into(),
        key.subject.target.as_str().into(),
        key.version.to_string().into(),
        window.start().into(),
        window.end().into(),
    ]
}

/// Number, digest of the counts, and body of the newest revision.
fn newest(
    session: &mut dyn Session,
    key: &ProfileKey,
    window: &Window,
) -> Result<Option<Row>, Failure> {
    let sql = "SELECT revision, digest, body, packed FROM profiles
               WHERE model = $1 AND target = $2 AND version = $3
                 AND window_start = $4 AND window_end = $5
               ORDER BY revision DESC LIMIT 1";
    first(session, sql, &values_of(key, window))
}

/// Holds all profiles of a version: merging takes several windows at once.
fn lock(session: &mut dyn Session, key: &ProfileKey) -> Result<(), Failure> {
    session.lock(&format!("profiles {} {}", key.subject, key.version))
}

fn put(
    session: &mut dyn Session,
    schema: &ProfileSchema,
    stored: &StoredProfile,
) -> Result<u32, Failure> {
    let profile = &stored.profile;
    let (key, window) = (&profile.key, &profile.window);
    lock(session, key)?;
    let closed = "SELECT revision FROM merged_profiles
                  WHERE model = $1 AND target = $2 AND version = $3
                    AND window_start = $4 AND window_end = $5";
    if let Some(merged) = first(session, closed, &values_of(key, window))? {
        tracing::info!(%window, "merged into a longer window before: its new counts are not stored");
        return merged.revision(0);
    }
    let row = [
        ("digest", profile.schema.to_string().into()),
        ("model", schema.model.as_str().into()),
        ("body", Value::json(schema)?),
    ];
    insert(session, "profile_schemas", row, "ON CONFLICT (digest) DO NOTHING")?;
    add(session, stored)
}

/// Writes the next revision, unless the newest one has these very counts; gives the one that stands.
fn add(session: &mut dyn Session, stored: &StoredProfile) -> Result<u32, Failure> {
    let profile = &stored.profile;
    let (key, window) = (&profile.key, &profile.window);
    let digest = profile.digest().to_string();
    let before = newest(session, key, window)?;
    let last = before.as_ref().map_or(Ok(0), |row| row.revision(0))?;
    if before.is_some_and(|row| row.text(1).is_ok_and(|known| known == digest)) {
        return Ok(last);
    }
    let [model, target, version, window_start, window_end] = values_of(key, window);
    let row = [
        ("model", model),
        ("target", target),
        ("version", version),
        ("window_start", window_start),
        ("window_end", window_end),
        ("revision", (last + 1).into()),
        ("schema", profile.schema.to_string().into()),
        ("digest", digest.into()),
        ("rows", profile.rows.into()),
        ("as_of", stored.as_of.into()),
        ("body", Value::json(&())?),
        ("packed", pack(stored)?),
    ];
    insert(session, "profiles", row, "")?;
    Ok(last + 1)
}

fn read_newest(
    session: &mut dyn Session,
    key: &ProfileKey,
    window: &Window,
) -> Result<Option<(u32, StoredProfile)>, Failure> {
    let decode = |row: Row| Ok((row.revision(0)?, unpack(&row, 2)?));
    newest(session, key, window)?.map(decode).transpose()
}

fn within(session: &mut dyn Session, query: &ProfileQuery) -> Result<Vec<StoredProfile>, Failure> {
    let sql = "SELECT body, packed FROM profiles AS p
               WHERE model = $1 AND target = $2 AND ($3 = '' OR version = $3)
                 AND window_start >= $4 AND window_end > $4 AND window_end <= $5
                 AND (window_end, window_start, version) > ($6, $7, $8)
                 AND revision = (SELECT max(n.revision) FROM profiles AS n
                                 WHERE n.model = p.model AND n.target = p.target
                                   AND n.version = p.version
                                   AND n.window_start = p.window_start
                                   AND n.window_end = p.window_end)
               ORDER BY window_end, window_start, version LIMIT $9";
    let after = query.after.map(|place| place.parts());
    let [end, start, version] = match after {
        // Comes before every text.
        None => [(); 3].map(|()| Value::from("")),
        Some((start, end, version)) => [end.into(), start.into(), version.to_string().into()],
    };
    let only = query.version.map(|version| version.to_string()).unwrap_or_default();
    let values = [
        query.subject.model.as_str().into(),
        query.subject.target.as_str().into(),
        only.into(),
        query.span.start().into(),
        query.span.end().into(),
        end,
        start,
        version,
        query.limit.into(),
    ];
    session.query(sql, &values)?.iter().map(|row| unpack(row, 0)).collect()
}

fn schema(
    session: &mut dyn Session,
    digest: &Sha256Digest,
) -> Result<Option<ProfileSchema>, Failure> {
    let sql = "SELECT body FROM profile_schemas WHERE digest = $1";
    let found = first(session, sql, &[digest.to_string().into()])?;
    found.map(|row| Ok(serde_json::from_str(row.text(0)?)?)).transpose()
}

/// A day in which a version has more than one window under one schema.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Day {
    day: Window,
    version: Sha256Digest,
    schema: String,
}

impl Day {
    fn of(row: &Row) -> Result<Self, Failure> {
        let start = format!("{}T00:00:00Z", row.text(0)?).parse().ok().and_then(Window::day_of);
        Ok(Self {
            day: start.ok_or(Failure::Column(0))?,
            version: row.text(1)?.parse().map_err(|_| Failure::Column(1))?,
            schema: row.text(2)?.to_owned(),
        })
    }
}

/// Days before `until` with windows to merge, perhaps, after the one that was looked at last.
fn days(
    session: &mut dyn Session,
    subject: &Subject,
    until: DateTime<Utc>,
    last: Option<&Day>,
) -> Result<Vec<Day>, Failure> {
    let sql = "SELECT substr(window_start, 1, 10), version, schema FROM profiles
               WHERE model = $1 AND target = $2 AND window_end <= $3
                 AND (substr(window_start, 1, 10), version, schema) > ($4, $5, $6)
               GROUP BY substr(window_start, 1, 10), version, schema
               HAVING count(DISTINCT window_start || window_end) > 1
               ORDER BY 1, 2, 3 LIMIT $7";
    let [day, version, schema] = match last {
        None => [(); 3].map(|()| String::new()),
        Some(last) => [
            last.day.start().format("%Y-%m-%d").to_string(),
            last.version.to_string(),
            last.schema.clone(),
        ],
    };
    let values = [
        subject.model.as_str().into(),
        subject.target.as_str().into(),
        until.into(),
        day.into(),
        version.into(),
        schema.into(),
        DAYS_AT_ONCE.into(),
    ];
    session.query(sql, &values)?.iter().map(Day::of).collect()
}

/// Merges the windows of a day; says whether there were any to merge.
fn merge(session: &mut dyn Session, subject: &Subject, day: &Day) -> Result<bool, Failure> {
    let key = ProfileKey { subject: subject.clone(), version: day.version };
    lock(session, &key)?;
    let sql = "SELECT window_start, window_end, schema,
                      (SELECT count(*) FROM merged_profiles AS m
                       WHERE m.model = p.model AND m.target = p.target AND m.version = p.version
                         AND m.into_start = p.window_start AND m.into_end = p.window_end)
               FROM profiles AS p
               WHERE model = $1 AND target = $2 AND version = $3
                 AND window_start >= $4 AND window_end <= $5
                 AND revision = (SELECT max(n.revision) FROM profiles AS n
                                 WHERE n.model = p.model AND n.target = p.target
                                   AND n.version = p.version
                                   AND n.window_start = p.window_start
                                   AND n.window_end = p.window_end)";
    let mut windows = vec![];
    for row in session.query(sql, &values_of(&key, &day.day))? {
        let window = Window::new(row.moment(0)?, row.moment(1)?);
        if row.text(2)? == day.schema {
            windows.push((window.map_err(|_| Failure::Column(0))?, row.count(3)? > 0));
        }
    }
    let (mut sum, mut parts) = (None::<StoredProfile>, vec![]);
    for window in mergeable(&windows) {
        let Some(row) = newest(session, &key, &window)? else { return Err(Failure::Column(0)) };
        let stored = unpack(&row, 2)?;
        match &mut sum {
            None => sum = Some(stored),
            Some(sum) => sum.merge(&stored).map_err(|error| {
                let doing = format!("merging the profiles of {} of {}", key.subject, day.day);
                PlatformError::conflict(doing, error.to_string())
            })?,
        }
        parts.push((window, row.revision(0)?, row.text(1)?.to_owned()));
    }
    let Some(sum) = sum else { return Ok(false) };
    let into = sum.profile.window;
    for (window, revision, digest) in parts.into_iter().filter(|(window, ..)| *window != into) {
        let values = values_of(&key, &window);
        let remove = "DELETE FROM profiles WHERE model = $1 AND target = $2 AND version = $3
                      AND window_start = $4 AND window_end = $5";
        session.execute(remove, &values)?;
        let [model, target, version, window_start, window_end] = values;
        let row = [
            ("model", model),
            ("target", target),
            ("version", version),
            ("window_start", window_start),
            ("window_end", window_end),
            ("revision", revision.into()),
            ("digest", digest.into()),
            ("into_start", into.start().into()),
            ("into_end", into.end().into()),
        ];
        insert(session, "merged_profiles", row, "")?;
    }
    add(session, &sum)?;
    Ok(true)
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

    async fn within(&self, query: &ProfileQuery) -> Result<Vec<StoredProfile>, PlatformError> {
        let doing = format!("reading the profiles of {} within {}", query.subject, query.span);
        let query = query.clone();
        self.read(doing, move |session| within(session, &query)).await
    }

    async fn schema(&self, digest: &Sha256Digest) -> Result<Option<ProfileSchema>, PlatformError> {
        let (doing, digest) = (format!("reading the schema {}", digest.short(12)), *digest);
        self.read(doing, move |session| schema(session, &digest)).await
    }

    async fn merge_days(
        &self,
        subject: &Subject,
        until: DateTime<Utc>,
        limit: u32,
    ) -> Result<u32, PlatformError> {
        let doing = format!("merging the profiles of {subject} into days");
        let Some(begun) = Window::day_of(until) else { return Ok(0) };
        let (mut merged, mut last) = (0, None::<Day>);
        while merged < limit {
            let (of, after) = (subject.clone(), last.take());
            let look =
                move |session: &mut dyn Session| days(session, &of, begun.start(), after.as_ref());
            let found = self.read(doing.clone(), look).await?;
            for day in &found {
                let (of, day) = (subject.clone(), day.clone());
                let work = move |session: &mut dyn Session| merge(session, &of, &day);
                merged += u32::from(self.write("merge_days", doing.clone(), work).await?);
                if merged == limit {
                    break;
                }
            }
            match found.into_iter().next_back() {
                Some(day) => last = Some(day),
                None => break,
            }
        }
        Ok(merged)
    }
}
