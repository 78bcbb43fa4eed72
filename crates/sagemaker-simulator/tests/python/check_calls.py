"""Checks what the simulator was asked and answered against botocore's description of SageMaker.

    check_calls.py URL

Requests by botocore's own validator; requests and answers by a walk over their shapes that takes no
unknown member, no missing one, and nothing outside of its pattern, length, range or enumeration. The
runtime's calls are left out: their bodies are the model's. Prints the number of calls of each operation.
"""

import collections
import json
import re
import sys
import urllib.request

import botocore.session
from botocore.validate import ParamValidator


def walk(shape, value, path, found):
    kind = shape.type_name
    if kind == "structure":
        if not isinstance(value, dict):
            return found.append(f"{path}: not a structure: {value!r}")
        for name in set(value) - set(shape.members):
            found.append(f"{path}: unknown member {name}")
        for name in shape.required_members:
            if value.get(name) is None:
                found.append(f"{path}: {name} is missing")
        for name, inner in value.items():
            if name in shape.members:
                walk(shape.members[name], inner, f"{path}.{name}", found)
    elif kind == "list":
        bounds(shape, len(value), path, found)
        for index, inner in enumerate(value):
            walk(shape.member, inner, f"{path}[{index}]", found)
    elif kind == "map":
        for key, inner in value.items():
            walk(shape.key, key, f"{path} key", found)
            walk(shape.value, inner, f"{path}.{key}", found)
    elif kind == "string":
        if not isinstance(value, str):
            return found.append(f"{path}: not a string: {value!r}")
        bounds(shape, len(value), path, found)
        if shape.enum and value not in shape.enum:
            found.append(f"{path}: {value} is none of the enumeration")
        pattern = shape.metadata.get("pattern")
        # Java's classes of characters, which Python's regular expressions do not have.
        if pattern and "\\p{" not in pattern and not re.fullmatch(pattern, value):
            found.append(f"{path}: {value!r} does not match {pattern}")
    elif kind in ("integer", "long"):
        if not isinstance(value, int) or isinstance(value, bool):
            return found.append(f"{path}: not a whole number: {value!r}")
        bounds(shape, value, path, found)
    elif kind in ("float", "double", "timestamp"):
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            found.append(f"{path}: not a number: {value!r}")
    elif kind == "boolean":
        if not isinstance(value, bool):
            found.append(f"{path}: neither true nor false: {value!r}")
    else:
        found.append(f"{path}: a {kind}, which this check does not know")


def bounds(shape, size, path, found):
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if (least is not None and size < least) or (most is not None and size > most):
        found.append(f"{path}: {size} is not between {least} and {most}")


def check(model, call, found):
    operation = model.operation_model(call["operation"])
    name = call["operation"]
    if call["status"] == 200:
        report = ParamValidator().validate(call["request"], operation.input_shape)
        if report.has_errors():
            found.append(f"{name}: {report.generate_report()}")
        walk(operation.input_shape, call["request"], f"{name} request", found)
        if operation.output_shape is None:
            if call["answer"] is not None:
                found.append(f"{name}: an answer where there is none")
        else:
            walk(operation.output_shape, call["answer"], f"{name} answer", found)
    else:
        kind = call["answer"]["__type"]
        known = {shape.name for shape in operation.error_shapes}
        # What any operation may answer.
        common = {"ValidationException", "ThrottlingException", "ExpiredTokenException",
                  "UnrecognizedClientException", "AccessDeniedException", "InternalFailure",
                  "MissingAuthenticationTokenException", "SerializationException"}
        if kind not in known | common:
            found.append(f"{name}: cannot answer with {kind}")


def main(url):
    with urllib.request.urlopen(f"{url}/simulator/calls") as answer:
        calls = json.load(answer)["calls"]
    model = botocore.session.get_session().get_service_model("sagemaker")
    found, count = [], collections.Counter()
    for call in calls:
        if call["operation"] == "InvokeEndpoint" or call["status"] == 0:
            continue
        count[call["operation"]] += 1
        check(model, call, found)
    for problem in sorted(set(found)):
        sys.stderr.write(problem + "\n")
    sys.stdout.write(json.dumps(count) + "\n")
    sys.exit(1 if found else 0)


main(sys.argv[1])
