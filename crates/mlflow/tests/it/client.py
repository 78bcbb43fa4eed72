"""Reads one model by MLflow's own client: URL MODEL KEY FOLDER. The last line is what it saw."""

import hashlib
import json
import math
import pathlib
import sys

import mlflow
from mlflow.tracking import MlflowClient

url, model, key, folder = sys.argv[1:]
mlflow.set_tracking_uri(url)
client = MlflowClient(url)

aliased = client.get_model_version_by_alias(model, "champion")
tagged = client.search_model_versions(
    f"name = '{model}' and tags.`mloop.key` = '{key}' and tags.staging_ready = 'true'"
)
info = mlflow.models.get_model_info(f"models:/{model}@champion")
root = pathlib.Path(
    mlflow.artifacts.download_artifacts(f"models:/{model}@champion", dst_path=folder)
)
run = client.get_run(aliased.run_id)
history = client.get_metric_history(run.info.run_id, "training_loss")
logged = client.get_logged_model(info.model_id)

print(json.dumps({
    "by_alias": aliased.version,
    "by_tag": [version.version for version in tagged],
    "tags": aliased.tags,
    "flavors": info.flavors,
    "inputs": info.signature.inputs.input_names(),
    "outputs": info.signature.outputs.input_names(),
    "files": {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*") if path.is_file()
    },
    "run": {
        "status": run.info.status,
        "params": len(run.data.params),
        "champion": run.data.params["evaluation.champion"],
        "accuracy": run.data.metrics["evaluation/frozen/challenger_accuracy"],
        "datasets": [dataset.dataset.name for dataset in run.inputs.dataset_inputs],
        "outputs": len(run.outputs.model_outputs),
    },
    "history": {
        "steps": sorted(point.step for point in history),
        "nan_at": [point.step for point in history if math.isnan(point.value)],
    },
    "model_status": logged.status.value if hasattr(logged.status, "value") else str(logged.status),
}))
