"""What is marked as secret is in nothing that is told, whatever it wears."""

from __future__ import annotations

import base64
import json
import shlex
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostlab.checks.formats import junit, prometheus, tap
from hostlab.checks.judge import judge
from hostlab.checks.page import page
from hostlab.checks.remote import RemoteHost
from hostlab.checks.run import run_of
from hostlab.checks.secrets import MASK, Masking
from hostlab.errors import SpecErrors
from hostlab.spec import load

pytestmark = pytest.mark.unit

SECRET = 'hunter2\'s "word"\\é'
DESCRIPTION = f"""
segments: [lan]
nodes:
  a:
    checks:
      - command: {{run: !secret {json.dumps("echo " + SECRET)}, stdout: other}}
        within: 0s
      - {{command: {{run: "echo x", stdout: !secret {json.dumps(SECRET)}}}, within: 0s}}
      - {{file: {{path: /etc/passwd, contains: !secret {json.dumps(SECRET)}}}, within: 0s}}
      - {{http: "http://127.0.0.1:9/?k=x", name: !secret {json.dumps(SECRET)}, within: 0s}}
"""


def test_no_output_tells_a_secret(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("secret") / "lab.yaml"
    path.write_text(DESCRIPTION)
    lab = load(DESCRIPTION, file=str(path))
    assert SECRET in lab.secrets
    told: list[str] = []
    report = judge(
        lab.checks,
        {"a": RemoteHost("a", None)},
        secrets=lab.secrets,
        progress=lambda verdict: told.append(str(verdict)),
    )
    run = run_of(lab, report, began=1.0)
    outputs = [*told, page(run), junit(run), tap(run), prometheus(run)]
    outputs.append(msgspec.json.encode(run).decode())
    assert len(told) == 4
    assert all(not verdict.ok for verdict in report.rows)
    for output in outputs:
        assert "hunter2" not in output
        assert MASK in output


@settings(max_examples=150, deadline=None)
@given(st.text(min_size=4, max_size=20).filter(lambda text: text.strip() == text), st.text())
def test_every_dress_of_a_secret_is_seen_through(secret: str, around: str) -> None:
    masking = Masking([secret])
    for dress in (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe="")):
        if not dress.strip():
            continue
        masked = masking.text(f"{around}{dress}{around}")
        assert dress not in masked.replace(MASK, "\0") or dress in f"{around}\0{around}"
    assert shlex.quote(secret) not in masking.text(f"x {shlex.quote(secret)} x")
    encoded = base64.b64encode(secret.encode()).decode()
    assert encoded not in masking.text(f"Basic {encoded}")


def test_without_secrets_nothing_changes() -> None:
    assert Masking([]).text("a b") == "a b"


def test_a_secret_that_would_mask_everything_is_refused() -> None:
    with pytest.raises(SpecErrors, match="at least 4 characters"):
        load("nodes: {a: {checks: [{command: !secret ab}]}}", file="lab.yaml")
    with pytest.raises(SpecErrors, match="means nothing here"):
        load("nodes: {a: {checks: !secret [{command: abcd}]}}", file="lab.yaml")


@pytest.mark.parametrize("word", ["fails", "l", "file"])
def test_a_secret_that_is_a_word_of_ours_ends_no_judgement(word: str) -> None:
    verdict = judge(
        load(DESCRIPTION, file="x").checks[2:3], {"a": RemoteHost("a", None)}, secrets=[word]
    ).rows[0]
    assert verdict.outcome == "fails"
    assert word not in verdict.seen
    assert verdict.place is not None
