"""A stand-in for wandb's server at 127.0.0.1: it takes up every run and keeps what it is sent."""

from __future__ import annotations

import gzip
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Received:
    """What was sent: by run its rows, whether it ended well (None: it did not end), and the bodies of all requests."""

    address: str = ""
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    exit_codes: dict[str, int | None] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)


@contextmanager
def wandb_server() -> Iterator[Received]:
    """Serve until the block ends."""
    received = Received()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            received.bodies.append(self.path.encode() + body)
            stream = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path)
            if stream:
                _keep(received, stream[1], json.loads(body))
                self._answer({})
            elif self.path == "/graphql":
                self._answer({"data": _data(received, json.loads(body))})
            else:
                self._answer({}, 404)

        def do_GET(self) -> None:
            self._answer({}, 404)

        do_PUT = do_POST

        def _answer(self, content: dict[str, Any], code: int = 200) -> None:
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    received.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()


def _keep(received: Received, run: str, sent: dict[str, Any]) -> None:
    history = sent.get("files", {}).get("wandb-history.jsonl", {})
    kept = received.rows.setdefault(run, [])
    kept[history.get("offset", len(kept)) :] = [json.loads(line) for line in history.get("content", ())]
    if sent.get("complete"):
        received.exit_codes[run] = sent.get("exitcode")


def _data(received: Received, request: dict[str, Any]) -> dict[str, Any]:
    query, variables = request.get("query", ""), request.get("variables") or {}
    if "upsertBucket" in query:
        run = variables.get("name") or "unnamed"
        received.rows.setdefault(run, [])
        received.groups[run] = variables.get("groupName") or received.groups.get(run, "")
        project = {"id": "p", "name": variables.get("project") or "tofro", "entity": {"id": "e", "name": "me"}}
        bucket = {"id": f"id-{run}", "name": run, "displayName": run, "config": "{}", "historyLineCount": 0, "project": project}
        return {"upsertBucket": {"bucket": {**bucket, "description": "", "sweepName": None}, "inserted": True}}
    if "createRunFiles" in query:
        return {"createRunFiles": {"runID": "x", "uploadHeaders": [], "files": []}}
    if "viewer" in query:
        return {"viewer": {"id": "v", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
    if "serverInfo" in query:
        return {"serverInfo": {"features": []}}
    if "model(" in query or "bucket(" in query:  # does the run exist?
        return {"model": None, "project": None}
    return {}
