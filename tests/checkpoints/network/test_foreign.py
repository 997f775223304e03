"""Whatever another library raises is one line that says what it is; our own refusals pass as they are."""

import pytest

from ctrlattn.checkpoints.network.foreign import foreign
from ctrlattn.errors import InputError


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            ZeroDivisionError("x"),
            r"a: cannot load this checkpoint: a damaged or incomplete file \(ZeroDivisionError: x\)",
        ),
        (ValueError("two\n lines"), "a: cannot load this checkpoint: two lines$"),
        (ImportError("no module"), "it needs a package that is not installed: no module"),
        (
            RuntimeError("please set weights_only"),
            "its pickled weights hold more than tensors, and are never unpickled",
        ),
        (ValueError("contains custom code"), "it needs code of its own, which is never executed"),
        (OSError("couldn't connect to"), "--allow-download"),
        (ValueError("w" * 500), "w{400} ...$"),
    ],
)
def test_an_error_of_a_library_is_one_line(error, words):
    with pytest.raises(InputError, match=words), foreign("a"):
        raise error


@pytest.mark.parametrize("error", [InputError("ours"), MemoryError()])
def test_a_refusal_of_ours_and_a_lack_of_memory_pass(error):
    with pytest.raises(type(error)) as caught, foreign("a"):
        raise error
    assert caught.value is error
