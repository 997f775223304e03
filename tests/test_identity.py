"""A digest changes with every byte that decides a result; folders of other work are left alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from ctrlattn.errors import InputError
from ctrlattn.identity import FilesDigest, digest, of_files, of_network, work_folder

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        ((1,), (1.0,)),
        ((True,), (1,)),
        ((None,), ("None",)),
        (([1, 2],), ([2, 1],)),
        (([1], 2), ([1, 2],)),
        ((np.arange(3),), (np.arange(3.0),)),
        ((np.zeros((2, 3)),), (np.zeros((3, 2)),)),
        ((torch.zeros(2),), (torch.zeros(2, dtype=torch.bfloat16),)),
        ((torch.zeros(2),), (torch.tensor([0.0, -0.0]),)),
        (({"a": 1},), ({"a": 2},)),
        ((b"a",), ("a",)),
    ],
)
def test_content_type_shape_and_boundaries_count(one, other):
    assert digest(*one) != digest(*other)
    assert digest(*one) == digest(*one)


def test_the_order_of_a_dictionary_and_of_memory_does_not_count():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    a = np.arange(6.0).reshape(2, 3)
    assert digest(a) == digest(np.asfortranarray(a))
    assert digest(torch.arange(6).reshape(2, 3).T) == digest(torch.arange(6).reshape(2, 3).T.contiguous())
    assert digest(torch.tensor(1.5)) != digest(torch.tensor(2.5))


def test_what_has_no_bytes_of_its_own_is_no_identity():
    for part in (object(), np.array([object()]), Path("a"), {1, 2}):
        with pytest.raises(TypeError, match="an identity is of texts, numbers, arrays and tensors"):
            digest(part)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_byte_of_every_weight_and_buffer_counts(dtype):
    model = torch.nn.Sequential(torch.nn.Linear(40, 40), torch.nn.BatchNorm1d(40)).to(dtype)
    first = of_network(model)
    for weight in [*model.parameters(), *model.buffers()]:
        flat = weight.data.view(-1)
        for index in {0, len(flat) // 3, len(flat) - 1}:
            before = flat[index].clone()
            flat[index] = before + 1
            assert of_network(model) != first
            flat[index] = before
    assert of_network(model) == first
    assert of_network(torch.nn.Sequential(model[0], torch.nn.Identity())) != of_network(torch.nn.Sequential(model[0]))


def test_files_are_known_by_their_contents(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"x" * 100), b.write_bytes(b"y" * 100)
    both = of_files([a, b])
    assert both == blake3(b"file 100 " + b"x" * 100 + b"file 100 " + b"y" * 100).hexdigest()
    assert both != of_files([b, a])
    b.write_bytes(b"y" * 99 + b"z")
    assert of_files([a, b]) != both
    a.write_bytes(b"xy"), b.write_bytes(b"")
    c = tmp_path / "c"
    c.write_bytes(b"x"), b.write_bytes(b"y")
    assert of_files([a]) != of_files([c, b])


def test_a_digest_beside_other_work_is_that_of_the_files(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path, size in zip(paths, (5_000_000, 0), strict=True):
        path.write_bytes(bytes(range(256)) * (size // 256))
    with FilesDigest(paths) as files:
        assert files.digest() == of_files(paths)
        assert files.digest() == of_files(paths)


def test_a_digest_of_files_that_change_or_go_is_refused(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"1")
    with FilesDigest([path]) as files:
        path.write_bytes(b"22")
        with pytest.raises(InputError, match="was changed while it was read"):
            files.digest()
    absent = FilesDigest([path])
    path.unlink()
    with absent as files, pytest.raises(FileNotFoundError):
        files.digest()


def test_a_block_that_ends_early_ends_the_thread(tmp_path, monkeypatch):
    """Hashing would otherwise keep a refused command alive until the last byte of the weights."""
    read = []

    class Endless:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def readinto(self, part):
            read.append(len(part))
            return len(part)

    path = tmp_path / "a"
    path.write_bytes(b"1")
    files = FilesDigest([path])
    monkeypatch.setattr(Path, "open", lambda *_, **__: Endless())
    with pytest.raises(ValueError, match="refused"), files:
        raise ValueError("refused")
    count = len(read)
    assert not files._thread.is_alive()
    assert len(read) == count
    with pytest.raises(RuntimeError, match="inside the block"):  # the digest of a part is none of the file
        files.digest()


def test_work_of_another_digest_or_of_none_is_left_alone(tmp_path):
    told = []

    def progress(step, done, total):
        told.append(step)

    out = tmp_path / "out"
    assert work_folder(out, "1" * 64, progress) == out
    (out / "results.nc").write_bytes(b"first")
    other = work_folder(out, "2" * 64, progress)
    assert (other.name, len(told)) == ("out-22222222", 1)
    assert work_folder(out, "1" * 64, progress) == out
    assert len(told) == 1
    (out / "identity.json").unlink()  # of an older version
    assert work_folder(out, "1" * 64, progress).name == "out-11111111"
    for content in ("{not json", "[" * 100_000, '{"identity": ' + "9" * 5000 + "}", "[]", '{"identity": 3}', ""):
        (out / "identity.json").write_text(content)
        assert work_folder(out, "3" * 64, progress).name == "out-33333333"
    assert (out / "results.nc").read_bytes() == b"first"


def test_a_folder_with_files_of_the_user_alone_is_used(tmp_path):
    (tmp_path / "text.txt").write_text("mine")
    assert work_folder(tmp_path, "1" * 64) == tmp_path
    assert json.loads((tmp_path / "identity.json").read_text()) == {"identity": "1" * 64}
