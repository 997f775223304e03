"""Buffers that no file holds have the numbers that a network has which is built in memory."""

import pytest
import torch
import transformers

from ctrlattn.checkpoints.network.made_buffers import fill_buffers, stored_buffers
from ctrlattn.errors import InputError

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 31, "intermediate_size": 24}


@pytest.mark.parametrize("name", ["llama", "gemma2", "bert", "roberta"])
def test_they_are_those_of_a_network_in_memory(name):
    config = transformers.AutoConfig.for_model(name, **SIZES, pad_token_id=0)
    real = transformers.AutoModel.from_config(config)
    with torch.device("meta"):
        empty = transformers.AutoModel.from_config(config)
    fill_buffers(empty)
    made = dict(empty.named_buffers())
    assert made.keys() == dict(real.named_buffers()).keys()
    assert all(
        torch.equal(made[key], buffer) and made[key].dtype == buffer.dtype for key, buffer in real.named_buffers()
    )
    assert all(weight.is_meta for weight in empty.parameters())


class Odd(torch.nn.Module):
    """A buffer that the rule leaves as it was, one that a file holds, and one that was made in memory."""

    def __init__(self):
        super().__init__()
        self.register_buffer("kept", torch.ones(2, device="meta", dtype=torch.int64))
        self.register_buffer("own", torch.ones(2, device="meta"), persistent=False)
        self.register_buffer("made", torch.arange(3), persistent=False)

    def _init_weights(self, module):
        module.own[0].fill_(3.0)


def test_what_the_rule_leaves_is_refused():
    with pytest.raises(InputError, match=r"the numbers \.own are neither"):
        fill_buffers(Odd())


def test_only_buffers_without_numbers_that_no_file_holds_are_made():
    """Whole numbers were refused wherever they stood."""
    network = Odd()
    network._init_weights = lambda module: module.own.copy_(torch.tensor([3.0, 4.0]))
    fill_buffers(network)
    assert network.own.tolist() == [3.0, 4.0]
    assert network.made.tolist() == [0, 1, 2]
    assert network.kept.is_meta
    assert stored_buffers(network) == {"kept": torch.Size([2])}


def test_a_network_inside_another_follows_its_own_rule():
    class Outer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Odd()

        def _init_weights(self, module):
            """It does not know the inner one."""

    network = Outer()
    network.inner._init_weights = lambda module: module.own.copy_(torch.tensor([3.0, 4.0]))
    fill_buffers(network)
    assert network.inner.own.tolist() == [3.0, 4.0]
