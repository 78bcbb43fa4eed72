"""Trains, evaluates and registers one version. The submitter of retraining_main (kind `airflow`)
triggers it with conf `{"spec": {…}, "spec_digest": "…"}`; without a job a first version is trained.

Set MLOOP_TRAINING_CONFIG in the workers' environment.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG
from mloop_tasks import STAGING_READY, binary

with DAG(
    dag_id="mloop_training",
    description="Train, evaluate against production, register",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    tags=["mloop"],
):
    # The gate's "rejected" (10) and "inconclusive" (11) are results, not failures: nothing
    # downstream is to run, and nobody is to be paged.
    # The job reaches the binary by the environment and its standard input, so that nothing in it is
    # ever read as shell and no file is left behind.
    binary(
        "train",
        'training_main --config "$MLOOP_TRAINING_CONFIG"'
        ' ${MLOOP_JOB:+--job-file /dev/stdin} <<< "$MLOOP_JOB"',
        env={"MLOOP_JOB": "{{ dag_run.conf['spec'] | tojson if dag_run.conf.get('spec') else '' }}"},
        skip_on=(99, 10, 11),
        tells=STAGING_READY,
        timeout=timedelta(hours=24),
    )
