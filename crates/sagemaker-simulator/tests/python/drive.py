"""A client that nobody here wrote goes through the simulator: boto3, with its own waiters.

    drive.py SIMULATOR BUCKET KEY_OF_THE_FIRST KEY_OF_THE_SECOND DIGEST_OF_THE_FIRST DIGEST_OF_THE_SECOND BODY
"""

import json
import sys
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, WaiterError

url, bucket, *keys = sys.argv[1:5]
digests, body = sys.argv[5:7], sys.argv[7]
same = dict(region_name="us-east-1", endpoint_url=url, aws_access_key_id="test",
            aws_secret_access_key="test", config=Config(retries={"total_max_attempts": 1}))
sagemaker = boto3.client("sagemaker", **same)
runtime = boto3.client("sagemaker-runtime", **same)
quickly = {"Delay": 0.05, "MaxAttempts": 400}
role = "arn:aws:iam::123456789012:role/boto3"


def fault(**content):
    data = json.dumps(content).encode()
    urllib.request.urlopen(urllib.request.Request(f"{url}/simulator/faults", data, method="POST"))


def refused(code, part, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        said = error.response["Error"]
        assert said["Code"] == code and part in said["Message"], said
        return
    raise AssertionError(f"{arguments} was not refused")


def answered_by():
    answer = runtime.invoke_endpoint(EndpointName="boto3", ContentType="application/json",
                                     Body=body, CustomAttributes="site=north", InferenceId="case-1")
    assert answer["InvokedProductionVariant"] == "only", answer
    content = json.load(answer["Body"])
    assert content["attributes"] == {"site": "north"}, content
    return answer["CustomAttributes"].removeprefix("mloop-digest=")


def wait():
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="boto3", WaiterConfig=quickly)
    return sagemaker.describe_endpoint(EndpointName="boto3")


# What is not there.
refused("ValidationException", "Could not find endpoint", sagemaker.describe_endpoint,
        EndpointName="boto3")
refused("ValidationException", "Could not find model", sagemaker.create_endpoint_config,
        EndpointConfigName="first", ProductionVariants=[{
            "VariantName": "only", "ModelName": "first", "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 1}])
refused("ValidationException", "Could not find endpoint configuration", sagemaker.create_endpoint,
        EndpointName="boto3", EndpointConfigName="first")
refused("ValidationError", "not found", runtime.invoke_endpoint, EndpointName="boto3", Body=body)

for name, key in zip(("first", "second"), keys):
    model = dict(ModelName=name, ExecutionRoleArn=role, PrimaryContainer={
        "Image": "image:latest", "ModelDataUrl": f"s3://{bucket}/{key}"})
    sagemaker.create_model(**model)
    refused("ValidationException", "Cannot create already existing model", sagemaker.create_model, **model)
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[{
        "VariantName": "only", "ModelName": name, "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1}])

# Create, wait, ask.
sagemaker.create_endpoint(EndpointName="boto3", EndpointConfigName="first")
assert sagemaker.describe_endpoint(EndpointName="boto3")["EndpointStatus"] == "Creating"
refused("ValidationException", "Cannot update in-progress endpoint", sagemaker.update_endpoint,
        EndpointName="boto3", EndpointConfigName="second")
assert wait()["EndpointConfigName"] == "first"
assert answered_by() == digests[0]
refused("ValidationException", "Cannot create already existing endpoint", sagemaker.create_endpoint,
        EndpointName="boto3", EndpointConfigName="first")

# Update.
sagemaker.update_endpoint(EndpointName="boto3", EndpointConfigName="second")
found = sagemaker.describe_endpoint(EndpointName="boto3")
assert found["EndpointStatus"] == "Updating", found
assert found["PendingDeploymentSummary"]["EndpointConfigName"] == "second", found
assert answered_by() == digests[0], "the old version answers until the new one is there"
assert wait()["EndpointConfigName"] == "second"
assert answered_by() == digests[1]

# A silent rollback: boto3's own waiter calls it a success.
fault(fault="silent_rollback", endpoint="boto3")
sagemaker.update_endpoint(EndpointName="boto3", EndpointConfigName="first")
found = wait()
assert found["EndpointConfigName"] == "second" and "FailureReason" not in found, found
assert answered_by() == digests[1]

# What the container refuses.
try:
    runtime.invoke_endpoint(EndpointName="boto3", ContentType="application/json", Body="no image")
    raise AssertionError("an image was expected")
except ClientError as error:
    assert error.response["Error"]["Code"] == "ModelError", error.response
    assert error.response["OriginalStatusCode"] == 400, error.response

# Throttling, a lost answer, and a creation that fails.
fault(fault="throttle", operation="DescribeEndpoint")
refused("ThrottlingException", "Rate exceeded", sagemaker.describe_endpoint, EndpointName="boto3")
names = [one["EndpointName"] for page in sagemaker.get_paginator("list_endpoints").paginate()
         for one in page["Endpoints"]]
assert names == ["boto3"], names
fault(fault="failed", endpoint="broken", reason="no capacity")
sagemaker.create_endpoint(EndpointName="broken", EndpointConfigName="first")
try:
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="broken", WaiterConfig=quickly)
    raise AssertionError("it cannot be in service")
except WaiterError as error:
    assert error.last_response["FailureReason"] == "no capacity", error.last_response

# Delete.
for name in ("boto3", "broken"):
    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig=quickly)
for name in ("first", "second"):
    sagemaker.delete_endpoint_config(EndpointConfigName=name)
    sagemaker.delete_model(ModelName=name)

# A training job.
job = dict(
    TrainingJobName="boto3", RoleArn=role,
    AlgorithmSpecification={"TrainingImage": "image:latest", "TrainingInputMode": "File"},
    OutputDataConfig={"S3OutputPath": f"s3://{bucket}/boto3"},
    ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
    StoppingCondition={"MaxRuntimeInSeconds": 60})
refused("ValidationException", "Requested resource not found", sagemaker.describe_training_job,
        TrainingJobName="boto3")
sagemaker.create_training_job(**job)
refused("ResourceInUse", "must be unique", sagemaker.create_training_job, **job)
sagemaker.get_waiter("training_job_completed_or_stopped").wait(
    TrainingJobName="boto3", WaiterConfig=quickly)
found = sagemaker.describe_training_job(TrainingJobName="boto3")
assert found["TrainingJobStatus"] == "Completed", found
refused("ValidationException", "in status Completed", sagemaker.stop_training_job,
        TrainingJobName="boto3")
sys.stdout.write("passed\n")
