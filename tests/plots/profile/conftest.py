"""A feedback profile of a tiny network, made once."""

import pytest

SIZES = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 12}


@pytest.fixture(scope="package")
def profile():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from ctrlattn import checkpoints

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.BertModel(transformers.BertConfig(**SIZES))
    return checkpoints.feedback_profile(checkpoints.load(model), [3, 1, 4, 1, 5])
