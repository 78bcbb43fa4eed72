//! What reporters and people get to see of a run.

use super::*;

#[tokio::test]
async fn the_report_that_is_handed_on_is_the_one_that_is_recorded() {
    let world = world().await;
    let recording = Arc::new(RecordingReporter::new("recording", When::Always));
    struct Shared(Arc<RecordingReporter>);
    #[async_trait::async_trait]
    impl Reporter for Shared {
        fn name(&self) -> &str {
            self.0.name()
        }
        fn when(&self) -> When {
            self.0.when()
        }
        async fn report(&self, judged: &Judged) -> Result<(), ReporterError> {
            self.0.report(judged).await
        }
    }
    let monitors = vec![finds("drift", Status::Drifted)];
    let flow = flow(&world, monitors, vec![Box::new(Shared(recording.clone()))]);
    let result = run(&flow, &hour(1)).await;
    let record = world.ledger.run(&result.run_id).await.expect("a run").expect("recorded");
    let recorded: MonitoringReport = serde_json::from_value(record.body).expect("a report");
    assert_eq!(recording.reports(), [recorded]);
}

#[tokio::test]
async fn reporters_get_what_the_monitors_saw_and_the_windows_before() {
    let world = world().await;
    for end in [1, 2] {
        run(&flow(&world, vec![finds("drift", Status::Ok)], vec![]), &hour(end)).await;
    }
    let mut mock = MockReporter::new();
    mock.expect_name().return_const("page".to_owned());
    mock.expect_when().return_const(When::Always);
    mock.expect_messages().once().returning(|_| vec![]);
    mock.expect_page().return_const(None);
    mock.expect_report()
        .once()
        .withf(|judged| {
            let ends = judged.history.iter().map(|one| one.window.bounds.end());
            judged.evidence.current.window == judged.report.window.bounds
                && judged.evidence.reference.digest() == judged.report.reference
                && ends.eq([at(1), at(2)])
        })
        .returning(|_| Ok(()));
    run(&flow(&world, vec![finds("drift", Status::Drifted)], vec![Box::new(mock)]), &hour(3)).await;
}

#[tokio::test]
async fn a_run_is_recalled_with_what_it_looked_at() {
    let world = world().await;
    for (end, status) in [(1, Status::Ok), (2, Status::Drifted)] {
        run(&flow(&world, vec![finds("drift", status)], vec![]), &hour(end)).await;
    }
    let flow = flow(&world, vec![], vec![]);
    let newest = flow.recall(&Which::Newest).await.expect("the newest");
    assert_eq!(newest.report.outcome, MonitoringOutcome::Alert);
    assert_eq!(newest.history.len(), 1);
    let evidence = newest.evidence.expect("it is still there");
    assert_eq!(evidence.current.digest(), newest.report.profile);
    let first = flow.recall(&Which::Window(hour(1).window)).await.expect("the first");
    assert_eq!((first.report.outcome, first.history.len()), (MonitoringOutcome::Ok, 0));
    let by_id = flow.recall(&Which::Run(first.report.run_id.clone())).await.expect("the first");
    assert_eq!(by_id, first);

    // Counted anew, the window is no longer what was judged.
    let mut other = evidence.current.clone();
    other.rows += 1;
    let stored = StoredProfile { profile: other, as_of: at(5), inputs: vec![] };
    let ledger = world.ledger.ledger();
    ledger.profiles.put(&evidence.schema, &stored).await.expect("kept");
    assert_eq!(flow.recall(&Which::Newest).await.expect("the newest").evidence, None);

    let unknown = Which::Run(mloop_core::RunId::derive(&["nobody"]));
    let error = flow.recall(&unknown).await.expect_err("nobody ran it");
    assert_eq!(error.exit_class(), ExitClass::Configuration);
    let unknown = Which::Window(hour(9).window);
    assert!(flow.recall(&unknown).await.expect_err("not judged").to_string().contains("--run"));
}
