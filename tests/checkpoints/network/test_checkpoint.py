"""What a checkpoint says of itself, against the configuration it was made from."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import checkpoints  # noqa: E402  (after the skip)


@pytest.fixture(scope="module")
def network():
    sizes = {"vocab_size": 9, "hidden_size": 8, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = transformers.LlamaConfig(**sizes, num_hidden_layers=3, intermediate_size=6)
    return checkpoints.load(transformers.LlamaModel(config))


def test_sizes_are_those_of_the_configuration(network):
    assert (len(network.layers), network.width, network.heads, network.causal) == (3, 8, 4, True)


def test_sublayers_come_in_order_of_depth_and_by_kind(network):
    places = [(sublayer.layer, sublayer.kind) for sublayer in network.sublayers()]
    assert places == [(layer, kind) for layer in range(3) for kind in ("attention", "mlp")]
    assert [sublayer.layer for sublayer in network.sublayers("mlp")] == [0, 1, 2]
    with pytest.raises(ValueError, match="kind must be one of attention, mixer, cross, mlp, got 'head'"):
        network.sublayers("head")


def test_a_layer_is_checked(network):
    assert network.layer_index(2) == 2
    for layer in (-1, 3):
        with pytest.raises(ValueError, match=rf"one of 0 ... 2, got {layer}"):
            network.layer_index(layer)


def test_a_checkpoint_is_shown_in_one_line(network):
    assert repr(network) == f"Checkpoint({network.name!r}: LlamaModel, 3 layers, 8 features)"
