"""Headers of safetensors and GGUF files: names and shapes, and a refusal where they declare what the file has not."""

import json
import struct

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ctrlattn.checkpoints.network.headers import gguf_header, read_json, safetensors_header, weight_shapes  # noqa: E402
from ctrlattn.errors import InputError  # noqa: E402


def safetensors(entries, data=b"", length=None):
    header = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_shapes_are_those_that_the_library_wrote(tmp_path):
    from safetensors.torch import save_file

    weights = {"a.weight": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.bfloat16), "c": torch.zeros(())}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert safetensors_header(tmp_path / "model.safetensors") == {"a.weight": (2, 3), "b": (4,), "c": ()}
    assert weight_shapes(tmp_path) == {"a.weight": (2, 3), "b": (4,), "c": ()}
    assert weight_shapes(tmp_path / "elsewhere") is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no whole safetensors header"),
        (safetensors({}, length=2**63), "no whole safetensors header"),
        (safetensors({}, length=90_000_000), "no whole safetensors header"),
        (safetensors(b"[" * 50_000), "nested too deeply"),
        (safetensors([1]), "no table of weights"),
        (safetensors({"a": entry([2**40], 0, 2**42)}), "declares 4398046511104 bytes of weights, 0 are there"),
        (safetensors({"a": entry([2], 0, 8)}, bytes(4)), "declares 8 bytes of weights, 4 are there"),
        (safetensors({"a": entry([3], 0, 8)}, bytes(8)), "the entry of the weight 'a'"),
        (safetensors({"a": entry([2], 8, 0)}, bytes(8)), "the entry of the weight 'a'"),
        (safetensors({"a": entry([-2, -1], 0, 8)}, bytes(8)), "the entry of the weight 'a'"),
        (safetensors({"a": entry([True, 2], 0, 8)}, bytes(8)), "the entry of the weight 'a'"),
        (safetensors({"a": {"dtype": "F32"}}), "the entry of the weight 'a'"),
        (safetensors({"a": 7}), "the entry of the weight 'a'"),
    ],
)
def test_a_safetensors_file_that_declares_what_it_has_not(content, words, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=words):
        weight_shapes(tmp_path)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"weight_map": {"a": "../model.safetensors"}}, "names a file outside its directory, '../model.safetensors'"),
        ({"weight_map": {"a": "/etc/hostname"}}, "outside its directory"),
        ({"weight_map": {"a": ".."}}, "outside its directory"),
        ({"weight_map": {"a": "absent.safetensors"}}, "the download is not complete"),
        ({"weight_map": {"a": "there.safetensors", "b": "there.safetensors"}}, "1 weights are not in their files.* b"),
        ({"weight_map": {"a": ["there.safetensors"]}}, "weight_map must say"),
        ({"weight_map": 3}, "weight_map must say"),
        ([], "weight_map must say"),
    ],
)
def test_an_index_names_files_of_its_own_directory(index, words, tmp_path):
    (tmp_path / "there.safetensors").write_bytes(safetensors({"a": entry([2], 0, 8)}, bytes(8)))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=words):
        weight_shapes(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "there.safetensors"}}')
    assert weight_shapes(tmp_path) == {"a": (2,)}


def test_a_description_of_100_mb_is_not_read(tmp_path):
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(100_000_001)  # a hole, which takes no room on the disk
    with pytest.raises(InputError, match="100000001 bytes are too many"):
        read_json(tmp_path / "config.json")


def text(words):
    return struct.pack("<Q", len(words)) + words.encode()


def texts(count):
    """The start of an array of texts."""
    return struct.pack("<IIQ", 9, 8, count)


def gguf(values=b"", count=0, weights=b"", number=0, data=b"", version=3):
    return b"GGUF" + struct.pack("<IQQ", version, number, count) + values + weights + data


def weight(name, shape, offset, kind=0):
    return text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}QIQ", *shape, kind, offset)


def test_a_gguf_header_is_that_of_the_library(tmp_path):
    library = pytest.importorskip("gguf")
    writer = library.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_block_count(2)
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc", "def"])
    writer.add_array("numbers", [1.0, 2.0])
    for layer in range(2):
        writer.add_tensor(f"blk.{layer}.attn_q.weight", np.ones((4, 8), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = gguf_header(tmp_path / "a.gguf")
    assert header.names == ("blk.0.attn_q.weight", "blk.1.attn_q.weight")
    assert header.values["llama.block_count"] == 2
    assert (header.values["tokenizer.ggml.tokens"], header.values["numbers"]) == (3, 2)
    whole = (tmp_path / "a.gguf").read_bytes()
    for end in (0, 3, 12, 24, 60, len(whole) - 129, len(whole) - 1):
        (tmp_path / "short.gguf").write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"a damaged or incomplete file|no GGUF"):
            gguf_header(tmp_path / "short.gguf")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gguf(version=1), "GGUF of version 1"),
        (gguf(count=2**60), "declares values and weights of"),
        (gguf(struct.pack("<Q", 2**62), 1), "declares values and weights of 13 bytes, 8 are left"),
        (gguf(struct.pack("<Q", 2**62) + bytes(8), 1), "declares a key of 4611686018427387904 bytes, 8 are left"),
        (gguf(text("a") + struct.pack("<IIQ", 9, 8, 2**40), 1), "declares value 0 of 8796093022208 bytes"),
        (gguf(text("a") + struct.pack("<IIQ", 9, 9, 1) + bytes(9), 1), "an array of the unknown type 9"),
        (gguf(text("a") + texts(2) + text("b") + bytes(7), 1), "declares value 0 of 17 bytes, 16 are left"),
        (gguf(text("a") + texts(1) + struct.pack("<Q", 2**64 - 1), 1), "declares value 0 of 18446744073709551623"),
        (gguf(text("a") + texts(2) + struct.pack("<Q", 2**63) + bytes(8), 1), "declares value 0 of 922337"),
        (gguf(text("a") + struct.pack("<I", 77) + bytes(9), 1), "is of the unknown type 77"),
        (gguf(text("\x00") + struct.pack("<I", 8) + struct.pack("<Q", 1) + b"\xff", 1), "invalid start byte"),
        (gguf(weights=weight("w", [2**40, 2**20], 0), number=1), "declares [0-9]+ bytes, it has"),
        (gguf(weights=weight("w", [2], 0, kind=999), number=1), "'w' is of the unknown type 999"),
        (gguf(weights=text("w") + struct.pack("<I", 2**30) + bytes(20), number=1), "has 1073741824 dimensions"),
        (gguf(text("general.alignment") + struct.pack("<II", 4, 0), 1), "general.alignment is 0"),
    ],
)  # fmt: skip
def test_a_gguf_file_that_declares_what_it_has_not(content, words, tmp_path):
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(InputError, match=words):
        gguf_header(tmp_path / "a.gguf")
