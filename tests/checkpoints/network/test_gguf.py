"""GGUF files read once: configuration, weights and tokenizer equal to transformers' own reading, to the bit."""

import numpy as np
import pytest
import torch

from ctrlattn import checkpoints
from ctrlattn.checkpoints.network import gguf as reader
from ctrlattn.checkpoints.network.content import load_with_content
from ctrlattn.checkpoints.network.describe import describe
from ctrlattn.checkpoints.network.load import where
from ctrlattn.errors import InputError

gguf = pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")

WIDTH, HEADS, LAYERS, WORDS = 64, 4, 2, 40
COMMON = {
    "context_length": 32, "embedding_length": WIDTH, "block_count": LAYERS, "feed_forward_length": 96,
    "attention.head_count": HEADS, "attention.head_count_kv": 2, "attention.layer_norm_rms_epsilon": 1e-6,
    "rope.freq_base": 500.0,
    "attention.key_length": WIDTH // HEADS, "attention.value_length": WIDTH // HEADS,
}  # fmt: skip
TYPES = gguf.GGMLQuantizationType


def written(folder, family, kinds=(TYPES.F32,), tied=True, said=None, words=WORDS, **split):
    """A GGUF file with random weights, in turn of these types; names and shapes are those of the family.

    `said` are values of the header that differ from what the weights are, `words` the length of its list of words.
    """
    names = {value: key for key, value in gguf.MODEL_ARCH_NAMES.items()}
    short = {"gemma3": "gemma3_text"}.get(family, family)
    sizes = dict(vocab_size=WORDS, hidden_size=WIDTH, num_hidden_layers=LAYERS, intermediate_size=96)  # noqa: C408
    heads = dict(num_attention_heads=HEADS, num_key_value_heads=2, head_dim=WIDTH // HEADS)  # noqa: C408
    config = transformers.AutoConfig.for_model(short, **sizes, **heads)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    table = gguf.get_tensor_name_map(names[family], LAYERS)
    writer = gguf.GGUFWriter(folder / "a.gguf", family, **split)
    for key, value in {
        **COMMON,
        "attention.key_length": WIDTH // HEADS,
        "attention.value_length": WIDTH // HEADS,
        **(said or {}),
    }.items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"{family}.{key}", value)
    writer.add_name("toy")
    writer.add_array("general.languages", ["en"])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["w", "1", *(f"w{i}" for i in range(words - 2))])
    writer.add_token_types([1] * words)
    writer.add_token_merges(["w 1"])
    writer.add_bos_token_id(1)
    rng = np.random.default_rng(0)
    count = 0
    for name, weight in model.state_dict().items():
        stem, ending = name.rsplit(".", 1)
        if name.startswith("lm_head") and tied:
            continue
        values = rng.standard_normal(weight.shape).astype(np.float32)
        kind = kinds[count % len(kinds)] if weight.ndim == 2 else TYPES.F32
        count += weight.ndim == 2
        data = values.astype(np.float16) if kind == TYPES.F16 else gguf.quantize(values, kind)
        writer.add_tensor(f"{table.get_name(stem)}.{ending}", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "a.gguf"


def by_transformers(path, dtype=torch.float32):
    return transformers.AutoModelForCausalLM.from_pretrained(
        str(path.parent), dtype=dtype, attn_implementation="eager", **where(path.name)
    )


def same(ours, theirs):
    a, b = ours.state_dict(), theirs.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)
    told, expected = ours.config.to_dict(), theirs.config.to_dict()
    expected.pop("quantization_config", None)  # the weights are dequantised
    told.pop("quantization_config", None)
    assert told == expected


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "gemma3"])
@pytest.mark.parametrize("tied", [True, False])
def test_weights_and_configuration_are_those_of_transformers(tmp_path, family, tied):
    path = written(tmp_path, family, (TYPES.F32, TYPES.F16, TYPES.Q8_0), tied)
    read = reader.network(path, transformers.AutoModelForCausalLM, dtype=torch.float32, attn_implementation="eager")
    assert read is not None
    same(read[0], by_transformers(path))
    assert not any(read[1][key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_weights_that_stay_on_disk_give_the_same_numbers(tmp_path, family):
    path = written(tmp_path, family, (TYPES.F32, TYPES.F16, TYPES.Q8_0))
    lazy, whole = checkpoints.on_disk(path), checkpoints.load(path)
    a, b = (
        checkpoints.feedback_profile(network, [1, 5, 2, 5], parts=["feedback", "heads"]) for network in (lazy, whole)
    )
    for name in b.data_vars:
        assert np.array_equal(a[name], b[name], equal_nan=b[name].dtype.kind == "f"), name
    assert all(weight.is_meta for layer in lazy.layers for weight in layer.parameters())


@pytest.mark.parametrize("kind", [TYPES.Q4_0, TYPES.Q4_1, TYPES.Q5_0, TYPES.Q5_1, TYPES.Q8_0, TYPES.BF16])
def test_every_type_that_gguf_can_write(tmp_path, kind):
    path = written(tmp_path, "llama", (kind,))
    read = reader.network(path, transformers.AutoModelForCausalLM, dtype=torch.float64, attn_implementation="eager")
    assert read is not None
    same(read[0], by_transformers(path, torch.float64))


@pytest.fixture
def parts(tmp_path):
    """(the first of three files, the same network in one file)."""
    for name in ("split", "whole"):
        (tmp_path / name).mkdir()
    kinds = (TYPES.F32, TYPES.Q8_0)
    written(tmp_path / "split", "llama", kinds, split_max_tensors=8)
    return tmp_path / "split" / "a-00001-of-00003.gguf", written(tmp_path / "whole", "llama", kinds)


def test_a_network_in_several_files_is_that_of_one(parts):
    first, whole = parts
    said = reader.gguf_header(first)
    assert [path.name for path in said.paths] == [f"a-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    assert said.values == reader.gguf_header(whole).values
    theirs, ours = checkpoints.load(whole), checkpoints.load(first.parent)  # a directory names its first file
    ours.model.config.name_or_path = theirs.model.config.name_or_path
    same(ours.model, theirs.model)
    a, b = (checkpoints.tap(network, [1, 5, 2, 5])["state"] for network in (checkpoints.on_disk(first), theirs))
    assert np.array_equal(a, b)


def test_files_that_are_not_those_of_one_network_are_refused(parts, monkeypatch):
    first, _ = parts
    second, third = (first.with_name(f"a-0000{i}-of-00003.gguf") for i in (2, 3))
    with pytest.raises(InputError, match="one of 3 files of a network: name the first, a-00001-of-00003"):
        checkpoints.load(second)
    with monkeypatch.context() as patch:
        patch.setattr(reader, "_OTHERWISE", {"llama"})
        with pytest.raises(InputError, match="read from one GGUF file alone"):
            checkpoints.load(first)
    content = third.read_bytes()
    third.write_bytes(second.read_bytes())
    with pytest.raises(InputError, match="its 3 files are not those of one network"):
        checkpoints.load(first)
    third.unlink()
    with pytest.raises(InputError, match=r"a-00003-of-00003\.gguf is not there: the download is not complete"):
        checkpoints.on_disk(first)
    third.write_bytes(content)
    first.rename(first.with_name("b.gguf"))
    with pytest.raises(InputError, match="one of 3 files of a network, whose name is none of"):
        checkpoints.load(first.with_name("b.gguf"))


def test_every_file_decides_what_a_network_is(parts):
    from ctrlattn.checkpoints.network.content import on_disk_with_content
    from ctrlattn.checkpoints.network.describe import describe

    first, _ = parts
    said = describe(first)
    network, digest = on_disk_with_content(said)
    third = said.header.paths[2]
    content = bytearray(third.read_bytes())
    content[-1] ^= 1
    third.write_bytes(content)
    assert on_disk_with_content(describe(first))[1] != digest
    with pytest.raises(InputError, match=r"00003-of-00003\.gguf: was changed while it was read"):
        checkpoints.tap(network, [1, 2])


def test_load_takes_the_short_way(tmp_path, monkeypatch):
    path = written(tmp_path, "llama")
    reads = []
    whole = gguf.GGUFReader
    monkeypatch.setattr(gguf, "GGUFReader", lambda name: reads.append(str(name)) or whole(name))
    network = checkpoints.load(path)
    assert str(path) not in reads  # the long way reads all of it
    assert network.model.config.num_hidden_layers == LAYERS
    assert network.tokenizer.get_vocab()["w3"] == 5
    assert network.tokenizer.bos_token_id == 1


def test_what_the_header_passes_over_is_left_to_transformers(tmp_path):
    path = written(tmp_path, "llama")
    assert reader.configuration(path) is not None
    header = reader.gguf_header(path)
    assert reader._is_word_list("general.languages", header.values["general.languages"])
    assert not reader._is_word_list("llama.block_count", header.values["llama.block_count"])
    assert not reader._is_word_list("llama.pattern", reader.ItemCount(2))


@pytest.mark.parametrize(
    ("said", "words", "told"),
    [
        (
            {"embedding_length": 128},
            WORDS,
            r"weight \S+ is \(.*64.*\) in the file, .* wants \(.*128",
        ),
        ({"feed_forward_length": 97}, WORDS, r"ffn_\w+.weight is \(96, 64\) in the file, .* wants \(97, 64\)"),
        ({"attention.head_count_kv": 4}, WORDS, r"attn_k.weight is \(32, 64\) in the file, .* wants \(64, 64\)"),
        ({}, 50, r"token_embd.weight is \(40, 64\) in the file, its configuration wants \(50, 64\)"),
        ({"vocab_size": 10**9}, WORDS, r"token_embd.weight is \(40, 64\) in the file, .* wants \(1000000000, 64\)"),
    ],
)
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_shapes_of_the_header_are_judged_before_a_weight_is_read(tmp_path, monkeypatch, family, said, words, told):
    def never(*_):
        raise AssertionError("a weight was read")

    monkeypatch.setattr(gguf, "dequantize", never)
    path = written(tmp_path, family, (TYPES.Q8_0,), said=said, words=words)
    with pytest.raises(InputError, match=told):
        checkpoints.load(path)


def test_a_file_that_is_left_to_transformers_is_judged_by_its_amount(tmp_path, monkeypatch):
    """transformers would make the missing words of random numbers, in memory that is not there."""
    monkeypatch.setattr(reader, "_OTHERWISE", {"llama"})
    assert checkpoints.load(written(tmp_path, "llama")).width == WIDTH
    path = written(tmp_path, "llama", said={"vocab_size": 10**9})
    with pytest.raises(InputError, match="wants 64000061760 numbers as weights, the files hold"):
        checkpoints.load(path)


@pytest.mark.parametrize("read", [checkpoints.load, checkpoints.on_disk])
def test_the_header_is_read_once_for_configuration_tokenizer_and_weights(tmp_path, monkeypatch, read):
    from ctrlattn.checkpoints.network import describe

    path, reads = written(tmp_path, "llama"), []
    whole = reader.gguf_header
    for module in (reader, describe):
        monkeypatch.setattr(module, "gguf_header", lambda name: reads.append(name) or whole(name))
    read(path)
    assert reads == [path]


@pytest.mark.parametrize("kind", sorted(gguf.quants._type_traits))
def test_every_type_that_gguf_dequantises_is_read_in_joined_rows(tmp_path, kind):
    """Blocks of random bytes: most types can only be read by gguf. Numbers that are none are compared as bytes."""
    shape = (48, 512)
    size = gguf.quants.quant_shape_to_byte_shape(shape, kind)[-1]
    data = np.random.default_rng(int(kind)).integers(0, 256, 48 * size, dtype=np.uint8)
    place = reader.WeightPlace(shape, int(kind), 0, len(data), tmp_path)
    with np.errstate(all="ignore"):
        joined = gguf.dequantize(reader._blocks(data, place), kind).reshape(shape)
        plain = gguf.dequantize(data.reshape(48, size), kind)
    assert joined.dtype == plain.dtype == np.float32
    assert np.array_equal(joined.view(np.uint32), plain.view(np.uint32))


@pytest.mark.parametrize("kind", [TYPES.Q4_0, TYPES.Q8_0])
@pytest.mark.parametrize("shape", [(3, 32), (48, 64), (640, 4096), (2, 5, 96), (1, 8192)])
def test_joined_rows_give_what_single_rows_give(tmp_path, kind, shape):
    """gguf takes 16 rows at a time, whatever their length; where they are cut changes no number."""
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    data = gguf.quantize(values, kind).reshape(-1).view(np.uint8)
    place = reader.WeightPlace(shape, int(kind), 0, len(data), tmp_path)
    blocks = reader._blocks(data, place)
    assert blocks.ndim == 2
    assert blocks.shape[1] * 16 <= max(reader._GROUP, 16 * gguf.quants.quant_shape_to_byte_shape(shape, kind)[-1])
    plain = gguf.dequantize(gguf.quantize(values, kind), kind)
    assert np.array_equal(gguf.dequantize(blocks, kind).reshape(shape), plain)


def test_what_was_described_is_loaded_without_a_second_configuration(tmp_path, monkeypatch):
    path, made, plain = written(tmp_path, "llama"), [], reader.configuration
    monkeypatch.setattr(reader, "configuration", lambda *given: made.append(given) or plain(*given))
    description = describe(path)
    network, _ = load_with_content(description)
    assert len(made) == 1
    same(network.model, by_transformers(path))


def test_each_weight_that_is_dequantised_is_told(tmp_path):
    path, heard = written(tmp_path, "llama", (TYPES.Q8_0,)), []
    checkpoints.load(path, progress=lambda *step: heard.append(step))
    count = len(reader.gguf_header(path).places)
    assert heard == [("dequantising weights", i, count) for i in range(count + 1)]


def test_where_transformers_reads_the_file_its_begin_and_end_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "_OTHERWISE", {"llama"})
    path, heard = written(tmp_path, "llama", (TYPES.Q8_0,)), []
    checkpoints.load(path, progress=lambda *step: heard.append(step))
    assert heard == [("transformers dequantises the weights", done, 1) for done in (0, 1)]
