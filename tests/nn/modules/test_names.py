"""What is said of a name without torch is what the network of that name does."""

import pytest

pytest.importorskip("torch")

from ctrlattn import InputError, presets
from ctrlattn.nn.modules import names, relatives
from ctrlattn.nn.modules.preset_options import configuration


@pytest.mark.parametrize("name", [*presets.names(), *names.RELATIVES])
def test_a_name_is_judged_as_its_network_is(name):
    loop, said = told(names.loop_of_network, name)
    made, same = told(configuration, name)
    assert said == same
    if made is not None:
        assert (loop is None) == (name in names.RELATIVES) == ("mixing" in made)
        assert loop is None or loop.controller == made["controller"]


def told(function, name):
    """What a function gives, and its refusal."""
    try:
        return function(name), None
    except InputError as error:
        return None, str(error)


def test_each_relative_has_its_class():
    assert {name: law.__name__ for name, law in relatives.RELATIVES.items()} == {
        "attnscale": "AttnScale", "centered": "Centered", "shaped": "ShapedAttention", "differential": "Differential",
        "value-residual": "ValueResidual", "sinkformer": "Sinkformer",
    }  # fmt: skip
