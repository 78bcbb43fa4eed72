//! Leases: rows that expire by the database's own clock.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat};
use mloop_platform::{Lease, Leases, PlatformError};

use crate::error::Failure;
use crate::session::{Session, first};
use crate::store::{Store, Views};

/// Longest lease, seconds: beyond a year dates and people's patience end.
const LONGEST: f64 = 366.0 * 86_400.0;

/// A lease as it stands.
#[derive(Debug, Clone, PartialEq)]
struct Held {
    holder: Option<String>,
    fence: u64,
    /// Seconds since 1970, as is `now`.
    expires_at: f64,
    now: f64,
}

/// Reads a lease, and keeps everybody else from changing it until this transaction ends.
fn held(session: &mut dyn Session, name: &str) -> Result<Option<Held>, Failure> {
    session.lock(&format!("lease {name}"))?;
    let now = session.dialect().now();
    let sql = format!("SELECT holder, fence, expires_at, {now} FROM leases WHERE name = $1");
    let Some(row) = first(session, &sql, &[name.into()])? else { return Ok(None) };
    let holder = row.optional_text(0)?.map(str::to_owned);
    let (fence, expires_at, now) = (row.count(1)?, row.real(2)?, row.real(3)?);
    Ok(Some(Held { holder, fence, expires_at, now }))
}

/// The number under which `holder` may have the lease; who has it else.
fn decide(held: Option<Held>, name: &str, holder: &str) -> Result<u64, PlatformError> {
    let Some(held) = held else { return Ok(1) };
    match held.holder {
        Some(other) if other == holder => Ok(held.fence),
        Some(other) if held.expires_at > held.now => Err(PlatformError::LeaseHeld {
            name: name.to_owned(),
            holder: other,
            until: moment(held.expires_at),
        }),
        _ => Ok(held.fence + 1),
    }
}

/// RFC 3339, to the millisecond.
fn moment(seconds: f64) -> String {
    let millis = (seconds * 1000.0) as i64;
    DateTime::from_timestamp_millis(millis)
        .map_or_else(String::new, |at| at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// Refuses a lease that another holder has taken or that was given back. One that merely expired
/// is still ours: nobody else can have acted. Nobody can take it before this transaction ends.
pub(crate) fn check_fence(session: &mut dyn Session, lease: &Lease) -> Result<(), Failure> {
    let found = held(session, &lease.name)?;
    let ours = found.is_some_and(|held| {
        held.fence == lease.fence && held.holder.as_deref() == Some(lease.holder.as_str())
    });
    if ours {
        return Ok(());
    }
    Err(PlatformError::LeaseLost { name: lease.name.clone(), fence: lease.fence }.into())
}

fn acquire(
    session: &mut dyn Session,
    name: &str,
    holder: &str,
    ttl: Duration,
) -> Result<Lease, Failure> {
    let fence = decide(held(session, name)?, name, holder)?;
    let now = session.dialect().now();
    let sql = format!(
        "INSERT INTO leases (name, holder, fence, expires_at) VALUES ($1, $2, $3, {now} + $4)
         ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, fence = excluded.fence,
         expires_at = excluded.expires_at"
    );
    session.execute(&sql, &[name.into(), holder.into(), fence.into(), seconds(ttl).into()])?;
    Ok(Lease { name: name.to_owned(), holder: holder.to_owned(), fence })
}

fn extend(session: &mut dyn Session, lease: &Lease, ttl: Duration) -> Result<(), Failure> {
    let now = session.dialect().now();
    let sql = format!("UPDATE leases SET expires_at = {now} + $2 WHERE name = $1");
    session.execute(&sql, &[(&lease.name).into(), seconds(ttl).into()])
}

fn seconds(ttl: Duration) -> f64 {
    ttl.as_secs_f64().min(LONGEST)
}

fn release(session: &mut dyn Session, lease: &Lease) -> Result<(), Failure> {
    session.lock(&format!("lease {}", lease.name))?;
    let sql = "UPDATE leases SET holder = NULL WHERE name = $1 AND holder = $2 AND fence = $3";
    session.execute(sql, &[(&lease.name).into(), (&lease.holder).into(), lease.fence.into()])
}

#[async_trait]
impl<S: Store> Leases for Views<S> {
    async fn acquire(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Lease, PlatformError> {
        let doing = format!("taking the lease `{name}`");
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.write("acquire", doing, move |session| acquire(session, &name, &holder, ttl)).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<(), PlatformError> {
        let (doing, lease) = (format!("renewing the lease `{}`", lease.name), lease.clone());
        let renew = move |session: &mut dyn Session| {
            check_fence(session, &lease)?;
            extend(session, &lease, ttl)
        };
        self.write("renew", doing, renew).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), PlatformError> {
        let (doing, lease) = (format!("giving back the lease `{}`", lease.name), lease.clone());
        self.write("release", doing, move |session| release(session, &lease)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_goes_to_its_holder_or_to_the_next_when_it_is_free() {
        let held = |holder: Option<&str>, expires_at: f64| {
            Some(Held { holder: holder.map(str::to_owned), fence: 4, expires_at, now: 100.0 })
        };
        let cases = [
            ("never taken", None, Some(1)),
            ("ours", held(Some("us"), 101.0), Some(4)),
            ("ours, expired", held(Some("us"), 99.0), Some(4)),
            ("given back", held(None, 101.0), Some(5)),
            ("another's, expired", held(Some("them"), 99.0), Some(5)),
            ("another's, expired just now", held(Some("them"), 100.0), Some(5)),
            ("another's", held(Some("them"), 100.001), None),
        ];
        for (case, held, expected) in cases {
            assert_eq!(decide(held, "lease", "us").ok(), expected, "{case}");
        }
        let refusal = decide(held(Some("them"), 1_772_323_200.25), "lease", "us");
        let told = refusal.expect_err("another's").to_string();
        assert!(told.contains("held by them until 2026-03-01T00:00:00.250Z"), "{told}");
    }
}
