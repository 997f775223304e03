"""The progress that nobody watches says nothing; a notice reaches a terminal, or whoever the block names."""

import io
import sys

from ctrlattn.progress import notice, noticed_by, silent


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
