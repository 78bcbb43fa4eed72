"""Tells what each DAG calls: one JSON object a task, read from the source without Airflow.

Usage: commands.py FOLDER
"""

from __future__ import annotations

import ast
import json
import pathlib
import re
import sys


def constant(node: ast.expr, where: str):
    """The value of a constant, or of a dict of constants."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        sys.exit(f"{where}: {ast.unparse(node)} is no constant")


def task(call: ast.Call, where: str) -> dict:
    """What one call of `binary(task_id, bash_command, env=…)` asks for."""
    given = dict(zip(("task_id", "bash_command", "env"), call.args))
    given |= {keyword.arg: keyword.value for keyword in call.keywords}
    command = constant(given["bash_command"], where)
    env = constant(given["env"], where) if "env" in given else {}
    hours = re.fullmatch(r"timedelta\(hours=(\d+)\)", ast.unparse(given["timeout"])) if "timeout" in given else None
    if "timeout" in given and hours is None:
        sys.exit(f"{where}: a timeout is timedelta(hours=…)")
    words = command.split()
    subcommand = words[1] if len(words) > 1 and re.fullmatch(r"[a-z][a-z-]*", words[1]) else None
    return {
        "task": constant(given["task_id"], where),
        "command": command,
        "binary": words[0],
        "subcommand": subcommand,
        "flags": re.findall(r"--[a-z][a-z-]*", command),
        "variables": re.findall(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)", command),
        "env": sorted(env),
        "timeout_hours": int(hours.group(1)) if hours else 1,
    }


def main(folder: str) -> None:
    for path in sorted(pathlib.Path(folder).glob("*_dag.py")):
        tree = ast.parse(path.read_text(), filename=str(path))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for call in calls:
            name = ast.unparse(call.func)
            if name.endswith("Operator"):
                sys.exit(f"{path}:{call.lineno}: {name} is called past binary()")
            if name == "binary":
                found = task(call, f"{path}:{call.lineno}")
                found |= {"file": path.name, "doc": ast.get_docstring(tree) or ""}
                print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
