//! Its stored profiles.

use super::*;

#[async_trait]
impl ProfileStore for InMemoryLedger {
    async fn put(
        &self,
        schema: &ProfileSchema,
        profile: &StoredProfile,
    ) -> Result<u32, PlatformError> {
        let counts = &profile.profile;
        if schema.digest() != counts.schema {
            let doing = format!("storing a profile of {}", counts.key.subject);
            return Err(PlatformError::invalid(doing, "it was counted under another schema"));
        }
        let mut state = lock(&self.state);
        state.schemas.insert(counts.schema, schema.clone());
        let key = (counts.key.clone(), counts.window);
        if let Some((revision, _)) = state.merged.get(&key)
            && !self.has(LedgerFault::ReopensWindows)
        {
            return Ok(*revision);
        }
        let revisions = state.profiles.entry(key).or_default();
        if self.has(LedgerFault::OverwritesProfiles) {
            revisions.clear();
        }
        if revisions.last().is_none_or(|newest| newest.profile != *counts) {
            revisions.push(profile.clone());
        }
        Ok(revisions.len() as u32)
    }

    async fn newest(
        &self,
        key: &ProfileKey,
        window: &Window,
    ) -> Result<Option<(u32, StoredProfile)>, PlatformError> {
        let state = lock(&self.state);
        let revisions = state.profiles.get(&(key.clone(), *window));
        Ok(revisions.and_then(|all| Some((all.len() as u32, all.last()?.clone()))))
    }

    async fn within(&self, query: &ProfileQuery) -> Result<Vec<StoredProfile>, PlatformError> {
        let state = lock(&self.state);
        let asked = |profile: &&StoredProfile| {
            let Profile { key, window, .. } = &profile.profile;
            key.subject == query.subject
                && query.version.is_none_or(|version| version == key.version)
                && query.span.covers(window)
                && query.after.is_none_or(|after| self.is_after(&profile.profile, after))
        };
        let newest = state.profiles.values().filter_map(|revisions| revisions.last());
        let mut found: Vec<StoredProfile> = newest.filter(asked).cloned().collect();
        found.sort_by_key(|stored| ProfilePlace::of(&stored.profile));
        found.truncate(query.limit as usize);
        Ok(found)
    }

    async fn schema(&self, digest: &Sha256Digest) -> Result<Option<ProfileSchema>, PlatformError> {
        Ok(lock(&self.state).schemas.get(digest).cloned())
    }

    async fn merge_days(
        &self,
        subject: &Subject,
        until: DateTime<Utc>,
        limit: u32,
    ) -> Result<u32, PlatformError> {
        let mut state = lock(&self.state);
        let mut days: BTreeMap<(Window, ProfileKey, Sha256Digest), Vec<_>> = BTreeMap::new();
        for ((key, window), revisions) in &state.profiles {
            let (Some(day), Some(newest)) = (Window::day_of(window.start()), revisions.last())
            else {
                continue;
            };
            if key.subject == *subject && day.covers(window) && day.end() <= until {
                let group = (day, key.clone(), newest.profile.schema);
                let into = |(of, (_, into)): (&(ProfileKey, _), &(u32, Window))| {
                    of.0 == *key && into == window
                };
                let merged = state.merged.iter().any(into);
                days.entry(group).or_default().push((*window, merged));
            }
        }
        let mut made = 0;
        for ((_, key, _), windows) in days {
            let parts = match self.has(LedgerFault::MergesOverlaps) {
                true => windows.iter().map(|(window, _)| *window).collect(),
                false => mergeable(&windows),
            };
            if parts.len() >= 2 && made < limit {
                state.merge(&key, &parts)?;
                made += 1;
            }
        }
        Ok(made)
    }
}
