"""JSON and TOML: a value, or one InputError that names the place, whatever the text is."""

import pytest

from ctrlattn.errors import InputError
from ctrlattn.parsing import LARGEST_TEXT, parse_json, parse_toml, read_json


def test_values_are_those_of_the_text():
    assert parse_json('{"a": [1, 2.5, null]}', "here") == {"a": [1, 2.5, None]}
    assert parse_json(b'"\xc3\xa9"', "here") == "é"
    assert parse_toml('[a]\nb = "c"') == {"a": {"b": "c"}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("9" * 5000, "digits"),
        ("{", "line 1 column 2"),
        (b"\xff\xfe", "this is not JSON"),
        ("", "this is not JSON"),
    ],
)
def test_a_text_that_is_no_json_names_the_place(text, words):
    with pytest.raises(InputError, match=f"^here: .*{words}"):
        parse_json(text, "here")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "[" * 10_000, "nested too deeply"),
        ("a = " + "{b = " * 10_000, "nested too deeply"),
        ("a = " + "9" * 5000, "digits"),
        ("a = 2020-99-99", "this is not TOML"),
        ("a", "this is not TOML"),
    ],
)
def test_a_text_that_is_no_toml_says_so(text, words):
    with pytest.raises(InputError, match=words):
        parse_toml(text)


def test_a_json_file_is_measured_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a": 1}')
    assert read_json(path) == {"a": 1}
    with path.open("wb") as file:
        file.truncate(LARGEST_TEXT + 1)  # a hole, which takes no room on the disk
    monkeypatch.setattr(type(path), "read_bytes", lambda _: pytest.fail("it was read"))
    with pytest.raises(InputError, match=r"a\.json: 100000001 bytes are too many for a JSON file"):
        read_json(path)
