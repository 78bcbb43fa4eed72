//! The rules of stored profiles.

use super::*;

pub(super) async fn profiles_have_revisions(profiles: &dyn ProfileStore) {
    let (subject, schema) = (samples::subject("profiles"), samples::schema());
    let few = samples::profile(&subject, samples::hour(0), 10);
    let more = samples::profile(&subject, samples::hour(0), 12);
    let key = &few.profile.key;
    let none = profiles.newest(key, &samples::hour(0)).await.expect("an answer");
    assert_eq!(none, None, "not counted yet");
    assert_eq!(profiles.put(&schema, &few).await.expect("stored"), 1, "the first revision");
    let mut later = few.clone();
    later.as_of += TimeDelta::hours(1);
    assert_eq!(profiles.put(&schema, &later).await.expect("stored"), 1, "equal counts");
    assert_eq!(profiles.put(&schema, &more).await.expect("stored"), 2, "a new revision");
    let newest = profiles.newest(key, &samples::hour(0)).await.expect("an answer");
    assert_eq!(newest, Some((2, more.clone())), "the newest revision");
    let other_hour = profiles.newest(key, &samples::hour(1)).await.expect("an answer");
    assert_eq!(other_hour, None, "another window");
    let mut other_bins = schema;
    other_bins.classes.reverse();
    let refusal = profiles.put(&other_bins, &more).await.expect_err("another schema");
    assert!(matches!(refusal, PlatformError::Invalid { .. }), "{refusal:?}");
}

/// All profiles of a subject, page by page of so many.
async fn all_within(profiles: &dyn ProfileStore, query: &ProfileQuery) -> Vec<StoredProfile> {
    let (mut query, mut all) = (query.clone(), vec![]);
    loop {
        let page = profiles.within(&query).await.expect("a page");
        assert!(page.len() <= query.limit as usize, "no more than the limit");
        let Some(last) = page.last() else { return all };
        query.after = Some(ProfilePlace::of(&last.profile));
        all.extend(page);
    }
}

fn everything(subject: &Subject, limit: u32) -> ProfileQuery {
    let span = samples::hour(-1000).union(&samples::hour(1000));
    ProfileQuery { subject: subject.clone(), version: None, span, after: None, limit }
}

pub(super) async fn profiles_are_read_in_pages(profiles: &dyn ProfileStore) {
    let (subject, schema) = (samples::subject("pages"), samples::schema());
    let of = |version: u64, hour, rows| {
        let mut stored = samples::profile(&subject, samples::hour(hour), rows);
        stored.profile.key.version = samples::version(version).version.digest;
        stored
    };
    let mut expected = vec![of(1, 0, 9), of(1, 1, 1), of(2, 1, 2), of(1, 2, 3), of(2, 3, 4)];
    // An earlier revision of the first, and what is another loop's.
    let stranger = samples::profile(&samples::subject("elsewhere"), samples::hour(1), 7);
    for stored in [&of(1, 0, 5), &stranger].into_iter().chain(&expected) {
        profiles.put(&schema, stored).await.expect("stored");
    }
    expected.sort_by_key(|stored| ProfilePlace::of(&stored.profile));
    let query = everything(&subject, 10);
    assert_eq!(
        profiles.within(&query).await.expect("a page"),
        expected,
        "newest revisions in order"
    );
    for limit in 1..=3 {
        let found = all_within(profiles, &ProfileQuery { limit, ..query.clone() }).await;
        assert_eq!(found, expected, "each once, by pages of {limit}");
    }
    let only = ProfileQuery { version: Some(samples::version(2).version.digest), ..query.clone() };
    let found = profiles.within(&only).await.expect("a page");
    assert!(
        found.len() == 2 && found.iter().all(|one| Some(one.profile.key.version) == only.version)
    );
    let span = samples::hour(1).union(&samples::hour(2));
    let found = profiles.within(&ProfileQuery { span, ..query }).await.expect("a page");
    assert_eq!(found, expected[1..4], "those that lie within the span");
    let digest = schema.digest();
    assert_eq!(profiles.schema(&digest).await.expect("an answer"), Some(schema), "by its digest");
    let unknown = Sha256Digest::of(b"no schema");
    assert_eq!(profiles.schema(&unknown).await.expect("an answer"), None, "there is none");
}

