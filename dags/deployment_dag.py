"""Brings the newest blessed version to production: staging, smoke tests, switch.

Set MLOOP_DEPLOYMENT_CONFIG in the workers' environment.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, CronTriggerTimetable
from airflow.sdk.definitions.timetables.assets import AssetOrTimeSchedule
from mloop_tasks import STAGING_READY, binary

with DAG(
    dag_id="mloop_deployment",
    description="Staging, smoke tests, switch",
    # The asset only wakes this DAG: which version goes is asked of the registry, so that a lost or
    # late event costs half an hour at most and never deploys an old version. Training jobs outside
    # of Airflow emit no event at all.
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("*/30 * * * *", timezone="UTC"), assets=[STAGING_READY]
    ),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    tags=["mloop"],
):
    # The time of the DAG's run names the run of each task: tried again or cleared, a task is the same
    # run and says the same again, while the next schedule starts runs of its own.
    deploy = binary(
        "deploy",
        'deployment_main deploy --config "$MLOOP_DEPLOYMENT_CONFIG" --as-of "$MLOOP_AS_OF"',
        env={"MLOOP_AS_OF": "{{ dag_run.run_after | ts }}"},
        timeout=timedelta(hours=3),
    )
    smoke_test = binary(
        "smoke_test",
        'deployment_main smoke-test --config "$MLOOP_DEPLOYMENT_CONFIG" --as-of "$MLOOP_AS_OF"',
        env={"MLOOP_AS_OF": "{{ dag_run.run_after | ts }}"},
    )
    switch = binary(
        "switch_to_production",
        'deployment_main switch-to-production --config "$MLOOP_DEPLOYMENT_CONFIG"'
        ' --as-of "$MLOOP_AS_OF"',
        env={"MLOOP_AS_OF": "{{ dag_run.run_after | ts }}"},
        timeout=timedelta(hours=3),
    )
    deploy >> smoke_test >> switch
