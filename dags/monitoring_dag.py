"""Judges every hour of production traffic.

Set MLOOP_MONITORING_CONFIG in the workers' environment.

Hours that passed while the scheduler was down are not run by themselves, so that switching this DAG on
does not start thousands of runs; `airflow backfill create` runs them, and windows older than
`stale_after_hours` are then recorded without waking anybody. Watch the metric
`mloop_monitoring_last_success_timestamp_seconds` to be told that hours are missing.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG, CronDataIntervalTimetable
from mloop_tasks import MONITORED, binary

with DAG(
    dag_id="mloop_monitoring",
    description="Drift, fairness, latency and performance of one hour of traffic",
    # Airflow 3's default cron timetable has an interval of zero length; this one has a real hour.
    schedule=CronDataIntervalTimetable("0 * * * *", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    tags=["mloop"],
):
    binary(
        "monitor",
        'monitoring_main --config "$MLOOP_MONITORING_CONFIG"'
        ' --window-start "$MLOOP_WINDOW_START" --window-end "$MLOOP_WINDOW_END"',
        env={
            "MLOOP_WINDOW_START": "{{ data_interval_start | ts }}",
            "MLOOP_WINDOW_END": "{{ data_interval_end | ts }}",
        },
        tells=MONITORED,
    )
