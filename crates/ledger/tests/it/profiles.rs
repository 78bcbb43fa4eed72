//! What holds of stored profiles on both databases: rows of older ledgers, sizes, and merges in a race.

use mloop_core::Window;
use mloop_core::profile::StoredProfile;
use mloop_platform::conformance::samples;
use mloop_platform::{Ledger, ProfileQuery};

use crate::place::Place;
use crate::processes::block_on;

async fn all(ledger: &Ledger) -> Vec<StoredProfile> {
    let (subject, span) = (samples::subject("profiles"), week());
    let query = ProfileQuery { subject, version: None, span, after: None, limit: 1000 };
    ledger.profiles.within(&query).await.expect("profiles")
}

fn week() -> Window {
    samples::hour(0).union(&samples::hour(7 * 24))
}

fn profile(hour: i64, rows: u64) -> StoredProfile {
    samples::profile(&samples::subject("profiles"), samples::hour(hour), rows)
}

/// Rows that a release before this one wrote, beside those of this one.
pub(crate) fn rows_of_older_ledgers_are_read(place: &Place) {
    let ledger = place.ledger();
    let (old, new) = (profile(0, 3), profile(1, 4));
    block_on(async {
        for stored in [&old, &new] {
            ledger.profiles.put(&samples::schema(), stored).await.expect("stored");
        }
    });
    assert_eq!(place.count("SELECT count(*) FROM profiles WHERE packed IS NOT NULL"), 2);
    let body = serde_json::to_string(&old).expect("JSON");
    place.execute(&format!("UPDATE profiles SET packed = NULL, body = '{body}' WHERE rows = 3"));
    block_on(async {
        assert_eq!(all(&ledger).await, [old.clone(), new.clone()]);
        let newest = ledger.profiles.newest(&old.profile.key, &samples::hour(0)).await;
        assert_eq!(newest.expect("read"), Some((1, old)));
        let until = samples::hour(24).start();
        let merged = ledger.profiles.merge_days(&new.profile.key.subject, until, 9).await;
        assert_eq!(merged.expect("merged"), 1, "they merge like all others");
        assert_eq!(all(&ledger).await[0].profile.rows, 7);
    });
}

/// Several that merge, while others count the same hours again: each request stands in one profile.
pub(crate) fn merges_in_a_race_count_nothing_twice(place: &Place) {
    block_on(async {
        let first = place.ledger();
        for hour in 0..3 * 24 {
            first.profiles.put(&samples::schema(), &profile(hour, 1)).await.expect("stored");
        }
        let until = samples::hour(3 * 24).start();
        let subject = samples::subject("profiles");
        let merging = (0..4).map(|_| {
            // Each through a connection of its own.
            let (ledger, subject) = (place.ledger(), subject.clone());
            tokio::spawn(async move { ledger.profiles.merge_days(&subject, until, 9).await })
        });
        let counting = (0..2).map(|_| {
            let ledger = place.ledger();
            tokio::spawn(async move {
                for hour in (0..3 * 24).rev() {
                    ledger.profiles.put(&samples::schema(), &profile(hour, 1)).await?;
                }
                Ok(0)
            })
        });
        let all_of_them = merging.chain(counting).collect::<Vec<_>>();
        let mut merged = 0;
        for one in all_of_them {
            merged += one.await.expect("no panic").expect("no failure");
        }
        assert_eq!(merged, 3, "each day was merged once");
        let found: Vec<u64> = all(&first).await.iter().map(|one| one.profile.rows).collect();
        assert_eq!(found, [24; 3]);
    });
    place.assert_sound();
    assert_eq!(place.count("SELECT count(*) FROM merged_profiles"), 72);
}
