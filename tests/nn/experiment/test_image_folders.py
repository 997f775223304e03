"""Images of a directory: which are read, how they are cut, and what is refused."""

import numpy as np
import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

from ctrlattn.nn.experiment.image_folders import Images, folder, middle, random_part  # noqa: E402  (after the skip)

CLASSES = ("bright", "dark", "mixed")


def write(root, classes=CLASSES, n=20, size=(24, 20)):
    """n images a class; image k of class c has the grey level 10 k + c."""
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for k in range(n):
            Image.new("RGB", size, (10 * k + c,) * 3).save(root / name / f"{k:03}.png")
    return root


def levels(part):
    return (part.inputs[:][:, 0, 0, 0] * 255).round().int().tolist()


def test_of_ten_images_of_a_class_eight_train_one_checks_one_is_tested(tmp_path):
    data = folder(write(tmp_path / "pets"), 8)
    assert (data.name, data.classes, data.is_text) == ("pets", 3, False)
    assert [len(part.targets) for part in (data.train, data.valid, data.test)] == [48, 6, 6]
    for part, numbers in ((data.valid, (8, 18)), (data.test, (9, 19))):
        assert part.targets.tolist() == [0, 0, 1, 1, 2, 2]
        assert levels(part) == [10 * k + c for c in range(3) for k in numbers]
    assert set(levels(data.train)).isdisjoint({*levels(data.valid), *levels(data.test)})


def test_val_is_tested_where_it_is_and_one_in_fifty_checks(tmp_path):
    write(tmp_path / "train", n=25), write(tmp_path / "val", n=2)
    data = folder(tmp_path, 8)
    assert [len(part.targets) for part in (data.train, data.valid, data.test)] == [74, 1, 6]
    assert data.test.targets.tolist() == [0, 0, 1, 1, 2, 2]


def test_the_order_of_the_classes_is_torchvisions(tmp_path):
    torchvision = pytest.importorskip("torchvision")
    images = torchvision.datasets.ImageFolder(write(tmp_path / "pets"))
    ours = folder(tmp_path / "pets", 8)
    assert sorted({label for _, label in images.samples}) == list(range(ours.classes))
    assert [str(file) for file, label in images.samples if label == 1][8] == str(ours.valid.inputs.files[2])


def test_images_are_indexed_as_an_array_is(tmp_path):
    images = Images(sorted(write(tmp_path, classes=("one",)).rglob("*.png")), 8)
    whole = images[:]
    assert tuple(whole.shape) == images.shape == (20, 3, 8, 8)
    assert whole.dtype == torch.float32
    for rows in (torch.tensor([3, 1]), np.array([3, 1]), slice(2, 5), slice(0, 0)):
        npt.assert_array_equal(images[rows], whole[rows])


def test_hidden_files_and_folders_are_no_images_and_no_classes(tmp_path):
    plain, hidden = folder(write(tmp_path / "plain"), 8), write(tmp_path / "hidden")
    for image in (hidden / CLASSES[0]).glob("*.png"):
        image.with_name(f"._{image.name}").write_bytes(b"attributes of macOS")
    (hidden / ".ipynb_checkpoints").mkdir()
    data = folder(hidden, 8)
    assert data.classes == len(CLASSES)
    assert [levels(part) for part in data[2:5]] == [levels(part) for part in plain[2:5]]


def test_the_middle_is_cut_and_a_random_part_mirrored(tmp_path):
    ramp = np.broadcast_to(np.arange(160, dtype=np.uint8)[None, :, None], (80, 160, 3))
    Image.fromarray(np.ascontiguousarray(ramp)).save(tmp_path / "ramp.png")
    images = Images([tmp_path / "ramp.png"], 7)
    left, _, right, _ = middle(160, 80)
    assert (left, right) == (45.0, 115.0)
    expected = (left + (np.arange(7) + 0.5) * 10 - 0.5) / 255  # pixel k of 160 covers k to k + 1
    npt.assert_allclose(images[:][0, 0, 3], expected, rtol=0, atol=1 / 255)
    rows = torch.tensor([0])
    straight, mirrored = (images.drawn(rows, np.array([[0.5, 0.5, 0.2, 0.2, flip]])) for flip in (0.0, 0.9))
    npt.assert_array_equal(mirrored, straight.flip(-1))
    assert straight[0, 0, 0, 0] < straight[0, 0, 0, -1]


