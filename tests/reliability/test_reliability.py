"""A sample of the campaign: kills of every command, and mutated files of every format."""

import json
import os
import random
import signal
import time
from pathlib import Path

import kills
import mutants
import pytest
import reliability
import small_commands

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked after all imports"),
]


@pytest.mark.parametrize("name", ["simulate", "analyze", "drop", "observe", "train"])
def test_a_killed_command_is_made_good_by_the_next(stage, tmp_path, name):
    alone = kills.undisturbed(name, stage, tmp_path, small_commands.sample)
    # At an event, and at a moment: only one that writes at its end alone and one that writes as it goes on.
    for seed in (2, 3) if name in ("simulate", "train") else (3,):
        assert kills.kill(name, stage, tmp_path, alone, seed, small_commands.sample).faults == ()


@pytest.mark.parametrize("kind", mutants.KINDS)
def test_a_mutated_file_is_a_result_or_one_line(stage, tmp_path, kind):
    first = list(mutants.KINDS).index(kind)
    for index in range(first, 4 * len(mutants.KINDS), len(mutants.KINDS)):
        tried = mutants.tried(index, 0, stage, tmp_path / "mutant")
        assert tried.verdict in (mutants.RESULT, mutants.REFUSED), tried


@pytest.mark.parametrize(
    ("name", "left"), [("analyze", 4), ("analyze", 12), ("drop", 12), ("observe", 4), ("train", 12), ("loop", 4)]
)  # so many KB: another file is the first without room
def test_a_full_disk_ends_a_command_in_one_line_and_the_next_one_makes_it_good(stage, tmp_path, disk, name, left):
    out, taken = disk / "out", disk / "taken"
    arguments = small_commands.sample(stage, out)[name]
    taken.write_bytes(bytes((1024 - left) * 1024))
    ended = small_commands.finish(small_commands.start(arguments, tmp_path / "said"), tmp_path / "said", 120.0)
    lines = [line for line in ended.stderr.splitlines() if not mutants.PROGRESS.match(line)]
    assert (ended.code, lines[:-1], ended.stdout) == (2, [], "")
    assert "No space left on device" in lines[0]
    assert kills.damaged(out) == []
    assert [path.name for path in disk.rglob(".*")] == []
    taken.unlink()
    again = small_commands.finish(small_commands.start(arguments, tmp_path / "again"), tmp_path / "again", 120.0)
    assert again.code == 0, again.stderr
    assert kills.damaged(out) == []


def never_done():
    """The last file of a command takes its place no more: where its work is short, the signal still finds it there."""
    replace = os.replace

    def waiting(source, target):
        if Path(target).name in ("report.html", "features.html", "comparison.json"):
            time.sleep(300)
        replace(source, target)

    os.replace = waiting


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("report", signal.SIGINT),
        ("analyze", signal.SIGTERM),
        ("drop", signal.SIGHUP),
        ("observe", signal.SIGTERM),
        ("train", signal.SIGINT),
    ],
)
def test_a_signal_ends_a_command_in_one_line(stage, tmp_path, name, number):
    said, out = tmp_path / "said", tmp_path / "out"
    process = small_commands.start(small_commands.sample(stage, out)[name], said, never_done)
    small_commands.wait_for(lambda: list(out.glob(".ctrlattn.lock")))
    time.sleep(random.Random(name).uniform(0, 0.3))
    os.kill(process, number)
    ended = small_commands.finish(process, said, 120.0)
    assert ended.code == 128 + number
    lines = [line for line in ended.stderr.splitlines() if not mutants.PROGRESS.match(line)]
    assert f"({signal.Signals(number).name}): nothing half-written is left" in lines[-1]
    assert all(line.startswith("ctrlattn: ") for line in lines)  # what was done before, and no traceback
    assert [path for path in tmp_path.rglob(".*") if path.name != ".ctrlattn.files"] == []


def test_a_second_command_for_the_same_output_says_so_at_once(stage, tmp_path):
    out = tmp_path / "out"
    arguments = small_commands.sample(stage, out)["drop"]
    first = small_commands.start(arguments, tmp_path / "first")
    small_commands.wait_for(lambda: list(out.glob(".ctrlattn.lock")))
    # It makes the file, locks it, and begins to speak.
    small_commands.wait_for(lambda: (tmp_path / "first.err").stat().st_size)
    os.kill(first, signal.SIGSTOP)  # else it may end before the second one asks
    second = small_commands.finish(small_commands.start(arguments, tmp_path / "second"), tmp_path / "second", 60.0)
    assert (second.code, second.stdout) == (2, "")
    assert second.stderr == f"ctrlattn: {out}: another process writes there: wait for it, or give another --out\n"
    os.kill(first, signal.SIGCONT)
    assert small_commands.finish(first, tmp_path / "first", 120.0).code == 0


def test_the_page_has_the_numbers_of_the_campaign():
    result = json.loads(reliability.RESULT.read_text(encoding="utf-8"))
    page = reliability.PAGE.read_text(encoding="utf-8")
    assert reliability.with_table(page, result) == page
