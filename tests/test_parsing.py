"""JSON and TOML: a value, or one InputError that names the place, whatever the text is."""

import pytest

from ctrlattn.errors import InputError
from ctrlattn.parsing import parse_json, parse_toml


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
