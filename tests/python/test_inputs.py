"""What a network sees of people's files, through the transforms that a config asks for: an exported program that
hands its input back shows it."""

import io
import json
import os
import shutil
import subprocess

import h5py
import numpy
import pytest
import torch
from conftest import HADAL
from PIL import Image
from test_exported_programs import hadal_export
from torch import nn

TRAIN = "[train]\nsteps = {steps}\nglobal_batch = 4\nmicro_batch = 4\n" '[optimizer]\nkind = "sgd"\nlr = 0.01\n'


MIRROR = '[model]\nprogram = "mirror.pt2"\n[objective]\nloss = "mse"\n'


class Mirror(nn.Module):
    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x.reshape(x.shape[0], -1) + 0 * self.nothing


def seen(run, shape, fields, data="train.h5"):
    """The inputs [samples, *shape] as a network sees them in an evaluation."""
    hadal_export.export(Mirror(), (torch.zeros(4, *shape),), run.folder / "mirror.pt2")
    run.config(MIRROR + TRAIN.format(steps=1), fields)
    run.hadal("predict", "--data", data, "--output", "seen.h5")
    with h5py.File(run.folder / "seen.h5") as file:
        found = file["output"][:]
    (run.folder / "seen.h5").unlink()
    return found.reshape(-1, *shape)


def photo(draws, height, width, mode="RGB"):
    """With slopes and edges, as photographs have them."""
    y, x = numpy.mgrid[0:height, 0:width]
    waves = [127 + 120 * numpy.sin(x / draws.uniform(3, 9) + y / draws.uniform(3, 9)) for _ in mode]
    return Image.fromarray(numpy.stack(waves, -1).astype("u1").squeeze(), mode)


