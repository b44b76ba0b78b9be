"""A user's images: from folders and arrays, good ones and bad."""

import contextlib
import io
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deepfm.errors import ConfigError, DataError
from deepfm.model_selection.images import LabelledRows, read_dataset, split_shots
from deepfm.model_selection.images.pixels import in_channels, resized


def save(path, values, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values))
    (image.convert(mode) if mode else image).save(path, **options)


def grey(level, size=(4, 5)):
    return np.full(size, level, np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two classes of two grey images each, 4 pixels high and 5 wide."""
    for place, name in enumerate(["cat", "dog"]):
        for each in range(2):
            save(tmp_path / name / f"{each}.png", grey(100 * place + each))
    return tmp_path


def test_a_folder_gives_rows_labels_and_names_in_order(folder):
    data = read_dataset(folder)
    assert data.rows.shape == (4, 1, 4, 5)
    assert data.rows.dtype == np.float32
    assert data.rows[:, 0, 0, 0] * 255 == pytest.approx([0, 1, 100, 101], abs=1e-4)
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.class_names == ("cat", "dog")
    assert data.notes == ()
    assert repr(data) == "LabelledRows(4 images 1x4x5, 2 classes)"


def test_colour_makes_all_colour_and_opacity_is_laid_on_white(folder):
    pixel = np.zeros((4, 5, 4), np.uint8)
    pixel[..., 0], pixel[..., 3] = 255, 51  # a fifth of red
    save(folder / "dog" / "2.png", pixel)
    data = read_dataset(folder)
    assert data.rows.shape == (5, 3, 4, 5)
    assert data.rows[4, :, 0, 0] == pytest.approx([1.0, 0.8, 0.8], abs=1e-6)
    assert data.rows[3, :, 0, 0] == pytest.approx([101 / 255] * 3)
    assert data.notes == ("4 of 5 images are grey, among colour ones, and are read as colour",)


def test_other_modes_and_kinds_of_file_are_read(folder):
    save(folder / "cat" / "palette.gif", grey(7), "P")
    save(folder / "cat" / "print.tif", grey(7), "CMYK")
    save(folder / "cat" / "bits.PNG", grey(255), "1")
    save(folder / "cat" / "photo.jpeg", grey(7))
    save(folder / "dog" / "opaque.png", grey(7), "LA")
    data = read_dataset(folder)
    assert len(data) == 9
    assert [note for note in data.notes if "cannot be read" in note] == []


def test_sixteen_bits_and_fractions_keep_their_depth(tmp_path):
    save(tmp_path / "a" / "0.png", np.full((4, 4), 257, np.uint16))
    save(tmp_path / "a" / "1.tif", np.full((4, 4), 0.123, np.float32))
    save(tmp_path / "b" / "0.png", np.full((4, 4), 65535, np.uint16))
    save(tmp_path / "b" / "1.png", grey(255, (4, 4)))
    data = read_dataset(tmp_path)
    assert data.rows[:, 0, 2, 2] == pytest.approx([257 / 65535, 0.123, 1.0, 1.0], abs=1e-6)


def test_images_are_turned_upright_as_their_camera_says(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn: stored 5 high and 4 wide, seen 4 high and 5 wide
    save(folder / "dog" / "turned.jpg", np.repeat(grey(0, (5, 1)) + np.arange(0, 250, 50, np.uint8)[:, None], 4, 1),
         exif=exif)  # fmt: skip
    data = read_dataset(folder)
    assert data.rows.shape[2:] == (4, 5)
    assert data.notes == ()
    assert np.all(np.diff(data.rows[4, 0], axis=1) < 0)  # what was down is now left


def test_sizes_are_brought_to_that_of_most_or_the_given_one(folder):
    save(folder / "dog" / "large.png", grey(50, (8, 10)))
    data = read_dataset(folder)
    assert data.rows.shape == (5, 1, 4, 5)
    assert data.rows[4] == pytest.approx(np.full((1, 4, 5), 50 / 255), abs=1e-6)
    assert data.notes == ("1 of 5 images were resized to 4x5 pixels",)
    assert read_dataset(folder, size=(3, 7)).rows.shape == (5, 1, 3, 7)
    assert read_dataset(folder, size=(3, 7)).notes == ("5 of 5 images were resized to 3x7 pixels",)


def test_unreadable_images_are_named_and_left_out_or_refused(folder):
    whole = (folder / "cat" / "0.png").read_bytes()
    (folder / "cat" / "text.png").write_text("no image")
    (folder / "dog" / "cut.png").write_bytes(whole[: len(whole) - 20])
    data = read_dataset(folder)
    assert len(data) == 4
    assert len(data.notes) == 1
    assert data.notes[0].startswith("2 images cannot be read and are left out: ")
    assert "text.png" in data.notes[0]
    assert "cut.png" in data.notes[0]
    with pytest.raises(DataError, match=r"image .*text.png cannot be read \(it is no image that Pillow knows\); mend"):
        read_dataset(folder, on_unreadable="refuse")
    with pytest.raises(ConfigError, match="on_unreadable = 'ignore'; expected skip or refuse"):
        read_dataset(folder, on_unreadable="ignore")


def test_fractions_out_of_range_cannot_be_read(folder):
    values = np.full((4, 5), 0.5, np.float32)
    values[0, 0] = np.nan
    save(folder / "cat" / "nan.tiff", values)
    save(folder / "cat" / "far.tiff", np.full((4, 5), 300.0, np.float32))
    note = read_dataset(folder).notes[0]
    assert note.startswith("2 images cannot be read")
    assert "reach from 300.0 to 300.0 where 0 to 1 is known" in note


def test_an_image_that_would_fill_memory_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    save(folder / "cat" / "bomb.png", grey(0, (11, 11)))
    save(folder / "cat" / "larger.png", grey(0, (30, 30)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_dataset(folder).notes[0].startswith("2 images cannot be read")
    monkeypatch.setattr("deepfm.model_selection.images.folder.MOST_BYTES", 100)
    with pytest.raises(DataError, match=r"4 images of 4x5 in .* take .* give a smaller size"):
        read_dataset(folder)


def test_what_is_no_image_of_a_class_is_noted(folder):
    (folder / "readme.txt").write_text("about")
    (folder / ".hidden").mkdir()
    (folder / "cat" / ".DS_Store").write_bytes(b"x")
    (folder / "cat" / "notes.csv").write_text("a,b")
    (folder / "empty").mkdir()
    data = read_dataset(folder)
    assert data.class_names == ("cat", "dog")
    assert data.notes == (
        "1 folder holds no image and is left out: empty",
        "2 files or folders are no image of a class: readme.txt, cat/notes.csv",
    )


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "holds 0 folders and no image in them; expected"),
        (["a.png"], "holds images but no folders of them; expected .*/CLASS/"),
        (["cat/a.png"], "holds images of one class, 'cat'; expected two or more"),
        (["cat/a.png", "cat/b.png", "dog/c.txt"], "holds images of one class, 'cat'"),
        (["train/cat/a.png", "train/dog/a.png"], "holds folders of folders; .*; give one below it, such as .*/train"),
        (["cat/a.txt", "dog/b.txt"], "holds 2 folders and no image in them"),
    ],
)  # fmt: skip
def test_folders_that_are_no_data_set_get_a_sentence(tmp_path, files, words):
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        save(tmp_path / file, grey(1)) if file.endswith("png") else (tmp_path / file).write_text("x")
    with pytest.raises(DataError, match=words):
        read_dataset(tmp_path)


def test_a_folder_with_one_readable_image_gets_a_sentence(folder):
    for file in ("cat/0.png", "cat/1.png", "dog/0.png"):
        (folder / file).write_bytes(b"broken")
    with pytest.raises(DataError, match="the data set has 1 images; expected two or more"):
        read_dataset(folder)
    (folder / "dog/1.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"none of 4 images in .* can be read, first .*cat/0.png"):
        read_dataset(folder)
    with pytest.raises(DataError, match=r"data set .*nowhere does not exist; expected a folder"):
        read_dataset(folder / "nowhere")
    with pytest.raises(DataError, match=r"data set .*0.png is neither; expected a folder"):
        read_dataset(folder / "cat" / "0.png")


def arrays(tmp_path, **named):
    np.savez(tmp_path / "data.npz", **named)
    return tmp_path / "data.npz"


PICTURES = np.arange(4 * 3 * 6, dtype=np.uint8).reshape(4, 3, 6)
LABELS = np.array([5, 2, 2, 5])


def test_arrays_give_rows_labels_and_names(tmp_path):
    data = read_dataset(arrays(tmp_path, x=PICTURES, y=LABELS))
    assert data.rows == pytest.approx(PICTURES[:, None] / 255)
    assert data.labels.tolist() == [1, 0, 0, 1]
    assert data.class_names == ("2", "5")
    assert data.notes == ()
    named = read_dataset(
        arrays(tmp_path, images=PICTURES, labels=LABELS[:, None] // 5, class_names=["no", "yes", "none"])
    )
    assert named.class_names == ("no", "yes")
    assert named.notes == ("1 of 3 named classes have no image and are left out",)
    texts = read_dataset(arrays(tmp_path, x=PICTURES, y=np.array(["b", "a", "a", "b"])), size=(2, 2))
    assert texts.class_names == ("a", "b")
    assert texts.rows.shape == (4, 1, 2, 2)
    assert texts.notes == ("4 images of 3x6 pixels were resized to 2x2",)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 8, 9), (4, 1, 8, 9)),
        ((4, 3, 8, 9), (4, 3, 8, 9)),
        ((4, 8, 9, 3), (4, 3, 8, 9)),
        ((4, 8, 9, 4), (4, 3, 8, 9)),
        ((4, 1, 8, 9), (4, 1, 8, 9)),
        ((4, 8, 9, 1), (4, 1, 8, 9)),
    ],
)
def test_channels_stand_first_or_last(tmp_path, shape, expected):
    pixels = np.random.default_rng(0).random(shape)
    data = read_dataset(arrays(tmp_path, x=pixels, y=LABELS))
    assert data.rows.shape == expected
    if shape == (4, 8, 9, 3):
        assert data.rows[1, 2] == pytest.approx(pixels[1, :, :, 2])
    if shape[-1] == 4:
        assert data.rows[1, 2] == pytest.approx(1 - pixels[1, ..., 3] * (1 - pixels[1, ..., 2]), abs=1e-6)


@pytest.mark.parametrize(
    ("values", "top", "note"),
    [
        (np.array([0, 255], np.uint8), 1.0, ""),
        (np.array([0, 16], np.uint8), 16 / 255, ""),
        (np.array([0, 200], np.int64), 200 / 255, "images of type int64 that reach to 200 are taken as 0 to 255"),
        (np.array([0, 300], np.uint16), 300 / 65535, "images of type uint16 that reach to 300 are taken as 0 to 65535"),
        (np.array([0.0, 0.5]), 0.5, ""),
        (np.array([False, True]), 1.0, ""),
    ],
)
def test_whole_numbers_are_brought_to_fractions(tmp_path, values, top, note):
    data = read_dataset(arrays(tmp_path, x=np.tile(values, (4, 3, 3)), y=LABELS))
    assert data.rows.max() == pytest.approx(top)
    assert data.notes == ((note,) if note else ())


BAD = PICTURES.astype(float) / 255
BAD[2, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"x": PICTURES}, "has no array 'y'; expected images in 'x' and labels in 'y'; it has x"),
        ({"labels": LABELS, "z": LABELS}, "has no array 'x'; .* it has labels, z"),
        ({}, "it has nothing"),
        ({"x": PICTURES, "y": LABELS[:3]}, r"has labels of shape \(3,\) for 4 images"),
        ({"x": PICTURES, "y": np.eye(4)}, r"has labels of shape \(4, 4\) for 4 images"),
        ({"x": PICTURES, "y": LABELS * 0}, "the data set has one class, '0'"),
        ({"x": PICTURES, "y": LABELS + 0.5}, "hold 5.5; expected classes"),
        ({"x": PICTURES, "y": np.where(LABELS == 2, np.nan, 1)}, "hold nan; expected classes"),
        ({"x": PICTURES, "y": LABELS.astype(complex)}, "hold complex128; expected classes"),
        ({"x": PICTURES[:1], "y": LABELS[:1]}, "the data set has 1 images"),
        ({"x": PICTURES[:0], "y": LABELS[:0]}, r"have shape \(0, 3, 6\)"),
        ({"x": PICTURES.reshape(4, 18), "y": LABELS}, r"have shape \(4, 18\); expected \(rows, height, width\)"),
        ({"x": np.zeros((4, 5, 6, 7)), "y": LABELS}, "expected 1, 3 or 4 channels"),
        ({"x": BAD, "y": LABELS}, "1 images in .* hold NaN or infinity, first image 2"),
        ({"x": PICTURES / 4, "y": LABELS}, "reach from 0.0 to 17.75; expected fractions from 0 to 1"),
        ({"x": PICTURES.astype(int) - 1, "y": LABELS}, "reach from -1 to 70; expected whole numbers"),
        ({"x": PICTURES.astype(int) * 10**4, "y": LABELS}, "reach from 0 to 710000"),
        ({"x": PICTURES.astype(str), "y": LABELS}, "are of type <U3; expected numbers"),
        ({"x": PICTURES, "y": LABELS, "class_names": ["a", "b"]}, "has label 5 and 2 class_names"),
        ({"x": PICTURES, "y": LABELS, "class_names": np.arange(9)}, "class_names in .* name no classes"),
        ({"x": PICTURES, "y": LABELS.astype(str), "class_names": ["a"]}, "class_names in .* name no classes"),
        ({"x": np.array([PICTURES[0], None, None, None], object), "y": LABELS}, "holds Python objects"),
    ],
)
def test_arrays_that_are_no_data_set_get_a_sentence(tmp_path, named, words):
    with pytest.raises(DataError, match=words):
        read_dataset(arrays(tmp_path, **named))


def test_a_file_that_only_ends_in_npz_is_called_none(tmp_path):
    path = tmp_path / "mine.npz"
    path.write_bytes(b"images")
    with pytest.raises(DataError, match=r"mine\.npz is no \.npz; expected what numpy\.savez writes"):
        read_dataset(path)


@settings(max_examples=30, deadline=None)
@given(cut=st.integers(0, 400), flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6))
def test_damaged_arrays_are_read_whole_or_refused_in_a_sentence(tmp_path_factory, cut, flips):
    buffer = io.BytesIO()
    np.savez(buffer, x=PICTURES, y=LABELS)
    content = bytearray(buffer.getvalue())
    for place, value in flips:
        content[place % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(content[: len(content) - cut])
    with contextlib.suppress(DataError):  # any other error fails
        assert read_dataset(path).rows.shape == (4, 1, 3, 6)


@settings(max_examples=30, deadline=None)
@given(kind=st.sampled_from(["png", "jpeg", "gif", "bmp", "tiff"]), cut=st.integers(0, 60),
       flips=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=4))  # fmt: skip
def test_damaged_images_are_left_out_or_read(tmp_path_factory, kind, cut, flips):
    root = tmp_path_factory.getbasetemp() / "fuzz"
    for place, name in enumerate(["cat", "dog"]):
        save(root / name / "0.png", grey(100 * place))
    buffer = io.BytesIO()
    Image.fromarray(grey(50)).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for place, value in flips:
        content[place % len(content)] = value
    damaged = root / "cat" / "damaged.png"
    damaged.write_bytes(content[: max(0, len(content) - cut)])
    data = read_dataset(root, size=(4, 5))
    assert len(data) + sum(note.startswith("1 images cannot be read") for note in data.notes) == 3


def test_sizes_change_by_means_of_areas_and_linearly():
    ramp = np.arange(8, dtype=np.float32).reshape(1, 1, 1, 8).repeat(4, axis=2) / 8
    assert resized(ramp, (2, 4))[0, 0, 1] * 8 == pytest.approx([0.5, 2.5, 4.5, 6.5])
    assert resized(ramp, (4, 3)).mean() == pytest.approx(ramp.mean(), abs=1e-6)
    assert resized(np.array([[[[0.0, 1.0]]]], np.float32), (1, 4))[0, 0, 0] == pytest.approx([0, 0.25, 0.75, 1])
    assert resized(ramp, (4, 8)) is not None
    assert np.array_equal(resized(ramp, (4, 8)), ramp)


def test_channels_change_by_luminance_and_repetition():
    red = np.zeros((1, 3, 2, 2), np.float32)
    red[:, 0] = 1
    assert in_channels(red, 1) == pytest.approx(np.full((1, 1, 2, 2), 0.299))
    assert in_channels(in_channels(red, 1), 3).shape == (1, 3, 2, 2)
    with pytest.raises(DataError, match="images of 3 channels cannot be given 2"):
        in_channels(red, 2)
    with pytest.raises(DataError, match=r"size = \(0, 4\)"):
        resized(red, (0, 4))


def test_a_data_set_is_fitted_to_a_model_and_cut_to_rows(folder):
    data = read_dataset(folder)
    fitted = data.fitted(3, (8, 8))
    assert fitted.rows.shape == (4, 3, 8, 8)
    assert data.rows.shape == (4, 1, 4, 5)
    assert data.subset([3, 0]).labels.tolist() == [1, 0]
    with pytest.raises(DataError, match="the data set has one class, 'dog'"):
        data.subset([2, 3])
    with pytest.raises(DataError, match="rows reach from -1 to"):
        LabelledRows(data.rows - 1, data.labels, data.class_names)
    with pytest.raises(DataError, match=r"labels are \[0, 1\] for 3 class names"):
        LabelledRows(data.rows, data.labels, ("cat", "dog", "bird"))
    with pytest.raises(DataError, match="type float64"):
        LabelledRows(data.rows.astype(float), data.labels, data.class_names)
    with pytest.raises(DataError, match=r"labels have shape \(3,\)"):
        LabelledRows(data.rows, data.labels[:3], data.class_names)


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 30), min_size=2, max_size=6), share=st.floats(0, 1), seed=st.integers(0, 9))
def test_shots_are_stratified_and_drawn_again_alike(sizes, share, seed):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(sizes)), sizes))
    shots = round(len(sizes) + share * (sum(sizes) - len(sizes)))
    drawn, rest = split_shots(labels, shots, np.random.default_rng(seed))
    assert len(drawn) == shots
    assert sorted([*drawn, *rest]) == list(range(len(labels)))
    counts = np.bincount(labels[drawn], minlength=len(sizes))
    assert (counts >= 1).all()
    exact = np.array(sizes) * shots / sum(sizes)
    assert (counts <= np.maximum(np.ceil(exact), 1) + 1e-9).all()
    again, _ = split_shots(labels, shots, np.random.default_rng(seed))
    assert np.array_equal(drawn, again)


def test_shots_out_of_range_get_a_sentence():
    with pytest.raises(DataError, match="shots = 1; expected from 2, one a class, to 4"):
        split_shots([0, 0, 1, 1], 1, np.random.default_rng(0))
    with pytest.raises(DataError, match="shots = 5"):
        split_shots([0, 0, 1, 1], 5, np.random.default_rng(0))
