"""A stack of experts gives what the tensor gives, and reads one expert where one is asked for."""

import copy

import pytest
import torch

from ctrlattn.checkpoints.network.expert_stack import ExpertStack, stacks_of

SHAPE = (4, 3, 2)


class Reads:
    """A stack of random weights, and what was read of it."""

    def __init__(self, seed=0):
        self.weights = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
        self.experts, self.wholes = [], 0
        self.stack = ExpertStack(SHAPE, member=self.member, whole=self.whole)

    def member(self, i):
        self.experts.append(i)
        return self.weights[i]

    def whole(self):
        self.wholes += 1
        return self.weights


@pytest.mark.parametrize("i", [0, 3, -1, -4])
@pytest.mark.parametrize("kind", [int, torch.tensor, lambda i: torch.tensor(i, dtype=torch.int32)])
def test_one_expert_is_read_alone(i, kind):
    reads = Reads()
    assert torch.equal(reads.stack[kind(i)], reads.weights[i])
    assert (reads.experts, reads.wholes) == ([i % 4], 0)


@pytest.mark.parametrize(
    "place",
    [slice(1, 3), torch.tensor([0, 2]), (slice(1, 2), slice(None), 0), torch.tensor([True, False, True, True]), None,
     ..., torch.tensor(True), True],
)  # fmt: skip
def test_any_other_part_is_that_of_the_tensor(place):
    reads = Reads()
    assert torch.equal(reads.stack[place], reads.weights[place])
    assert (reads.experts, reads.wholes) == ([], 1)


@pytest.mark.parametrize("i", [4, -5])
def test_an_expert_that_is_not_there_is_an_index_error(i):
    with pytest.raises(IndexError, match=f"expert {i} of 4"):
        Reads().stack[i]


@pytest.mark.parametrize(
    "function",
    [
        torch.sum,
        lambda w: torch.einsum("eij,kj->eik", w, torch.ones(5, 2)),
        lambda w: torch.stack([w[0], w[1]]),
        lambda w: torch.nn.functional.linear(torch.ones(2), w[2]),
        lambda w: w.transpose(1, 2) @ torch.ones(3),
        lambda w: torch.cat([torch.zeros(SHAPE), w]),
    ],
)
def test_functions_of_torch_take_the_whole_stack(function):
    reads = Reads()
    assert torch.equal(function(reads.stack), function(reads.weights))


def test_what_is_known_is_answered_without_reading():
    reads = Reads()
    assert (reads.stack.shape, len(reads.stack), reads.stack.ndim) == (reads.weights.shape, 4, 3)
    assert (reads.stack.dtype, reads.stack.device) == (reads.weights.dtype, reads.weights.device)
    assert (copy.copy(reads.stack).shape, reads.experts, reads.wholes) == (SHAPE, [], 0)


def test_only_weights_that_the_loop_over_experts_reads_are_stacks():
    transformers = pytest.importorskip("transformers")
    config = transformers.Qwen3MoeConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=9, num_experts=4, moe_intermediate_size=4,
        head_dim=4, num_key_value_heads=2,
    )  # fmt: skip
    layer = transformers.Qwen3MoeModel(config).layers[0]
    assert sorted(stacks_of(layer)) == ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"]
    assert stacks_of(torch.nn.Conv1d(2, 2, 3)) == {}


def test_a_member_and_a_place_in_it_is_read_alone():
    reads = Reads()
    assert torch.equal(reads.stack[2, 1:, :], reads.weights[2, 1:, :])
    assert torch.equal(reads.stack[-1, 0], reads.weights[-1, 0])
    assert (reads.experts, reads.wholes) == ([2, 3], 0)
