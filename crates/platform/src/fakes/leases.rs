//! The leases of the ledger in memory: pure rules over a map, given the time.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

use super::LedgerFault;
use crate::{Lease, PlatformError};

/// A lease as it stands; it stays when it is given back, so that its number goes on.
pub(super) struct Held {
    holder: Option<String>,
    fence: u64,
    until: DateTime<Utc>,
}

#[derive(Default)]
pub(super) struct LeaseTable(BTreeMap<String, Held>);

impl LeaseTable {
    pub(super) fn acquire(
        &mut self,
        name: &str,
        holder: &str,
        now: DateTime<Utc>,
        ttl: Duration,
        fault: Option<LedgerFault>,
    ) -> Result<Lease, PlatformError> {
        let before = self.0.get(name);
        let others = before.filter(|held| held.holder.as_deref() != Some(holder));
        if let Some(Held { holder: Some(other), until, .. }) = others
            && *until > now
            && fault != Some(LedgerFault::GrantsTwice)
        {
            return Err(PlatformError::LeaseHeld {
                name: name.to_owned(),
                holder: other.clone(),
                until: until.to_rfc3339_opts(SecondsFormat::Millis, true),
            });
        }
        let last = before.map_or(0, |held| held.fence);
        let is_ours = before.is_some() && others.is_none();
        let goes_on = !is_ours && (last == 0 || fault != Some(LedgerFault::RepeatsFences));
        let fence = last + u64::from(goes_on);
        self.0.insert(
            name.to_owned(),
            Held { holder: Some(holder.to_owned()), fence, until: now + ttl },
        );
        Ok(Lease { name: name.to_owned(), holder: holder.to_owned(), fence })
    }

    pub(super) fn renew(
        &mut self,
        lease: &Lease,
        now: DateTime<Utc>,
        ttl: Duration,
    ) -> Result<(), PlatformError> {
        self.ours(lease)?.until = now + ttl;
        Ok(())
    }

    pub(super) fn release(&mut self, lease: &Lease) {
        if let Ok(held) = self.ours(lease) {
            held.holder = None;
        }
    }

    /// The lease, unless another holder has taken it or it was given back. One that merely expired
    /// is still ours: nobody else can have acted.
    pub(super) fn ours(&mut self, lease: &Lease) -> Result<&mut Held, PlatformError> {
        let held = self.0.get_mut(&lease.name).filter(|held| {
            held.fence == lease.fence && held.holder.as_deref() == Some(lease.holder.as_str())
        });
        held.ok_or_else(|| PlatformError::LeaseLost {
            name: lease.name.clone(),
            fence: lease.fence,
        })
    }
}
