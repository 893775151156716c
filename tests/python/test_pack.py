"""Shards that hadal packs out of what people have, against what numpy, Pillow, h5py and the wave module know of it."""

import json
import os
import pathlib
import subprocess
import wave

import h5py
import hdf5plugin  # noqa: F401  lets h5py read lz4 and zstd
import numpy
import pytest
from conftest import HADAL, ROOT
from PIL import Image
from test_inputs import close, fitted, photo


def pack(*arguments, ranks=1, code=0):
    command = [HADAL, "pack", *map(str, arguments)]
    if ranks > 1:
        command = ["bash", str(ROOT / "tests" / "mpi" / "mpirun.sh"), str(ranks), *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def shards(folder):
    """name: dataset: values"""
    found = {}
    for path in sorted(pathlib.Path(folder).glob("*.h5")):
        with h5py.File(path) as file:
            found[path.name] = {name: file[name][()] for name in file}
    return found


def rows(folder, name):
    return numpy.concatenate([shard[name] for shard in shards(folder).values()])


@pytest.fixture
def images(tmp_path):
    draws = numpy.random.default_rng(1)
    for number, name in enumerate(("ant", "bee", "cat 10%")):
        (tmp_path / "photos" / name / "more").mkdir(parents=True)
        for k in range(7 + number):
            kind = ("jpg", "PNG", "jpeg")[k % 3]
            photo(draws, 20 + k, 30).save(tmp_path / "photos" / name / ("more" if k == 1 else "") / f"{k}.{kind}")
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


def test_a_folder_of_images(tmp_path, images):
    text = pack(images, "--output", tmp_path / "out", "--size", "16,16", "--shards", 3, "--valid", 0.25)
    assert "3 classes: 0 ant, 1 bee, 2 cat 10%" in text and "18 training and 6 validation samples" in text
    files = sorted(path for path in images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    expected = [(sorted(os.listdir(images)).index(path.relative_to(images).parts[0]), fitted(Image.open(path), "RGB", 16, 16))
                for path in files]
    x, y = rows(tmp_path / "out", "x"), rows(tmp_path / "out", "y")
    assert x.dtype == "u1" and y.dtype == "i8" and len(x) == 24
    # Each once, in no order of their classes.
    left = list(range(24))
    for pixels, label in zip(x, y, strict=True):
        match = [k for k in left if expected[k][0] == label and close(pixels.astype("f4"), expected[k][1])]
        left.remove(match[0])
    assert not left
    assert (numpy.diff(y) < 0).sum() > 4
    with h5py.File(tmp_path / "out" / "train-0000.h5") as file:
        assert json.loads(file.attrs["class_names"]) == ["ant", "bee", "cat 10%"]
    # The same bytes by any number of ranks; what is there stays, what is not is made.
    pack(images, "--output", tmp_path / "three", "--size", "16,16", "--shards", 3, "--valid", 0.25, ranks=3)
    for name in ("train-0000.h5", "train-0001.h5", "train-0002.h5", "valid-0000.h5", "pack.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "three" / name).read_bytes()
    (tmp_path / "three" / "train-0001.h5").unlink()
    before = (tmp_path / "three" / "train-0002.h5").stat().st_mtime_ns
    text = pack(images, "--output", tmp_path / "three", "--size", "16,16", "--shards", 3, "--valid", 0.25)
    assert text.count("(was there)") == 3
    assert (tmp_path / "three" / "train-0002.h5").stat().st_mtime_ns == before
    assert (tmp_path / "out" / "train-0001.h5").read_bytes() == (tmp_path / "three" / "train-0001.h5").read_bytes()
    # Other options make other shards; fewer of them would leave some that nobody asked for.
    assert "(was there)" not in pack(images, "--output", tmp_path / "three", "--size", "8,8", "--shards", 3, "--valid", 0.25)
    assert rows(tmp_path / "three", "x").shape == (24, 3, 8, 8)
    assert "from another packing" in pack(images, "--output", tmp_path / "three", "--size", "8,8", "--shards", 2, code=64)


def test_faults_of_image_folders(tmp_path, images):
    assert "--size HEIGHT,WIDTH" in pack(images, "--output", tmp_path / "out", code=64)
    (images / "ant" / "broken.jpg").write_bytes((images / "ant" / "0.jpg").read_bytes()[:200])
    assert "broken.jpg: JPEG" in pack(images, "--output", tmp_path / "out", "--size", "8,8", code=65)
    assert not list((tmp_path / "out").glob("*.tmp"))
    (tmp_path / "empty").mkdir()
    assert "a class is a subfolder" in pack(tmp_path / "empty", "--output", tmp_path / "out", "--size", "8,8", code=65)
    assert "does not exist" in pack(tmp_path / "gone", "--output", tmp_path / "out", "--size", "8,8", code=65)


def test_arrays_in_one_file(tmp_path):
    draws = numpy.random.default_rng(1)
    x, y = draws.standard_normal((30, 4, 5)), draws.integers(0, 9, 30)
    for save in (numpy.savez, numpy.savez_compressed):
        save(tmp_path / "a.npz", images=x, labels=y)
        pack(tmp_path / "a.npz", "--input", "images", "--target", "labels", "--output", tmp_path / save.__name__)
        found = shards(tmp_path / save.__name__)
        both = numpy.concatenate([found["train-0000.h5"]["x"], found["valid-0000.h5"]["x"]])
        labels = numpy.concatenate([found["train-0000.h5"]["y"], found["valid-0000.h5"]["y"]])
        order = [int(numpy.nonzero((x.astype("f4") == row).all((1, 2)))[0][0]) for row in both]
        assert sorted(order) == list(range(30)) and numpy.array_equal(labels, y[order])
    text = pack(tmp_path / "a.npz", "--output", tmp_path / "out", code=65)
    assert 'has no array "x"' in text and "images, labels" in text
    (tmp_path / "cut.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-30])
    assert "no zip file, or cut off" in pack(tmp_path / "cut.npz", "--output", tmp_path / "out", code=66)


@pytest.mark.parametrize("name", ["none", "gzip", "lz4", "zstd"])
@pytest.mark.parametrize("chunk", [0, 7])
def test_other_hdf5_files_repacked(tmp_path, name, chunk):
    draws = numpy.random.default_rng(1)
    data = {"x": draws.standard_normal((100, 30, 7)).astype("f4").round(1), "y": numpy.arange(100),
            "flag": draws.integers(0, 9, (100, 3)).astype("u1")}
    for dtype in ("i1", "u2", "i2", "u4", "i4", "u8", "f2", "f8", "?"):
        data[dtype] = draws.integers(0, 2 if dtype == "?" else 100, (100, 2)).astype(dtype)
    for part in range(2):
        with h5py.File(tmp_path / f"{part}.h5", "w") as file:
            for field, values in data.items():
                file.create_dataset(field, data=values[50 * part:50 * part + 50], chunks=True, compression="gzip")
            file["other"] = 1
    pack(tmp_path / "0.h5", tmp_path / "1.h5", "--output", tmp_path / "out", "--filter", name, "--chunk", chunk,
         "--shards", 2, "--valid", 0.1, "--order", "shuffled", ranks=2)
    order = rows(tmp_path / "out", "y")
    assert sorted(order) == list(range(100)) and (numpy.diff(order) < 0).sum() > 20
    for field, values in data.items():
        found = rows(tmp_path / "out", field)
        assert found.dtype == values.dtype and numpy.array_equal(found, values[order])
    with h5py.File(tmp_path / "out" / "train-0000.h5") as file:
        assert (file["x"].chunks is None) == (name == "none" and chunk == 0)
        assert chunk == 0 or file["x"].chunks[0] == chunk
        assert "other" not in file
    only = tmp_path / "only"
    pack(tmp_path / "0.h5", "--datasets", "y", "--output", only, "--order", "source", "--valid", 0)
    assert list(shards(only)["train-0000.h5"]) == ["y"] and numpy.array_equal(rows(only, "y"), numpy.arange(50))


def test_text_as_bytes(tmp_path):
    text = ("Wo die Zitronen blühn. " * 40).encode()
    (tmp_path / "a.txt").write_bytes(text)
    (tmp_path / "b.txt").write_bytes(b"short")
    pack(tmp_path / "a.txt", tmp_path / "b.txt", "--as", "text", "--tokens", 64, "--output", tmp_path / "out", "--valid", 0)
    found = shards(tmp_path / "out")["train-0000.h5"]
    count = (len(text) - 1) // 64
    assert found["x"].shape == (count, 64)
    assert found["x"].tobytes() == text[:64 * count] and found["y"].tobytes() == text[1:64 * count + 1]
    assert "shorter than one sample" in pack(tmp_path / "b.txt", "--as", "text", "--output", tmp_path / "no", code=65)


def spectrogram(signal, rate, mels):
    """Written from the definition: Hann, power, triangles evenly spaced in mel, logarithm."""
    window, hop = rate // 40, rate // 100
    size = 1 << (window - 1).bit_length()
    hann = 0.5 - 0.5 * numpy.cos(2 * numpy.pi * numpy.arange(window) / window)
    frames = numpy.stack([signal[t:t + window] * hann for t in range(0, len(signal) - window + 1, hop)])
    power = numpy.abs(numpy.fft.rfft(frames, size)) ** 2
    mel = numpy.linspace(0, 2595 * numpy.log10(1 + rate / 2 / 700), mels + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    frequency = numpy.arange(size // 2 + 1) * rate / size
    bands = [numpy.interp(frequency, edges[m:m + 3], [0, 1, 0]) for m in range(mels)]
    return numpy.log(power @ numpy.array(bands).T + 1e-6).T


def test_a_folder_of_sounds(tmp_path):
    draws = numpy.random.default_rng(1)
    signals = {}
    for label, name in enumerate(("hum", "whistle")):
        (tmp_path / "sounds" / name).mkdir(parents=True)
        for k in range(4):
            length = 8000 if k else 3000
            signal = (8000 * numpy.sin(numpy.arange(length) * (0.05 + 0.5 * label + k / 50))
                      + draws.normal(0, 300, length)).astype("<i2")
            stereo = numpy.stack([signal, signal // 2], 1) if k == 2 else signal[:, None]
            with wave.open(str(tmp_path / "sounds" / name / f"{k}.wav"), "wb") as file:
                file.setnchannels(stereo.shape[1])
                file.setsampwidth(2)
                file.setframerate(8000)
                file.writeframes(stereo.tobytes())
            heard = numpy.zeros(8000)
            heard[:length] = (stereo / 32768).mean(1)
            signals[label, k] = spectrogram(heard, 8000, 20)
    pack(tmp_path / "sounds", "--sample-rate", 8000, "--mels", 20, "--output", tmp_path / "out", "--valid", 0,
         "--order", "source")
    found = shards(tmp_path / "out")["train-0000.h5"]
    assert found["x"].shape == (8, 1, 20, 98) and found["y"].tolist() == [0] * 4 + [1] * 4
    for got, expected in zip(found["x"], signals.values(), strict=True):
        assert numpy.abs(got[0] - expected).max() < 1e-4
    assert "--sample-rate says 16000" in pack(tmp_path / "sounds", "--output", tmp_path / "no", code=65)


def test_checksums_find_what_no_reader_can(tmp_path):
    """A changed value in a file without filters is a plausible number."""
    numpy.save(tmp_path / "x.npy", numpy.random.default_rng(1).standard_normal((40, 3)))
    numpy.save(tmp_path / "y.npy", numpy.arange(40) % 2)
    pack(tmp_path / "x.npy", tmp_path / "y.npy", "--output", tmp_path / "out")
    (tmp_path / "run.toml").write_text(
        '[data]\ntrain = "out/train-*.h5"\nvalid = "out/valid-*.h5"\ninputs.x.path = "x"\ntargets.y.path = "y"\n'
        '[model]\nkind = "mlp"\noptions = { classes = 2 }\n[objective]\nloss = "cross_entropy"\n[train]\nsteps = 1\n'
        'global_batch = 4\nmicro_batch = 4\n[optimizer]\nkind = "sgd"\nlr = 0.1\n')
    check = [HADAL, "check", str(tmp_path / "run.toml"), "--deep"]
    assert subprocess.run(check, capture_output=True, check=False).returncode == 0
    path = tmp_path / "out" / "valid-0000.h5"
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        at = file["x"].id.get_offset() + 1
    content[at] ^= 1
    path.write_bytes(content)
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 65 and "valid-0000.h5 is not what was packed" in done.stderr, done.stderr
