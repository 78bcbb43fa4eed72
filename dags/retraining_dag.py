"""Decides after every judged window whether to retrain, and starts at most one job for a cause.

Set MLOOP_RETRAIN_CONFIG in the workers' environment.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG, CronTriggerTimetable
from airflow.sdk.definitions.timetables.assets import AssetOrTimeSchedule
from mloop_tasks import MONITORED, binary

with DAG(
    dag_id="mloop_retraining",
    description="Retrain? One job for one cause",
    # The clock beside the asset: events can be lost, and finished jobs have to be noticed.
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("20 * * * *", timezone="UTC"), assets=[MONITORED]
    ),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    tags=["mloop"],
):
    # A DAG that an asset wakes has no data interval: the run's own time is what counts as now.
    binary(
        "retrain",
        'retraining_main --config "$MLOOP_RETRAIN_CONFIG" --as-of "$MLOOP_AS_OF"',
        env={"MLOOP_AS_OF": "{{ dag_run.run_after | ts }}"},
    )
