"""A webhook receiver: appends each JSON body that is POSTed to it as one line to a file."""

from __future__ import annotations

import argparse
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LARGEST = 16 * 1024 * 1024


def handler(received: Path):
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer(200)

        def do_POST(self):
            length = int(self.headers.get("Content-Length", 0))
            if length > LARGEST:
                return self.answer(413)
            try:
                line = json.dumps(json.loads(self.rfile.read(length)))
            except ValueError:
                return self.answer(400)
            with lock, received.open("a") as file:
                file.write(line + "\n")
            return self.answer(200)

        def answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--received", type=Path, required=True)
    options = parser.parse_args()
    options.received.touch()
    ThreadingHTTPServer(("127.0.0.1", options.port), handler(options.received)).serve_forever()


if __name__ == "__main__":
    main()
