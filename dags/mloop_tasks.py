"""What the four DAGs share: how a binary of mloop is called from Airflow 3.

A binary's last line of output is one JSON object; it becomes the task's XCom. Its exit code says
what to do: see docs/exit-codes.md. Airflow keeps a return value of successful tasks alone, so both
are also pushed as the XCom `mloop_result`, however the task ended: the job submitter reads it.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from functools import cached_property
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Asset
from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

# What one DAG hands to the next. An event is a wake-up and nothing more: events can be lost or
# come out of order, so the binaries ask the ledger or the registry what there is to do, and every
# DAG that is woken by an asset has a time schedule beside it.
MONITORED = Asset(name="mloop_monitored", uri="mloop://monitored")
STAGING_READY = Asset(name="mloop_staging_ready", uri="mloop://staging-ready")

# Unreachable, lease held by another run, stopped after saving: these may succeed later.
_RETRIED = {30, 31, 143}
# Airflow ended the task, and not the binary itself.
_PASSES = {"AirflowTaskTimeout", "AirflowTaskTerminated"}
_EXIT_CODE = re.compile(r"non-zero exit code (-?\d+)")


class ExitCodeRetryPolicy(RetryPolicy):
    """Retries what may succeed later, and deaths by signal; fails at once on everything else."""

    def evaluate(self, exception, try_number, max_tries, context=None) -> RetryDecision:
        found = _EXIT_CODE.search(str(exception))
        if found is None and type(exception).__name__ in _PASSES:
            return RetryDecision.default()
        if found is None:
            return RetryDecision.fail(reason="nothing that another try would mend")
        code = int(found.group(1))
        if code in _RETRIED or code < 0 or code > 128:
            return RetryDecision.default()
        return RetryDecision.fail(reason=f"exit code {code} does not go away by itself")

    def serialize(self) -> dict[str, Any]:
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> ExitCodeRetryPolicy:
        return cls()


class _Remembering(SubprocessHook):
    """Knows how its command ended."""

    ended = None

    def run_command(self, *args, **kwargs):
        self.ended = super().run_command(*args, **kwargs)
        return self.ended


class BinaryOperator(BashOperator):
    """A command whose exit code and last line are left behind even if they fail or skip the task."""

    @cached_property
    def subprocess_hook(self):
        return _Remembering()

    def execute(self, context):
        try:
            return super().execute(context)
        finally:
            ended = self.subprocess_hook.ended
            if ended is not None:
                left = {"exit_code": ended.exit_code, "result": _object(ended.output)}
                context["ti"].xcom_push(key="mloop_result", value=left)


def _object(line: str) -> dict[str, Any] | None:
    """The last line, if it is one of ours: a binary that was killed leaves any."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def binary(
    task_id: str,
    bash_command: str,
    env: dict[str, str] | None = None,
    skip_on: tuple[int, ...] = (99,),
    tells: Asset | None = None,
    timeout: timedelta = timedelta(hours=1),
) -> BinaryOperator:
    """A task that calls one binary.

    `bash_command` must be a constant: values that come from Airflow (intervals, conf, XComs, asset
    extras) go through `env` and are quoted in the command, so that none of them is ever read as
    shell. `tells` is the asset that the task announces: a wake-up, which names the run and its outcome.
    `timeout` is longer than the binary's own patience, so that it can say how far it came.
    """

    def announce(context, result=None):
        told = {key: (result or {}).get(key) for key in ("run_id", "outcome")}
        context["outlet_events"][tells].extra = told

    return BinaryOperator(
        task_id=task_id,
        bash_command=bash_command,
        env=env or {},
        append_env=True,
        skip_on_exit_code=list(skip_on),
        output_processor=json.loads,
        outlets=[tells] if tells else [],
        post_execute=announce if tells else None,
        retries=3,
        retry_delay=timedelta(minutes=2),
        retry_exponential_backoff=True,
        retry_policy=ExitCodeRetryPolicy(),
        execution_timeout=timeout,
    )
