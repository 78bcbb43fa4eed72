"""moto with its check of signatures and permissions, for one test: prints one line of JSON once it listens,
and ends when its standard input does.

The bench's moto takes any signature. This one takes none but those of its users: `reader` may list and read
the bucket `kept` below `captured/`, `stranger` may nothing.
"""

import json
import os
import sys

# How many of the calls below need no permission; all later ones do.
CALLS = 9
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = str(CALLS)

import boto3
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
url = f"http://{host}:{port}"
made = {"endpoint_url": url, "region_name": "us-east-1", "aws_access_key_id": "root",
        "aws_secret_access_key": "root"}
s3, iam = boto3.client("s3", **made), boto3.client("iam", **made)

s3.create_bucket(Bucket="kept")
s3.put_object(Bucket="kept", Key="captured/a.jsonl", Body=b"0123456789")
s3.put_object(Bucket="kept", Key="secret/b.jsonl", Body=b"no")
users = {}
for name in ("reader", "stranger"):
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    users[name] = [key["AccessKeyId"], key["SecretAccessKey"]]
policy = {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::kept"},
    {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::kept/captured/*"},
]}
iam.put_user_policy(UserName="reader", PolicyName="reading", PolicyDocument=json.dumps(policy))
print(json.dumps({"url": url, "users": users}), flush=True)
sys.stdin.read()
