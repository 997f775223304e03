"""A network on disk is known by every byte of the files that decide it; by its memory where these are not certain."""

import json
import shutil

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn.checkpoints import load  # noqa: E402
from ctrlattn.checkpoints.network import content  # noqa: E402
from ctrlattn.checkpoints.network.content import files_of, load_with_content  # noqa: E402
from ctrlattn.checkpoints.network.describe import describe  # noqa: E402
from ctrlattn.errors import InputError  # noqa: E402
from ctrlattn.identity import of_network  # noqa: E402


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=20, n_positions=16)
    transformers.GPT2LMHeadModel(config).to(torch.bfloat16).save_pretrained(tmp_path / "network")
    return tmp_path / "network"


def mark(folder, **options):
    return load_with_content(describe(folder), **options)[1]


def configure(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def flip(file, position):
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)


def test_one_bit_of_any_weight_changes_it_and_a_move_does_not(folder, tmp_path):
    first = mark(folder)
    file = folder / "model.safetensors"
    start = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    for position in (start, start + 1000, file.stat().st_size - 1):
        flip(file, position)
        assert mark(folder) != first
        flip(file, position)
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert mark(tmp_path / "elsewhere") == mark(folder) == first
    assert mark(folder, attention="sdpa") != first


def test_the_configuration_counts_and_what_does_not_decide_the_network_does_not(folder):
    first = mark(folder)
    (folder / "README.md").write_text("a page")
    assert mark(folder) == first
    configure(folder, layer_norm_epsilon=1e-3)
    assert mark(folder) != first


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: shutil.copy(folder / "model.safetensors", folder / "pytorch_model-1.bin"),
        lambda folder: shutil.copy(folder / "model.safetensors", folder / "other.safetensors"),
        lambda folder: (folder / "config.json").write_text(
            json.dumps(
                {**json.loads((folder / "config.json").read_text()), "transformers_weights": "model.safetensors"}
            )
        ),
    ],
    ids=["two formats", "two files", "a name of its own"],
)
def test_where_another_file_might_be_read_the_memory_is_hashed(folder, change):
    change(folder)
    assert files_of(describe(folder)) is None
    assert mark(folder) == of_network(load(folder).model)


def test_a_network_in_shards_is_known_by_all_of_them(folder):
    model = transformers.GPT2LMHeadModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="2KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    (folder / f"._{shards[0].name}").write_bytes(b"attributes of macOS")
    assert {file.name for file in files_of(describe(folder))} == {
        "config.json", "model.safetensors.index.json", *(file.name for file in shards),
    }  # fmt: skip
    first = mark(folder)
    flip(shards[1], shards[1].stat().st_size - 1)
    assert mark(folder) != first


def test_pickled_weights_are_files_as_well(folder):
    state = transformers.GPT2LMHeadModel.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    assert [file.name for file in files_of(describe(folder))] == ["config.json", "pytorch_model.bin"]


def test_a_file_that_changes_while_it_is_loaded_is_refused(folder, monkeypatch):
    loading = content.loaded

    def load_and_change(*given, **named):
        network = loading(*given, **named)
        flip(folder / "model.safetensors", -1)
        return network

    monkeypatch.setattr(content, "loaded", load_and_change)
    with pytest.raises(InputError, match=r"model\.safetensors: was changed while it was read"):
        mark(folder)


def test_the_weights_are_read_once_and_not_in_memory(folder, monkeypatch):
    def never(model):
        raise AssertionError("the network was hashed a second time")

    monkeypatch.setattr(content, "of_network", never)
    assert len(mark(folder)) == 64
