//! `retraining_main` and who trains: one run of a DAG, one Job, one training job.

use mloop_core::episode::JobState;
use mloop_services::Services;
use serde_json::json;

use crate::cluster::Cluster;
use crate::configured::{airflow, sagemaker};
use crate::dag::Waiting;
use crate::database::Database;
use crate::stand::Place::{After, Before, Point};
use crate::stand::{Acting, Place, Stand, block_on};
use crate::trap::Call;
use crate::world::World;

const CHAT: &str = "POST /services/*";

/// All acting calls of a run that submits, in their order; the submission over and over, before its effect
/// and between its effect and the ledger's knowing of it.
fn places(submit: Call) -> [Place; 22] {
    [
        Point("ledger.acquire.after_commit"),
        Point("ledger.save_episode.before_commit"),
        Point("ledger.save_episode.after_commit"),
        Point("retraining.intent"),
        Before(submit),
        Before(submit),
        Before(submit),
        Before(submit),
        Before(submit),
        After(submit),
        Point("ledger.save_episode.before_commit"),
        Point("ledger.save_episode.before_commit"),
        Point("ledger.save_episode.before_commit"),
        Point("ledger.save_episode.before_commit"),
        Point("ledger.save_episode.before_commit"),
        Point("ledger.save_episode.after_commit"),
        Before(CHAT),
        After(CHAT),
        Point("ledger.record_run.before_commit"),
        Point("ledger.record_run.before_commit"),
        Point("ledger.record_run.before_commit"),
        Point("retraining.recorded"),
    ]
}

/// Submits, killed at each place, and looks at what the ledger and people know; gives the job's id.
fn started_once(
    stand: &Stand<'_>,
    submit: Call,
    effects: impl Fn() -> usize,
    as_of: &str,
) -> String {
    let before = stand.messages();
    let command = ["retraining_main", "--config", "retrain_config.yaml", "--as-of", as_of];
    let journal = stand.ledger().journal;
    // With the outcome the message is queued that tells of it.
    let is_noted = || {
        let episodes = block_on(journal.episodes(&stand.subject())).expect("readable");
        episodes.first().is_some_and(|one| one.job.state != JobState::Submitting)
    };
    let acting = Acting { effects: &effects, is_noted: &is_noted, least_between: 5 };
    let last = stand.killed_about(&acting, &command, &places(submit), &[0]);
    let of_retraining = "SELECT count(*) FROM mloop.runs WHERE kind = 'retraining'";
    assert_eq!(stand.count(of_retraining), 1, "{submit}: one record");
    assert_eq!(stand.messages(), before + 1, "{submit}: one message");
    let episodes = block_on(journal.episodes(&stand.subject())).expect("readable");
    let [episode] = episodes.as_slice() else { panic!("{submit}: {} episodes", episodes.len()) };
    let (job, is_told) = (&episode.job, episode.announced);
    assert_eq!((job.state, job.submissions, is_told), (JobState::Submitted, 1, true), "{submit}");
    assert_eq!(last["job_id"], json!(job.id), "{submit}: {last}");
    job.id.to_string()
}

/// The same alarm, each time with a ledger of its own.
pub(crate) fn each_submitter_starts_one_job(
    world: &World,
    alarmed: &Stand<'_>,
    dag: &Waiting,
    as_of: &str,
) {
    let name = alarmed.database.as_str();
    let copies: Vec<Database> = ["airflow", "kubernetes", "sagemaker"]
        .map(|submitter| Database::copy_of(name, &format!("{name}_{submitter}")))
        .into();
    let [for_airflow, for_kubernetes, for_sagemaker] = copies.as_slice() else { panic!("three") };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            dag.wait_until_known();
            let stand = Stand::new(world, "airflow", &for_airflow.name, |at| {
                airflow(&at(&Services::running().airflow().url), &dag.id)
            });
            let submit = format!("POST /api/v2/dags/{}/dagRuns", dag.id);
            let submit = Box::leak(submit.into_boxed_str());
            let job = started_once(&stand, submit, || dag.runs().len(), as_of);
            assert_eq!(dag.runs(), [job]);
        });
        scope.spawn(|| {
            let cluster = Cluster::new();
            let stand = Stand::new(world, "kubernetes", &for_kubernetes.name, |at| {
                let url = at(&format!("http://{}", cluster.address()));
                let settings = cluster.settings_at(&url);
                format!("  {}\n", json!({"kind": "kubernetes", "settings": settings}))
            });
            let submit = "POST /apis/batch/v1/namespaces/ml/jobs";
            let job = started_once(&stand, submit, || cluster.made(), as_of);
            assert_eq!((cluster.made(), cluster.jobs()), (1, vec![format!("mloop-{job}")]));
        });
        scope.spawn(|| {
            let stand =
                Stand::new(world, "sagemaker", &for_sagemaker.name, |at| sagemaker(world, at));
            let effects = || world.effects("CreateTrainingJob");
            started_once(&stand, "CreateTrainingJob", effects, as_of);
            assert_eq!(effects(), 1);
        });
    });
    // All three have the same cause, and its message the same text.
    let heard = world.told("submitted as");
    assert!((3..=6).contains(&heard), "{heard} times");
}
