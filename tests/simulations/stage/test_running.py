"""How a scene ends: numbers and picture on disk, its verdict on the terminal, bad input in one line with exit 2."""

import sys

import matplotlib.pyplot as plt
import pytest


def test_what_is_saved_is_read_again(stage, tmp_path):
    figure = plt.figure()
    numbers = {"verdict": ["holds: é"], "x": 0.1}
    assert stage.save(tmp_path / "new", "scene", numbers, figure, plan="abc") is numbers
    plt.close(figure)
    again = stage.numbers_of(tmp_path / "new" / "scene.json")
    run = again.pop("run")
    assert again == numbers
    assert (sorted(run), run["plan_sha256"]) == (["commit", "plan_sha256", "time", "versions"], "abc")
    assert (tmp_path / "new" / "scene.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("text", [None, "{"])
def test_results_that_are_not_there_are_named(stage, tmp_path, text):
    path = tmp_path / "scene.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=r"scene\.json: no results of a scene"):
        stage.numbers_of(path)


def test_a_command_hands_its_options_on_and_prints_the_verdict(stage, tmp_path, monkeypatch, capsys):
    calls = []

    def main(**options):
        calls.append(options)
        return {"verdict": ["holds: a", "holds: b"]}

    monkeypatch.setattr(sys, "argv", ["scene", "--out", str(tmp_path), "--seed", "3", "--full"])
    stage.command(main, "A claim.\n\nMore.", "larger")
    assert calls == [{"out": str(tmp_path), "seed": 3, "full": True}]
    assert capsys.readouterr().out == "holds: a\nholds: b\n"


def test_a_missing_package_ends_before_the_work(stage, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scene", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        stage.command(lambda **options: pytest.fail("worked"), "A claim.", "larger", missing="install transformers")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "install transformers\n"
