"""A tiny decoder with a tokenizer of words, and a text for it."""

import pytest


@pytest.fixture(autouse=True)
def _one_thread():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def words():
    """A tokenizer that knows w0 ... w39, and the end of a line."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    vocabulary = {f"w{i}": i for i in range(40)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary | {"?": 40}, unk_token="?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="?")


@pytest.fixture(scope="session")
def tiny(words):
    """A Llama of three layers, weights large enough that attention is not uniform."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from ctrlattn import checkpoints

    config = transformers.LlamaConfig(
        vocab_size=41, hidden_size=16, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=24, initializer_range=0.2,
    )  # fmt: skip
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config)
    torch.random.set_rng_state(state)
    return checkpoints.load(model, tokenizer=words)


@pytest.fixture
def text(tmp_path):
    """1,500 words of a Markov chain on a file of many lines."""
    import numpy as np

    rng = np.random.default_rng(0)
    path = tmp_path / "text.txt"
    rows = []
    for _ in range(75):
        start = int(rng.integers(40))
        rows.append(" ".join(f"w{(start + 3 * k + int(rng.integers(2))) % 40}" for k in range(20)))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path