pub(super) async fn hours_merge_into_days(profiles: &dyn ProfileStore) {
    let (subject, schema) = (samples::subject("days"), samples::schema());
    let mut hours: Vec<StoredProfile> = (0..30i64)
        .map(|hour| samples::profile(&subject, samples::hour(hour), 10 + hour.unsigned_abs()))
        .collect();
    // In an order of their own, and the first in two revisions.
    profiles.put(&schema, &samples::profile(&subject, samples::hour(0), 1)).await.expect("stored");
    for index in (0..30).map(|index| index * 7 % 30) {
        profiles.put(&schema, &hours[index]).await.expect("stored");
    }
    let ended = samples::hour(24).start();
    let merge =
        async |until, limit| profiles.merge_days(&subject, until, limit).await.expect("merged");
    assert_eq!(merge(ended - TimeDelta::seconds(1), 9).await, 0, "the day has not ended");
    assert_eq!(merge(ended, 0).await, 0, "no more than the limit");
    assert_eq!(merge(ended + TimeDelta::hours(20), 9).await, 1, "of whole days alone");
    let mut day = hours[7].clone();
    for hour in (0..24).rev().filter(|hour| *hour != 7) {
        day.merge(&hours[hour]).expect("one schema");
    }
    let query = everything(&subject, 100);
    let found = profiles.within(&query).await.expect("a page");
    let expected: Vec<StoredProfile> = [vec![day.clone()], hours.split_off(24)].concat();
    let digests = |all: &[StoredProfile]| -> Vec<Sha256Digest> {
        all.iter().map(|stored| stored.profile.digest()).collect()
    };
    assert_eq!(
        digests(&found),
        digests(&expected),
        "the day is the sum of its hours, in any order"
    );
    assert_eq!(found, expected, "with the files of all, as of the last");
    assert_eq!(merge(ended, 9).await, 0, "a repeat finds it done");

    let again = samples::profile(&subject, samples::hour(3), 1_000);
    assert_eq!(
        profiles.put(&schema, &again).await.expect("closed"),
        1,
        "the revision that was merged"
    );
    let found = profiles.within(&query).await.expect("a page");
    assert_eq!(found, expected, "a window that was merged does not come back");
    let key = &day.profile.key;
    let newest = profiles.newest(key, &samples::hour(3)).await.expect("an answer");
    assert_eq!(newest, None, "it is part of its day");
    let newest = profiles.newest(key, &day.profile.window).await.expect("an answer");
    assert_eq!(newest, Some((1, day)), "which is there");
}

pub(super) async fn only_windows_apart_are_merged(profiles: &dyn ProfileStore) {
    let (subject, schema) = (samples::subject("apart"), samples::schema());
    let of = |from, upto, rows| {
        let window = samples::hour(from).union(&samples::hour(upto));
        samples::profile(&subject, window, rows)
    };
    // By hours, and two of them once more as one; a window over midnight; another version's.
    let mut stranger = of(4, 4, 7);
    stranger.profile.key.version = samples::version(2).version.digest;
    let (longer, night) = (of(0, 1, 3), of(23, 24, 5));
    for stored in [&of(0, 0, 1), &of(1, 1, 2), &longer, &of(5, 5, 4), &night, &stranger] {
        profiles.put(&schema, stored).await.expect("stored");
    }
    let until = samples::hour(48).start();
    assert_eq!(profiles.merge_days(&subject, until, 9).await.expect("merged"), 1);
    let query = everything(&subject, 10);
    let found = profiles.within(&query).await.expect("a page");
    let rows: Vec<u64> = found.iter().map(|stored| stored.profile.rows).collect();
    assert_eq!(rows, [3, 7, 7, 5], "no request is counted twice in one profile");
    // An hour that comes late joins the day.
    profiles.put(&schema, &of(8, 8, 10)).await.expect("stored");
    assert_eq!(profiles.merge_days(&subject, until, 9).await.expect("merged"), 1, "a late hour");
    let found = profiles.within(&query).await.expect("a page");
    let rows: Vec<u64> = found.iter().map(|stored| stored.profile.rows).collect();
    assert_eq!(rows, [3, 7, 17, 5], "one profile a day");
}
