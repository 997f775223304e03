"""Damaged and hostile files of every format: one InputError, or a right answer; never another exception.

`campaign(count, seed)` changes files at random: bits flip, ends are cut off, pieces are copied, set to zero or removed.
The suite runs a sample of it, and docs/reliability.md has the counts of a larger one. Every file is a few kilobytes.
"""

import io
import json
import struct
import zipfile
from collections import Counter

import numpy as np
import pytest
import xarray as xr

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import config, presets, results, signals  # noqa: E402
from ctrlattn.checkpoints import load  # noqa: E402
from ctrlattn.checkpoints.network.describe import describe  # noqa: E402
from ctrlattn.errors import InputError  # noqa: E402
from ctrlattn.nn.experiment.plan import read_plan  # noqa: E402

SIZES = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
PLAN = 'data = "digits"\narms = ["softmax", "neutreno"]\nseeds = [0, 1]\nalpha = 0.05\n[settings]\ndepth = 2\n'


def changed(content, rng):
    """The bytes after one random change."""
    data, size = bytearray(content), len(content)
    start, length = int(rng.integers(size)), int(rng.integers(1, 64))
    kind = int(rng.integers(5))
    if kind == 0:
        for place in rng.integers(size, size=int(rng.integers(1, 5))):
            data[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del data[start:]
    elif kind == 2:
        source = int(rng.integers(size))
        data[start:start] = data[source : source + length]
    elif kind == 3:
        data[start : start + length] = bytes(min(length, size - start))
    else:
        del data[start : start + length]
    return bytes(data)


def recording():
    rng = np.random.default_rng(0)
    weights = np.tril(rng.uniform(0.5, 1, size=(2, 2, 4, 4)))
    arrays = {"attention": weights / weights.sum(-1, keepdims=True), "state": rng.standard_normal((3, 4, 6))}
    attrs = {"model": "toy", "norm": "pre", "causal": 1}
    return signals.dataset(arrays, tokens=["a", "b", "c", "d"], attrs=attrs)


def network(folder):
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)).save_pretrained(folder)


