"""The progress that nobody watches says nothing; a notice reaches a terminal, or whoever the block names."""

import io
import sys

from ctrlattn.progress import notice, noticed_by, seldom, silent


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_silence(capsys):
    assert silent("fitting", 1, 3) is None
    assert capsys.readouterr() == ("", "")


def test_a_notice_is_one_line_on_a_terminal_and_nothing_in_a_log(monkeypatch, capsys):
    notice("compiling")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    notice("compiling")
    assert terminal.getvalue() == "ctrlattn: compiling\n"
    monkeypatch.setattr(sys, "stderr", None)  # as under pythonw
    notice("compiling")


def test_a_block_hears_its_notices_and_those_of_no_other():
    outer, inner = [], []
    with noticed_by(outer.append):
        with noticed_by(inner.append):
            notice("first")
        notice("second")
    assert (outer, inner) == (["second"], ["first"])


def test_work_that_lasts_is_told_now_and_then_and_at_its_end(monkeypatch):
    now, heard = [0.0], []
    monkeypatch.setattr("ctrlattn.progress.time.monotonic", lambda: now[0])
    tell = seldom(lambda *step: heard.append((now[0], *step)), first=1.0, then=0.5)
    for i in range(1, 11):
        now[0] = 0.25 * i
        tell("reading", i, 10)
    assert heard == [(at, "reading", round(4 * at), 10) for at in (1.0, 1.5, 2.0, 2.5)]
    heard.clear()
    tell("reading", 10, 10)  # within the half second, and the end
    assert len(heard) == 1
