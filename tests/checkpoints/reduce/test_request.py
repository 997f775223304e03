"""What is asked of a reduction, judged by numbers alone."""

import pytest

from ctrlattn.checkpoints.reduce.request import Request, require_layers_left, require_texts, require_windows
from ctrlattn.errors import InputError


def test_numbers_of_what_is_asked_for():
    assert Request({"attention": 2, "mlp": 0}).wanted(of=3) == {"attention": 2}
    assert Request(layers={"mlp": (0, 2, 2)}, by="importance").wanted(of=3) == {"mlp": 2}
    assert Request({"mlp": 3}, by="importance").wanted(of=3) == {"mlp": 3}
    require_layers_left("attention", 2, 3)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(), "either how many"),
        (Request({"attention": 1}, {"attention": (1,)}), "either how many"),
        (Request({"attention": -1}), "nothing to drop"),
        (Request({"attention": 4}), "there are 3 layers: 4 of attention"),
        (Request({"blocks": 3}, by="worst"), "all 3 attention layers would be gone"),
        (Request(layers={"attention": (0, 1, 2)}), "all 3 attention layers would be gone"),
        (Request(layers={"attention": (3,)}), r"layer must be one of 0 \.\.\. 2, got 3"),
    ],
)
def test_what_a_network_of_three_layers_cannot_do(request_, words):
    with pytest.raises(InputError, match=words):
        request_.wanted(of=3)


def test_texts_have_windows_to_fit_to_and_to_judge_by():
    assert require_windows(20, 4, 5) == 5
    require_texts([20, None], 4)
    require_texts([16, 4], 4)
    for lengths in ([19, None], [15, 4], [16, 3]):
        with pytest.raises(InputError, match="windows of 4: at least"):
            require_texts(lengths, 4)
    with pytest.raises(InputError, match="at least two tokens, got 1"):
        require_windows(20, 1, 5)