def gguf_file(path):
    library = pytest.importorskip("gguf")
    writer = library.GGUFWriter(path, "llama")
    for count in ("context_length", "embedding_length", "block_count", "feed_forward_length", "head_count"):
        getattr(writer, f"add_{count}")(2)
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc"])
    for layer in range(2):
        writer.add_tensor(f"blk.{layer}.attn_q.weight", np.ones((4, 8), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def files_in(folder):
    """name -> (file to change, what reads it, whether an answer to changed bytes is right)."""
    recorded = recording()
    signals.save(folder / "a.npz", [recorded])
    results.save(folder / "a.nc", xr.Dataset({"state": (("depth", "token"), np.arange(12.0).reshape(3, 4))}))
    (folder / "loop.toml").write_text(config.dumps(presets.get("pidformer-ema"), config.Simulation(layers=2)))
    (folder / "plan.toml").write_text(PLAN)
    network(folder / "network")
    gguf_file(folder / "a.gguf")
    index = {
        "metadata": {"total_size": 6400},
        "weight_map": dict.fromkeys(describe(folder / "network").shapes, "model-1.safetensors"),
    }
    (folder / "parts").mkdir()
    (folder / "parts" / "config.json").write_bytes((folder / "network" / "config.json").read_bytes())
    (folder / "parts" / "model-1.safetensors").write_bytes((folder / "network" / "model.safetensors").read_bytes())
    (folder / "parts" / "model.safetensors.index.json").write_text(json.dumps(index))
    before = signals.load(folder / "a.npz")[0]
    return {
        "npz": (folder / "a.npz", signals.load, lambda texts: texts[0].equals(before)),
        "netCDF": (folder / "a.nc", results.load, lambda read: isinstance(read, xr.Dataset)),
        "TOML": (folder / "loop.toml", config.load, lambda read: isinstance(read, config.Configuration)),
        "plan": (folder / "plan.toml", read_plan, lambda plan: plan.data in ("digits", "mnist5k", "text")),
        "config.json": (folder / "network" / "config.json", lambda path: load(path.parent), sound),
        "safetensors": (folder / "network" / "model.safetensors", lambda path: load(path.parent), sound),
        "index": (folder / "parts" / "model.safetensors.index.json", lambda path: load(path.parent), sound),
        "GGUF": (folder / "a.gguf", describe, lambda said: said.layers == 2),
    }


def sound(checkpoint):
    """Every weight is a number, and the layers are those of the file."""
    finite = all(bool(torch.isfinite(weight).all()) for weight in checkpoint.model.parameters())
    return finite and len(checkpoint.layers) == 2


def campaign(files, count, seed):
    """Counts of refusals and answers by format; anything else is raised with the format and number of the change."""
    counts = Counter()
    for name, (path, read, is_right) in files.items():
        whole = path.read_bytes()
        for number in range(count):
            path.write_bytes(changed(whole, np.random.default_rng((seed, number))))
            try:
                answer = read(path)
            except InputError:
                counts[name, "refused"] += 1
            except Exception as error:
                raise AssertionError(f"{name}, change {number} of seed {seed}: {error!r}") from error
            else:
                assert is_right(answer), (name, number)
                counts[name, "answered"] += 1
        path.write_bytes(whole)
        assert is_right(read(path))
    return counts


@pytest.mark.filterwarnings("ignore")  # of libraries that read what is left of their files
def test_a_damaged_file_is_refused_or_read_right(tmp_path):
    counts = campaign(files_in(tmp_path), 12, seed=1)
    assert sum(counts.values()) == 96
    assert all(counts[name, "refused"] > 0 for name, _ in counts)


def npz(path, **members):
    """An archive of these members; a value is bytes of an array file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def array_file(shape, data=b"", dtype="<f8"):
    """An array file whose header declares a shape, whatever its data are."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def test_an_archive_declares_what_it_holds(tmp_path):
    path = tmp_path / "a.npz"
    signals.save(path, [recording()])
    whole = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        first = archive.infolist()[0]
    central = whole.index(b"PK\x01\x02")
    for place, value, words in (
        (central + 8, b"\x01", "is encrypted"),  # flags
        (central + 10, b"\x63", "is compressed by method 99"),
        (central + 24, struct.pack("<I", 2**32 - 2), "declares 4294967294 bytes, more than the file can hold"),
        (central + 20, struct.pack("<I", 2**31), "more than the file can hold"),
    ):
        path.write_bytes(whole[:place] + value + whole[place + len(value) :])
        with pytest.raises(InputError, match=rf"a\.npz: .*{words}"):
            signals.load(path)
    middle = first.header_offset + 30 + len(first.filename) + first.compress_size // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    with pytest.raises(InputError, match=r"a\.npz: not a file of recorded signals"):
        signals.load(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (array_file("(1000000000000,)"), r"declares the shape \(1000000000000,\)"),
        (array_file("(2, 3)", bytes(40)), r"declares the shape \(2, 3\)"),
        (array_file("(2,)", bytes(16), dtype="|O"), "pickled objects"),
        (array_file("(" * 3000), "not a file of recorded signals"),
        (array_file("(2,)", bytes(16), dtype="nonsense"), "not a file of recorded signals"),
        (b"\x93NUMPY\x09\x00" + bytes(80), "unknown format"),
        (b"short", "not a file of recorded signals"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of the parser of Python, which numpy asks
def test_an_array_declares_what_it_holds(content, words, tmp_path):
    npz(tmp_path / "a.npz", **{"0/attention": content})
    with pytest.raises(InputError, match=words):
        signals.load(tmp_path / "a.npz")


def test_meta_of_many_brackets_is_no_meta(tmp_path):
    np.savez(tmp_path / "a.npz", meta=np.array("[" * 100_000), **{"0/attention": np.ones((1, 1, 1, 1))})
    with pytest.raises(InputError, match="meta: this is not JSON: its brackets are nested too deeply"):
        signals.load(tmp_path / "a.npz")


def test_a_recording_beyond_the_memory_is_refused(tmp_path, monkeypatch):
    signals.save(tmp_path / "a.npz", [recording()])
    monkeypatch.setattr("ctrlattn.capacity.available_memory", lambda: 100)
    with pytest.raises(InputError, match="its arrays: this does not fit into memory"):
        signals.load(tmp_path / "a.npz")


def test_netcdf_has_its_data_in_itself(tmp_path):
    h5py = pytest.importorskip("h5py")
    results.save(tmp_path / "other.nc", xr.Dataset({"secret": ("a", np.ones(3))}))
    (tmp_path / "raw").write_bytes(bytes(24))

    def external(file):
        file["state"] = h5py.ExternalLink(str(tmp_path / "other.nc"), "/secret")

    def soft(file):
        file["state"] = h5py.SoftLink("/nowhere")

    def raw(file):
        file.create_dataset("state", (3,), "f8", external=[(str(tmp_path / "raw"), 0, 24)])

    def virtual(file):
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.nc"), "secret", (3,))
        file.create_virtual_dataset("state", layout)

    def huge(file):
        file.create_dataset("state", (10**12,), "f8", chunks=(1000,))

    for make, words in (
        (external, "'state' is a link to another place"),
        (soft, "'state' is a link to another place"),
        (raw, "the data of '/state' are in another file"),
        (virtual, "the data of '/state' are in another file"),
        (huge, "declare 8000000000000 bytes, more than the file can hold"),
    ):
        path = tmp_path / f"{make.__name__}.nc"
        with h5py.File(path, "w") as file:
            make(file)
        with pytest.raises(InputError, match=rf"{make.__name__}\.nc: not a netCDF file that can be read: .*{words}"):
            results.load(path)
    with h5py.File(tmp_path / "self.nc", "w") as file:
        file["a/itself"] = file.create_group("b")
        file["b/a"] = file["a"]  # a circle of hard links
        file.attrs["ctrlattn"] = "0.1.0"
    assert not results.load(tmp_path / "self.nc").data_vars


def test_a_configuration_of_many_brackets_is_no_toml(tmp_path):
    (tmp_path / "a.toml").write_text("a = " + "[" * 20_000)
    with pytest.raises(InputError, match=r"a\.toml: this is not TOML: its brackets are nested too deeply"):
        config.load(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text("a" + ".a" * 5000 + " = 1")
    with pytest.raises(InputError, match=r"a\.toml: ") as caught:
        config.load(tmp_path / "a.toml")
    assert len(str(caught.value)) < 500
    (tmp_path / "a.toml").write_text(f'[loop]\npreset = "{"x" * 10_000}"')
    with pytest.raises(InputError, match="preset") as caught:
        config.load(tmp_path / "a.toml")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("name", "value"), [("vocab_size", 10**10), ("hidden_size", 2**24), ("intermediate_size", 10**11)]
)
def test_sizes_that_the_weights_have_not_are_refused_before_they_are_made(name, value, tmp_path):
    network(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, name: value}))
    with pytest.raises(InputError, match=r"its configuration wants [0-9]+ numbers as weights, the files hold"):
        load(tmp_path)


HOSTILE = (-1, 0, 3, 10**18, "x", None, [], {}, True, 1.5, [1, 2], {"a": 1})


@pytest.mark.filterwarnings("ignore")  # of transformers, about values that it knows to be strange
def test_a_configuration_of_strange_values_is_refused_or_read_right(tmp_path):
    network(tmp_path)
    whole = json.loads((tmp_path / "config.json").read_text())
    rng, refused = np.random.default_rng(2), 0
    for _ in range(40):
        key, value = str(rng.choice(sorted(whole))), HOSTILE[int(rng.integers(len(HOSTILE)))]
        (tmp_path / "config.json").write_text(json.dumps({**whole, key: value}))
        try:
            assert sound(load(tmp_path)), (key, value)
        except InputError:
            refused += 1
    assert 0 < refused < 40


def test_a_dictionary_and_a_run_of_many_brackets_are_no_files_of_ours(tmp_path):
    from safetensors.torch import save_file

    from ctrlattn.nn.experiment.resume import _read
    from ctrlattn.observers.dictionary import load as load_dictionary

    save_file({"decoder": torch.zeros(2, 2)}, tmp_path / "a.safetensors", metadata={"observer": "[" * 100_000})
    with pytest.raises(InputError, match=r"a\.safetensors: no dictionary"):
        load_dictionary(tmp_path / "a.safetensors")
    said = []
    for content in ("[" * 100_000, "{", "[]"):
        (tmp_path / "run.json").write_text(content)
        said.clear()
        assert _read(tmp_path / "run.json", lambda step, *_: said.append(step)) == {}
        assert said == ["run.json is damaged: it is trained again"]
