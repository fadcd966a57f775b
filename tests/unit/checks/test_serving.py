"""A report over HTTP, on this machine alone."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jsonschema
import msgspec
import pytest

from hostlab.checks.run import report_schema
from hostlab.checks.serving import reports_in, server
from hostlab.checks.verdict import Verdict
from tests.unit.checks.run_site import HARM, a_run, verdict

pytestmark = pytest.mark.unit


@contextmanager
def serving(path: Path) -> Iterator[int]:
    with server(str(path), 0) as one:
        thread = threading.Thread(target=one.serve_forever)
        thread.start()
        try:
            yield one.server_port
        finally:
            one.shutdown()
            thread.join()


def got(port: int, path: str, host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"Host": f"{host}:{port}"} if host else {}
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def kept(place: Path, *rows: Verdict) -> None:
    place.mkdir(exist_ok=True)
    (place / "report.json").write_bytes(msgspec.json.encode(a_run(*rows)))


def test_a_report_is_read_anew_at_each_request(tmp_path: Path) -> None:
    kept(tmp_path, verdict("web1", "listens: 80"))
    with serving(tmp_path) as port:
        status, text = got(port, "/")
        assert (status, "<h1>shop</h1>" in text) == (200, True)
        kept(tmp_path, verdict("web1", "listens: 80", "f", HARM))
        assert "<script>alert" not in got(port, "/index.html")[1]
        assert json.loads(got(port, "/report.json")[1])["lab"] == "shop"
        for path in ("/none", "/../report.json", "//etc/passwd", "/report.json/", "/%2e%2e/x"):
            assert got(port, path)[0] == 404, path
        assert got(port, "/", "evil.example")[0] == 403
        assert got(port, "/", "localhost")[0] == 200
        (tmp_path / "report.json").write_text('{"format": 1')
        assert got(port, "/")[0] == 500


def test_a_directory_of_several(tmp_path: Path) -> None:
    for name in ("monday", "tues day"):
        kept(tmp_path / name, verdict("web1", "listens: 80"))
    assert list(reports_in(str(tmp_path))) == ["monday", "tues day"]
    with serving(tmp_path) as port:
        assert 'href="/tues%20day/"' in got(port, "/")[1]
        assert got(port, "/tues%20day/report.json")[0] == 200
        assert got(port, "/wednesday/")[0] == 404


def test_a_report_fits_its_published_schema() -> None:
    rows = [verdict("web1", "listens: 80"), verdict("web2", "http: x", "f", HARM)]
    encoded = json.loads(msgspec.json.encode(a_run(*rows)))
    schema = report_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(encoded, schema)
    encoded["report"]["rows"][0]["outcome"] = "perhaps"
    with pytest.raises(jsonschema.ValidationError, match="perhaps"):
        jsonschema.validate(encoded, schema)