def stored(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def fitted(image, mode, height, width):
    """The middle in this aspect, in this size, before rounding."""
    image = image.convert(mode)
    high = min(image.height, max(1, image.width * height // width))
    wide = min(image.width, max(1, image.height * width // height))
    top, left = (image.height - high) // 2, (image.width - wide) // 2
    pixels = torch.from_numpy(numpy.atleast_3d(numpy.asarray(image)).copy()).permute(2, 0, 1)[None].float()
    pixels = pixels[:, :, top:top + high, left:left + wide]
    made = nn.functional.interpolate(pixels, (height, width), mode="bilinear", antialias=True)
    return made[0].numpy()


def close(found, exact):
    """Rounded, but for halves that other additions make a little more or less."""
    return numpy.abs(found - exact).max() < 0.501


@pytest.mark.parametrize("mode,channels", [("RGB", 3), ("L", 1)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "small PNG in shared heaps", "rows of bytes"])
def test_images_inside_files_are_what_pillow_makes_of_them(run, kind, mode, channels):
    draws = numpy.random.default_rng(3)
    size = (6, 7) if "small" in kind else (40, 50)
    images = [photo(draws, *(draws.integers(size[0], 2 * size[0], 2)), mode) for _ in range(9)]
    # One has the wanted size already.
    images[4] = photo(draws, *size, mode)
    files = [stored(image, "PNG" if "PNG" in kind else "JPEG") for image in images]
    with h5py.File(run.folder / "train.h5", "w", userblock_size=512) as file:
        if kind == "rows of bytes":
            longest = max(map(len, files))
            file["x"] = numpy.stack([numpy.frombuffer(f.ljust(longest, b"\0"), "u1") for f in files])
        else:
            x = file.create_dataset("x", len(files), h5py.vlen_dtype("u1"), chunks=(4,) if "small" in kind else None)
            for k, content in enumerate(files):
                x[k] = numpy.frombuffer(content, "u1")
        file["y"] = numpy.arange(len(files))
    fields = f'inputs.x.path = "x"\ninputs.x.decode = {list(size)}\ninputs.x.channels = {channels}\ntargets.y.path = "y"\n'
    found = seen(run, (channels, *size), fields)
    for got, content in zip(found, files, strict=True):
        assert close(got, fitted(Image.open(io.BytesIO(content)), mode, *size))
    exact = numpy.atleast_3d(numpy.asarray(Image.open(io.BytesIO(files[4])).convert(mode))).transpose(2, 0, 1)
    assert numpy.array_equal(found[4], exact)


def test_a_damaged_image_is_named(run):
    draws = numpy.random.default_rng(3)
    files = [stored(photo(draws, 30, 30), "JPEG") for _ in range(8)]
    files[5] = files[5][:-100]
    files[7] = b"no image"
    with h5py.File(run.folder / "train.h5", "w") as file:
        x = file.create_dataset("x", len(files), h5py.vlen_dtype("u1"))
        for k, content in enumerate(files):
            x[k] = numpy.frombuffer(content, "u1")
        file["y"] = numpy.arange(len(files))
    hadal_export.export(Mirror(), (torch.zeros(4, 3, 30, 30),), run.folder / "mirror.pt2")
    fields = 'inputs.x.path = "x"\ninputs.x.decode = [30, 30]\ntargets.y.path = "y"\n'
    run.config(MIRROR + TRAIN.format(steps=1), fields)
    done = run.hadal("check", "--data", "--deep", code=65)
    assert "train.h5:/x row 5: JPEG: " in done.stderr, done.stderr
    assert "train.h5:/x row 7: it is neither JPEG nor PNG" in done.stderr
    assert "row 4" not in done.stderr
    # Without decode the bytes are no numbers.
    run.config(MIRROR + TRAIN.format(steps=1), 'inputs.x.path = "x"\ntargets.y.path = "y"\n')
    assert "set decode = [height, width]" in run.hadal("check", "--data", code=65).stderr


def test_a_group_a_sample_with_its_label_in_an_attribute(run):
    draws = numpy.random.default_rng(1)
    samples = draws.standard_normal((12, 3, 5)).astype("f4")
    energy = draws.standard_normal(12)
    with h5py.File(run.folder / "train.h5", "w") as file:
        for k in range(12):
            options = {"chunks": (2, 5), "compression": "gzip"} if k % 2 else {}
            file.create_dataset(f"runs/run {k}/field", data=samples[k], **options)
            file[f"runs/run {k}"].attrs["energy"] = energy[k]
            file[f"runs/run {k}/kind"] = k % 3
    fields = ('inputs.x.path = "runs/*/field"\ninputs.x.one_sample = true\n'
              'targets.y.path = "runs/*@energy"\n')
    assert numpy.array_equal(seen(run, (3, 5), fields), samples)
    # The attribute, and a single value, as inputs too.
    label = 'targets.y.path = "runs/*@energy"\n'
    assert numpy.array_equal(seen(run, (), 'inputs.x.path = "runs/*@energy"\n' + label), energy.astype("f4"))
    one = 'inputs.x.path = "runs/*/kind"\ninputs.x.one_sample = true\n'
    assert numpy.array_equal(seen(run, (), one + label), numpy.arange(12) % 3)
    # The rows of many datasets, one behind the other.
    rows = 'inputs.x.path = "runs/run*/field"\ntargets.y.path = "runs/run*/field"\n'
    assert numpy.array_equal(seen(run, (5,), rows), samples.reshape(36, 5))


@pytest.mark.parametrize("options", [{}, {"chunks": (5, 3), "compression": "gzip"}, {"chunks": (1, 3)}])
def test_windows_over_time_stay_inside_a_series(run, options):
    series = [numpy.arange(rows * 3, dtype="f4").reshape(rows, 3) + 1000 * k for k, rows in enumerate((11, 2, 7))]
    for k, rows in enumerate(series):
        with h5py.File(run.folder / f"{k}.h5", "w") as file:
            file.create_dataset("x", data=rows, **(options if len(rows) > 4 else {}))
    files = [str(run.folder / f"{k}.h5") for k in range(3)]
    label = 'targets.y.path = "x"\ntargets.y.window = [4, 1]\n'
    # A prediction needs no target.
    expected = numpy.stack([rows[t:t + 3] for rows in series for t in range(len(rows) - 2)])
    hadal_export.export(Mirror(), (torch.zeros(4, 3, 3),), run.folder / "mirror.pt2")
    run.config(MIRROR + TRAIN.format(steps=1), 'inputs.x.path = "x"\ninputs.x.window = [0, 3]\n' + label)
    run.hadal("predict", "--data", *files, "--output", "seen.h5")
    found = run.hadal("check", "--data", "--set", f"data.train={json.dumps(files)}").stdout
    assert f"{11 - 4 + 7 - 4} train samples" in found
    with h5py.File(run.folder / "seen.h5") as file:
        assert numpy.array_equal(file["output"][:].reshape(-1, 3, 3), expected)
    # What comes next, without an axis of time.
    hadal_export.export(Mirror(), (torch.zeros(4, 3),), run.folder / "mirror.pt2")
    run.config(MIRROR + TRAIN.format(steps=1), 'inputs.x.path = "x"\ninputs.x.window = [2, 1]\n' + label)
    run.hadal("predict", "--data", *files, "--output", "next.h5")
    with h5py.File(run.folder / "next.h5") as file:
        assert numpy.array_equal(file["output"][:], expected[:, 2])


SERIES = {
    "plain": {},
    "a series a chunk": {"chunks": (1, 5, 3), "compression": "gzip"},
    "cut across": {"chunks": (3, 4, 2), "compression": "gzip", "shuffle": True},
    "several series a chunk": {"chunks": (3, 11, 3)},
    "of the library": {"chunks": (2, 5, 3), "scaleoffset": 0},
}


@pytest.mark.parametrize("options", SERIES.values(), ids=SERIES)
@pytest.mark.parametrize("memory", ["1GiB", "1KiB"])
def test_windows_over_the_second_axis_stay_inside_a_series(run, options, memory):
    series = numpy.arange(7 * 11 * 3).reshape(7, 11, 3).astype("i4")
    with h5py.File(run.folder / "train.h5", "w") as file:
        file.create_dataset("x", data=series, **options)
        table = numpy.zeros((7, 11), [("b", "u1"), ("a", "f8")])
        table["a"] = series[..., 0] * 0.5
        file.create_dataset("table", data=table, chunks=options["chunks"][:2] if options else None)
    label = 'targets.y.path = "x"\ntargets.y.series = true\ntargets.y.window = [3, 1]\n'
    fields = 'inputs.x.path = "x"\ninputs.x.series = true\ninputs.x.window = [1, 3]\n'
    expected = numpy.stack([one[t + 1:t + 4] for one in series for t in range(11 - 3)]).astype("f4")
    assert numpy.array_equal(seen(run, (3, 3), fields + label + f'memory = "{memory}"\n'), expected)
    by_library = "is read by the HDF5 library" in run.hadal("check", "--data").stderr
    assert by_library == ("scaleoffset" in options)
    # A column of records, row by row.
    fields = 'inputs.x.path = "table:a"\ninputs.x.series = true\n'
    assert numpy.array_equal(seen(run, (), fields + f'targets.y.path = "x"\ntargets.y.series = true\nmemory = "{memory}"\n'),
                             series[..., 0].reshape(-1) * numpy.float32(0.5))


RAGGED = {"plain": {}, "small chunks": {"chunks": (4, 20), "compression": "gzip"}, "one chunk": {"chunks": (40, 40)}}


@pytest.mark.parametrize("options", RAGGED.values(), ids=RAGGED)
@pytest.mark.parametrize("memory", ["1GiB", "1KiB"])
def test_samples_of_different_lengths(run, options, memory):
    lengths = numpy.array([3, 0, 7, 1, 20, 5, 4, 0])
    rows = numpy.arange(40 * 40, dtype="i2").reshape(40, 40)
    starts = numpy.concatenate([[0], numpy.cumsum(lengths)])
    with h5py.File(run.folder / "train.h5", "w") as file:
        file.create_dataset("rows", data=rows, **options)
        file["starts"] = starts[:-1]
        file["ends too"] = starts
        file["lengths"] = lengths.astype("u1")
        file["y"] = numpy.zeros(8, "f4")
    for first in (0, 1):
        expected = numpy.full((8, 5, 40), -9, "f4")
        for k, length in enumerate(lengths):
            own = rows[starts[k]:starts[k + 1]][first:first + 5]
            expected[k, :len(own)] = own
        for how in ('offsets = "ends too"', 'lengths = "/lengths"', 'offsets = "starts"'):
            fields = (f'inputs.x.path = "rows"\ninputs.x.{how}\ninputs.x.window = [{first}, 5]\n'
                      f'inputs.x.pad = -9\ntargets.y.path = "y"\nmemory = "{memory}"\n')
            # Starts alone cannot tell that the last sample is empty.
            found = seen(run, (5, 40), fields if "starts" not in how else fields.replace('"y"', '"starts"'))
            wanted = expected if "starts" not in how else expected[:len(found)]
            assert len(found) == (8 if "starts" not in how else 7)
            assert numpy.array_equal(found, wanted)


@pytest.mark.parametrize("numbers, how, message", [
    ([0, 5, 3, 9], "offsets", "does not fit: a sample would go from row 5 to 3 of 10"),
    ([0, 5, 11], "offsets", "does not fit: a sample would go from row 5 to 11 of 10"),
    ([-1, 5], "offsets", "does not fit: a sample would go from row 0 to -1 of 10"),
    ([4, 5], "lengths", "its samples have 9 rows together, there are 10"),
    ([4, -1, 7], "lengths", "with its row 1 of -1 its samples have more than the 10 rows"),
    ([4, 9], "lengths", "with its row 1 of 9 its samples have more than the 10 rows"),
    ([0.5, 9], "lengths", "holds 0.5 in row 0; whole numbers are needed"),
])
def test_lengths_that_do_not_fit_are_refused(run, numbers, how, message):
    run.fields(x=numpy.zeros((10, 2), "f4"), n=numpy.array(numbers), y=numpy.zeros(len(numbers), "f4"))
    run.config(MIRROR.replace('program = "mirror.pt2"', 'kind = "mlp"\noptions = { classes = 1 }') + TRAIN.format(steps=1),
               f'inputs.x.path = "x"\ninputs.x.{how} = "n"\ninputs.x.window = [0, 2]\ntargets.y.path = "y"\n')
    assert message in run.hadal("check", "--data", code=65).stderr


@pytest.mark.parametrize("code, fields, message", [
    (78, 'inputs.x.offsets = "n"\n', "set window = [0, rows]"),
    (78, 'inputs.x.offsets = "n"\ninputs.x.lengths = "n"\ninputs.x.window = [0, 2]\n', "exclude each other"),
    (78, 'inputs.x.series = true\ninputs.x.one_sample = true\n', "exclude each other"),
    (65, 'inputs.x.lengths = "n"\ninputs.x.window = [0, 2]\ninputs.x.pad = 0.5\n', "pad = 0.5 is no int16"),
    (65, 'targets.y.series = true\n', "y has the shape [3]; series need [series, rows, "),
])
def test_rows_that_cannot_be_counted_so_are_refused(run, code, fields, message):
    run.fields(x=numpy.zeros((10, 2), "i2"), n=numpy.array([4, 5, 1]), y=numpy.zeros(3, "f4"))
    run.config(MIRROR.replace('program = "mirror.pt2"', 'kind = "mlp"\noptions = { classes = 1 }') + TRAIN.format(steps=1),
               'inputs.x.path = "x"\ntargets.y.path = "y"\n' + fields)
    assert message in run.hadal("check", "--data", code=code).stderr


def test_names_that_are_no_utf8_are_read_and_shown(run):
    run.fields(x=numpy.arange(48 * 12, dtype="f4").reshape(48, 12) / 100, y=numpy.arange(48) % 3)
    name = os.fsdecode(b"trained \xe9 \x1b.h5")
    (run.folder / "train.h5").rename(run.folder / name)
    model = '[model]\nkind = "mlp"\noptions = { classes = 3 }\n'
    run.config(model + TRAIN.format(steps=2).replace("global_batch = 4", "global_batch = 8"))
    settings = ("--set", 'data.train="trained*.h5"')
    run.hadal("train", *settings, ranks=2)
    run.hadal("predict", *settings, "--data", str(run.folder / "trained*.h5"), "--output", "seen.h5")
    with h5py.File(run.folder / name, "a") as file:
        file["x"][7, 3] = numpy.nan
        file[b"odd \xff"] = 1.0
    text = run.hadal("train", *settings, "--set", "run.dir=other", ranks=2, code=65).stderr
    assert r"trained \xe9 \x1b.h5:/x row 7" in text
    assert r"trained \xe9" in json.loads((run.folder / "other" / "status.json").read_text())["message"]
    run.hadal("check", *settings, "--data", "--set", r'data.inputs.x.path="odd"', code=65)


def test_reads_past_the_systems_cache_give_the_same(run):
    draws = numpy.random.default_rng(2)
    x = draws.standard_normal((40, 3, 7)).astype("f4")
    for options in ({}, {"chunks": (1, 3, 7)}, {"chunks": (9, 3, 7), "compression": "gzip"}):
        with h5py.File(run.folder / "train.h5", "w") as file:
            file["y"] = numpy.zeros(40)
            file.create_dataset("x", data=x, **options)
        fields = 'direct = true\nmemory = "1KiB"\ninputs.x.path = "x"\ntargets.y.path = "y"\n'
        assert numpy.array_equal(seen(run, (3, 7), fields), x)


def test_what_is_missing_of_a_group_is_named(run):
    with h5py.File(run.folder / "train.h5", "w") as file:
        for k in range(3):
            file[f"runs/{k}/field"] = numpy.zeros((3, 5 + (k == 2)), "f4")
            file[f"runs/{k}"].attrs["energy"] = 1.0
        del file["runs/1"].attrs["energy"]
    hadal_export.export(Mirror(), (torch.zeros(4, 3, 5),), run.folder / "mirror.pt2")
    fields = ('inputs.x.path = "runs/*/field"\ninputs.x.one_sample = true\n'
              'targets.y.path = "runs/*@energy"\n')
    run.config(MIRROR + TRAIN.format(steps=1), fields)
    text = run.hadal("check", "--data", code=65).stderr
    assert "train.h5:/runs/1@energy: there is no such attribute" in text
    assert "samples of shape [3, 6]" in text
    run.config(MIRROR + TRAIN.format(steps=1), fields.replace("runs/*/f", "runs/*/g"))
    assert "has nothing that matches /runs/*/gield" in run.hadal("check", "--data", code=65).stderr


def test_logarithm_scale_and_measured_deviation(run):
    x = numpy.random.default_rng(2).uniform(0, 50, (20, 2, 3)).astype("f4")
    run.fields(x=x, y=numpy.zeros(20, "f4"))
    label = 'targets.y.path = "y"\n'
    found = seen(run, (2, 3), 'inputs.x.path = "x"\ninputs.x.log1p = [1]\ninputs.x.scale = 0.5\n' + label)
    expected = x.copy()
    expected[:, 1] = numpy.log1p(x[:, 1].astype("f8")).astype("f4")
    assert numpy.array_equal(found, expected * numpy.float32(0.5))
    # Measured in training, kept for what follows.
    fields = 'inputs.x.path = "x"\ninputs.x.mean = "auto"\ninputs.x.std = "auto"\n' + label
    model = '[model]\nkind = "mlp"\noptions = { classes = 1, hidden = [] }\n[objective]\nloss = "mse"\n'
    wide = TRAIN.format(steps=2).replace("global_batch = 4", "global_batch = 8")
    run.config(model + wide, fields)
    assert "statistics.json is missing" in run.hadal("predict", "--data", "train.h5", "--output", "no.h5", code=66).stderr
    for ranks in (1, 2):
        run.hadal("train", ranks=ranks)
        known = json.loads((run.folder / "run" / "statistics.json").read_text())["inputs"]["x"]
        assert numpy.allclose(known["mean"], x.mean((0, 2), dtype="f8"), rtol=1e-12)
        (run.folder / "run" / "statistics.json").rename(run.folder / f"statistics-{ranks}.json")
        if ranks == 1:
            shutil.rmtree(run.folder / "run")
    first, second = ((run.folder / f"statistics-{ranks}.json").read_bytes() for ranks in (1, 2))
    assert first == second
    shutil.rmtree(run.folder / "run")
    (run.folder / "run").mkdir()
    (run.folder / "statistics-2.json").rename(run.folder / "run" / "statistics.json")
    found = seen(run, (2, 3), fields)
    mean, std = (numpy.array(known[name], "f4")[:, None] for name in ("mean", "std"))
    assert numpy.array_equal(found, (x - mean) / std)
    run.fields(x=numpy.ones((20, 2, 3), "f4"), y=numpy.zeros(20, "f4"))
    run.config(model.replace("[]", "[3]") + wide.replace("0.01", "0.02"), fields)
    shutil.rmtree(run.folder / "run")
    assert "has the same value everywhere" in run.hadal("train", code=65).stderr


def test_sorted_classes_that_the_order_does_not_mix_are_warned_of(run):
    run.fields(x=numpy.zeros((400, 3, 8, 8), "f4"), y=numpy.arange(400) // 40)
    model = CONVNET.replace("classes = 3", "classes = 10")
    run.config(model + TRAIN.format(steps=10).replace("batch = 4", "batch = 8"))
    sorted_order = run.hadal("train", "--set", "run.dir=a").stderr
    assert "the first 10 steps hold 2 of the 10 classes" in sorted_order, sorted_order
    for shuffle in ("full", "auto"):
        done = run.hadal("train", "--set", f"run.dir={run.folder}/{shuffle}", "--set", f"data.shuffle={shuffle}")
        assert "of the 10 classes" not in done.stderr
    blocks = run.hadal("train", "--set", "run.dir=b", "--set", "data.shuffle=block", "--set", "data.block=40", "--set",
                       "data.window=1").stderr
    assert "of the 10 classes" in blocks


def test_staged_files_train_to_the_same_bits_and_are_removed(run):
    draws = numpy.random.default_rng(2)
    run.fields(x=draws.standard_normal((48, 3, 8, 8)).astype("f4"), y=numpy.arange(48) % 3)
    run.config(CONVNET + TRAIN.format(steps=6).replace("global_batch = 4", "global_batch = 16"))
    stage = run.folder / "node's own"
    stage.mkdir()
    run.hadal("train", "--set", f"run.dir={run.folder}/plain")
    done = run.hadal("train", "--set", f"run.dir={run.folder}/staged", "--set", f"data.stage={stage}", ranks=2)
    assert "MiB to 1 hosts" in done.stderr, done.stderr
    plain, staged = ((run.folder / name / "model" / "model.safetensors").read_bytes() for name in ("plain", "staged"))
    assert plain == staged
    assert not list(stage.iterdir())
    text = run.hadal("train", "--set", "data.stage=nowhere", code=78).stderr
    assert 'must be "auto" or an absolute path' in text


AUGMENT = ('inputs.x.augment = [{ kind = "crop", size = [6, 6], padding = 2 }, { kind = "flip" }, { kind = "rotate" }, '
           '{ kind = "noise", std = 0.1 }, { kind = "mixup", alpha = 0.4 }, { kind = "cutmix" }]\n')
CONVNET = '[model]\nkind = "convnet"\noptions = { classes = 3 }\n[objective]\nloss = "cross_entropy"\n'


def test_random_transforms_train_to_the_same_bits_on_any_ranks_and_after_a_stop(run):
    draws = numpy.random.default_rng(2)
    run.fields(x=draws.standard_normal((48, 3, 8, 8)).astype("f4"), y=numpy.arange(48) % 3)
    fields = 'inputs.x.path = "x"\ntargets.y.path = "y"\n' + AUGMENT
    train = TRAIN.format(steps=14).replace("global_batch = 4", "global_batch = 16")
    run.config(CONVNET + train, fields)
    models = []
    for ranks, stop in ((1, None), (2, None), (3, None), (1, 5)):
        folder = run.folder / f"run-{ranks}-{stop}"
        if stop:
            run.hadal("train", "--set", f"run.dir={folder}", "--set", f"checkpoint.every={stop}st")
            # As if killed behind the first checkpoint: later ones and the model are gone.
            for saved in sorted((folder / "checkpoints").iterdir())[1:]:
                shutil.rmtree(saved)
            (folder / "model" / "model.safetensors").unlink()
        run.hadal("train", "--set", f"run.dir={folder}", ranks=ranks)
        models.append((folder / "model" / "model.safetensors").read_bytes())
    assert all(model == models[0] for model in models)
    other = run.folder / "run-other"
    run.hadal("train", "--set", f"run.dir={other}", "--set", "data.inputs.x.augment=[]")
    assert (other / "model" / "model.safetensors").read_bytes() != models[0]


def test_equal_samples_mixed_are_themselves(run):
    """So the loss of probabilities is the loss of labels, up to the rounding of the shares."""
    x = numpy.random.default_rng(2).standard_normal((1, 3, 8, 8)).astype("f4").repeat(16, 0)
    run.fields(x=x, y=numpy.full(16, 2))
    fields = 'inputs.x.path = "x"\ntargets.y.path = "y"\n'
    mixed = fields + 'inputs.x.augment = [{ kind = "mixup" }, { kind = "cutmix" }]\n'
    smooth = CONVNET + "label_smoothing = 0.1\nignore_index = 0\n"
    plain = [line["loss"] for line in run.train(smooth + TRAIN.format(steps=4), fields=fields)]
    shutil.rmtree(run.folder / "run")
    found = [line["loss"] for line in run.train(smooth + TRAIN.format(steps=4), fields=mixed)]
    assert numpy.allclose(found, plain, rtol=1e-5) and plain[0] != plain[-1]


def test_inspect_tells_of_a_configs_data_and_draws_it(run):
    draws = numpy.random.default_rng(2)
    x = draws.integers(0, 256, (70, 3, 20, 10)).astype("u1")
    labels = numpy.repeat([0, 1, 2], [40, 25, 5])
    with h5py.File(run.folder / "train.h5", "w") as file:
        file.create_dataset("x", data=x, chunks=(35, 3, 20, 10), compression="gzip")
        file["y"] = labels
    run.config(CONVNET + TRAIN.format(steps=1), 'inputs.x.path = "x"\ninputs.x.scale = 0.5\ntargets.y.path = "y"\n')
    done = run.hadal("inspect", "--samples", "sheet.png")
    assert "70 training samples" in done.stdout and "3 classes; class 0 has 40, class 2 has 5" in done.stdout
    found = json.loads(run.hadal("inspect", "--json").stdout)
    assert found["fields"][1]["labels"] == {"0": 40, "1": 25, "2": 5}
    sheet = numpy.asarray(Image.open(run.folder / "sheet.png")).astype("f4")
    assert sheet.shape == (8 * 62, 8 * 32, 3)
    # The first one, three pixels for one, in the shares of all values' range.
    first = x[run.order(1)[0, 0][0]].transpose(1, 2, 0)
    shown = x[[i for step in run.order(16).values() for i in step][:64]]
    scaled = (first.astype("f4") - shown.min()) / (shown.max() - shown.min()) * 255
    assert numpy.abs(sheet[1:61:3, 1:31:3] - scaled).max() <= 1
    run.fields(x=numpy.zeros((8, 3), "f4"), y=numpy.zeros(8, "i8"))
    assert "there is nothing to draw" in run.hadal("inspect", "--samples", "no.png", code=64).stderr
    with h5py.File(run.folder / "large.h5", "w") as file:
        file.create_dataset("x", data=numpy.zeros((100, 50_000), "u1"), chunks=(100, 50_000))
    text = subprocess.run([HADAL, "inspect", str(run.folder / "large.h5")], capture_output=True, text=True, check=True).stdout
    assert "a sample costs a chunk of 4.8 MiB: repack with hadal pack --chunk 5" in text


def test_mixing_needs_two_samples_and_a_loss_that_takes_shares(run):
    fields = 'inputs.x.path = "x"\ntargets.y.path = "y"\ninputs.x.augment = [{ kind = "mixup" }]\n'
    run.config(CONVNET + TRAIN.format(steps=1).replace("micro_batch = 4", "micro_batch = 1"), fields)
    assert "train.micro_batch = 1 has no two" in run.hadal("check", code=78).stderr
    run.config(CONVNET.replace("cross_entropy", "dice") + TRAIN.format(steps=1), fields)
    assert "takes no mixed targets" in run.hadal("check", code=78).stderr
    run.fields(x=numpy.zeros((8, 3, 4, 4), "f4"), y=numpy.zeros((8, 4, 4), "i8"))
    run.config(CONVNET + TRAIN.format(steps=1), fields)
    assert 'target "y" cannot be mixed' in run.hadal("check", "--data", code=65).stderr


@pytest.mark.parametrize("value,message", [
    ('[{ kind = "flipp" }]', 'the kind one of "crop"'),
    ('[{ kind = "flip", probabillity = 1 }]', "did you mean probability?"),
    ('[{ kind = "flip", probability = 2 }]', "must be a number from 0 to 1"),
    ('[{ kind = "crop", size = [0, 1] }]', "a size must be whole numbers from 1"),
    ('[{ kind = "noise" }]', "noise needs its std"),
    ('"flip"', "must be a list of tables"),
])
def test_transforms_that_make_no_sense_are_refused(run, value, message):
    run.config(CONVNET + TRAIN.format(steps=1), f'inputs.x.path = "x"\ntargets.y.path = "y"\ninputs.x.augment = {value}\n')
    text = run.hadal("check", code=78).stderr
    assert message in text and "run.toml:" in text, text
