"""`ctrlattn explore`: one file, or one line that says what is wrong."""

import numpy as np
import pytest
from typer.testing import CliRunner

from ctrlattn import signals
from ctrlattn.cli import app

run = CliRunner()


def invoke(*arguments):
    return run.invoke(app, [str(a) for a in arguments])


def test_it_writes_one_file_of_the_shipped_recordings(tmp_path):
    result = invoke("explore", "--out", tmp_path / "page.html")
    assert result.exit_code == 0
    assert result.stdout.strip() == str(tmp_path / "page.html")
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["page.html"]
    assert "all-MiniLM-L6-v2" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_it_reads_a_recording_of_ones_own(tmp_path):
    attrs = {"model": "mine alone", "norm": "pre", "causal": 1}
    signals.save(tmp_path / "a.npz", [signals.dataset({"attention": np.ones((2, 1, 1, 1))}, attrs=attrs)])
    assert invoke("explore", "--signals", tmp_path / "a.npz", "--out", tmp_path / "page.html").exit_code == 0
    assert "mine alone" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--signals", "none.npz"], "none.npz: no such file"),
        (["--signals", "bad.npz"], "bad.npz"),
        (["--signals", "a.npz", "--checkpoint", "b"], "not both"),
        (["--text", "hello"], "--checkpoint"),
        (["--checkpoint", "none"], "--text"),
        (["--checkpoint", "none", "--text", "hello you"], "no such directory"),
        (["--out", "absent/page.html"], "does not exist"),
        (["--out", "."], "no regular file"),
    ],
)
def test_one_line_says_what_is_wrong(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    result = invoke("explore", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bad.npz"]
