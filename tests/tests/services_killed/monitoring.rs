//! `monitoring_main`, the Pushgateway and the outbox: one record, one group of metrics, one message. The
//! alarm is then what jobs are submitted for.

use chrono::{DateTime, SecondsFormat, Utc};
use mloop_core::{Clock as _, SystemClock};
use mloop_services::Services;
use serde_json::json;

use crate::dag::Waiting;
use crate::stand::Place::{After, Before, Point};
use crate::stand::{DEPLOY, Place, Stand, TRAIN};
use crate::submission::each_submitter_starts_one_job;
use crate::world::World;

const PUSH: &str = "PUT /metrics/job/*";
const CHAT: &str = "POST /services/*";

/// All acting calls, in their order; what is pushed replaces what was pushed before.
const PLACES: [Place; 20] = [
    Point("ledger.put.before_commit"),
    Point("ledger.put.after_commit"),
    Point("ledger.record_run.before_commit"),
    Point("ledger.record_run.after_commit"),
    Before(PUSH),
    Before(PUSH),
    Before(PUSH),
    Before(PUSH),
    Before(PUSH),
    Before(PUSH),
    After(PUSH),
    After(PUSH),
    After(PUSH),
    After(PUSH),
    After(PUSH),
    Before(CHAT),
    Before(CHAT),
    After(CHAT),
    After(CHAT),
    Point("ledger.delivered.before_commit"),
];

/// The groups that the Pushgateway has of a model.
fn groups(world: &World) -> usize {
    let url = Services::running().pushgateway().url.clone();
    let page = world.ask(&url, &["api", "v1", "metrics"], ("of", "all"));
    let groups = page["data"].as_array().expect("groups").iter();
    groups.filter(|group| group["labels"]["model"] == world.name.as_str()).count()
}

#[test]
fn an_alarm_is_recorded_pushed_and_told_once_and_starts_one_job() {
    let world = World::new("killed-alarm");
    let dag = Waiting::new(&world.name);
    let stand = Stand::of(&world);
    stand.done(TRAIN, &[0]);
    stand.done(DEPLOY, &[0]);
    let hour = world.drifted_traffic(stand.configs());
    let text = |moment: DateTime<Utc>| moment.to_rfc3339_opts(SecondsFormat::Secs, true);
    let ([start, end], as_of) = (hour.map(text), text(SystemClock.now()));
    let window = ["--window-start", &start, "--window-end", &end, "--as-of", &as_of];
    let command =
        [&["monitoring_main", "--config", "monitoring_config.yaml"], &window[..]].concat();

    let last = stand.killed(&command, &PLACES, &[0]);
    assert_eq!(last["outcome"], "alert", "{last}");
    assert_eq!(last["reporter_failures"], json!([]), "{last}");
    let of_monitoring = "SELECT count(*) FROM mloop.runs WHERE kind = 'monitoring'";
    assert_eq!(stand.count(of_monitoring), 1, "one record");
    assert_eq!(stand.count("SELECT count(*) FROM mloop.run_revisions"), 0, "in one revision");
    assert_eq!(groups(&world), 1);
    assert_eq!(stand.messages(), 2, "of the first version and of this window");
    let id = last["run_id"].as_str().expect("an id");
    assert!((1..=4).contains(&world.told(id)), "{} times", world.told(id));

    each_submitter_starts_one_job(&world, &stand, &dag, &as_of);
}