def test_random_parts_lie_inside_and_have_the_areas_and_ratios_of_the_recipe():
    for draw in np.random.default_rng(0).random((2000, 5)):
        left, top, right, bottom = random_part(300, 200, draw)
        assert 0 <= left < right <= 300 + 1e-9
        assert 0 <= top < bottom <= 200 + 1e-9
        inside = right - left < 300 - 1e-9 and bottom - top < 200 - 1e-9
        ratio, share = (right - left) / (bottom - top), (right - left) * (bottom - top) / 60_000
        if inside:
            assert 3 / 4 - 1e-9 <= ratio <= 4 / 3 + 1e-9
            assert abs(share - (0.08 + 0.92 * draw[0])) < 1e-9


def test_a_directory_that_cannot_be_used_says_why(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: no images; give one folder per class, empty/<class>/\*.jpg"):
        folder(tmp_path / "empty", 8)
    (tmp_path / "hole" / "a").mkdir(parents=True)
    write(tmp_path / "hole", classes=("b",))
    with pytest.raises(ValueError, match="the class folder 'a' has no images"):
        folder(tmp_path / "hole", 8)
    with pytest.raises(ValueError, match="class 'bright' has 9 images; ten are needed"):
        folder(write(tmp_path / "few", n=9), 8)
    write(tmp_path / "two" / "train"), write(tmp_path / "two" / "val", classes=("bright", "grey"))
    with pytest.raises(ValueError, match="train and val must have the same classes; only one of them has 'dark'"):
        folder(tmp_path / "two", 8)
    data = folder(write(tmp_path / "broken"), 8)
    data.test.inputs.files[0].write_text("no image", encoding="utf-8")
    with pytest.raises(ValueError, match=r"009\.png cannot be read as an image"):
        data.test.inputs[:]


def pixel(path):
    return Images([path], 8)[:][0, :, 4, 4].tolist()


def test_sixteen_bits_floats_palettes_and_alpha_are_read_as_a_viewer_shows_them(tmp_path):
    grey = np.full((10, 10), 0.5)
    Image.fromarray((grey * 65535).astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "float.tiff")
    for name in ("deep.png", "float.tiff"):
        npt.assert_allclose(pixel(tmp_path / name), [0.5] * 3, atol=0.003)
    palette = Image.new("RGB", (10, 10), (200, 100, 50)).convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(tmp_path / "palette.png")
    npt.assert_allclose(np.multiply(pixel(tmp_path / "palette.png"), 255), [200, 100, 50], atol=1)
    Image.new("RGBA", (10, 10), (200, 100, 50, 0)).save(tmp_path / "clear.png")
    assert pixel(tmp_path / "clear.png") == [1.0, 1.0, 1.0]
    Image.new("LA", (10, 10), (100, 255)).save(tmp_path / "solid.png")
    npt.assert_allclose(np.multiply(pixel(tmp_path / "solid.png"), 255), [100] * 3)


def test_a_picture_is_turned_as_its_camera_was(tmp_path):
    corner = np.zeros((16, 16, 3), np.uint8)
    corner[:8, 8:] = 255  # white in the upper right
    Image.fromarray(corner).save(tmp_path / "plain.png")
    (plain,) = Images([tmp_path / "plain.png"], 8)[:]
    assert plain[:, 0, -1].tolist() == [1.0] * 3
    for tag, turned in {1: plain, 2: plain.flip(2), 3: plain.rot90(2, (1, 2)), 6: plain.rot90(-1, (1, 2))}.items():
        exif = Image.Exif()
        exif[0x0112] = tag
        Image.fromarray(corner).save(tmp_path / "turned.png", exif=exif)
        (read,) = Images([tmp_path / "turned.png"], 8)[:]
        npt.assert_allclose(read, turned, atol=0.01)


def test_the_value_that_is_transparent_in_sixteen_bits_lies_on_white(tmp_path):
    for value, seen in ((30_000, 1.0), (30_001, 30_000 / 65535)):
        Image.fromarray(np.full((10, 10), 30_000, np.uint16)).save(tmp_path / "a.png", transparency=value)
        npt.assert_allclose(pixel(tmp_path / "a.png"), [seen] * 3, atol=0.003)


def test_floats_outside_the_unit_interval_are_refused(tmp_path):
    Image.fromarray(np.full((10, 10), 40.0, np.float32)).save(tmp_path / "hot.tiff")
    with pytest.raises(ValueError, match="its values run from 40 to 40: wanted are"):
        pixel(tmp_path / "hot.tiff")


def test_the_content_is_that_of_the_files_and_of_their_reading(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("RGB", (10, 10), (1, 2, 3)).save(path)
    first = Images([path], 8).content
    assert Images([path], 16).content == first
    monkeypatch.setattr("ctrlattn.nn.experiment.image_folders._READING", 1)
    assert Images([path], 8).content != first
    monkeypatch.undo()
    Image.new("RGB", (10, 10), (1, 2, 4)).save(path)
    assert Images([path], 8).content != first
