"""Files that must not become a plausible wrong number: refused before step 1, or at the row."""

import subprocess

import h5py
import numpy
import pytest
from conftest import HADAL

REST = (
    '[model]\nkind = "mlp"\noptions = { classes = 10, hidden = [4] }\n'
    "[train]\nsteps = 4\nglobal_batch = 8\nmicro_batch = 4\n"
    '[optimizer]\nkind = "sgd"\nlr = 0.1\n'
)


def refusal(run, code: int) -> str:
    config = run.folder / "run.toml"
    config.write_text(
        '[run]\ndir = "run"\n[data]\ntrain = "train.h5"\ninputs.x.path = "x"\ntargets.y.path = "y"\n' + REST
    )
    done = subprocess.run([HADAL, "train", str(config)], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "terminate" not in done.stderr
    return done.stderr


def virtual(file, folder):
    layout = h5py.VirtualLayout((40, 3), "f4")
    layout[:] = h5py.VirtualSource(folder / "gone.h5", "x", (40, 3))
    file.create_virtual_dataset("x", layout)


def compound(file, folder):
    file["x"] = numpy.zeros(40, [("a", "<f4"), ("b", ">f4")])


KINDS = {
    "scalar": (lambda f, d: f.create_dataset("x", data=1.0), "is a single value"),
    "null space": (lambda f, d: f.create_dataset("x", data=h5py.Empty("f4")), "null space"),
    "strings": (lambda f, d: f.create_dataset("x", data=["a"] * 40, dtype=h5py.string_dtype()), "is a string"),
    "variable length": (lambda f, d: f.create_dataset("x", (40,), h5py.vlen_dtype("f4")), "of variable length"),
    "compound": (compound, "is a compound"),
    "virtual without its source": (virtual, "unusable source"),
    "external link": (lambda f, d: f.__setitem__("x", h5py.ExternalLink("gone.h5", "x")), "unable to open external file"),
    "too large": (lambda f, d: f.create_dataset("x", data=numpy.full((40, 3), 1e300)), "holds 1e+300"),
    "not a number": (lambda f, d: f.create_dataset("x", data=numpy.full((40, 3), numpy.nan, "f4")), "holds nan"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_of_other_kinds_are_refused(run, kind):
    make, text = KINDS[kind]
    with h5py.File(run.folder / "train.h5", "w") as file:
        make(file, run.folder)
        file["y"] = numpy.zeros(40, "i8")
    assert text in refusal(run, 65)


@pytest.mark.parametrize("labels,text", [
    (numpy.full(40, 2.5, "f4"), "holds 2.5"),
    (numpy.full(40, 2**63 + 1, "u8"), "holds 9223372036854775809"),
    (numpy.full(40, -1, "i1"), "has the label -1"),
    (numpy.full(40, 10, "i8"), "has the label 10"),
    (numpy.zeros(39, "i8"), "39"),
])
def test_labels_that_do_not_fit_are_named(run, labels, text):
    run.data(numpy.zeros((40, 3), "f4"), labels)
    assert text in refusal(run, 65)


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"fletcher32": True}])
def test_a_damaged_chunk_is_named_with_its_rows(run, options):
    path = run.folder / "train.h5"
    with h5py.File(path, "w") as file:
        x = file.create_dataset("x", data=numpy.random.default_rng(0).random((40, 300), "f4"), chunks=(40, 300), **options)
        offset = x.id.get_chunk_info(0).byte_offset
        file["y"] = numpy.zeros(40, "i8")
    content = bytearray(path.read_bytes())
    content[offset + 500:offset + 516] = b"\xaa" * 16
    path.write_bytes(content)
    assert "train.h5:/x cannot be read in rows 0 to 39" in refusal(run, 65)


def test_a_lock_held_by_others_does_not_matter(run):
    run.data(numpy.zeros((40, 3), "f4"), numpy.zeros(40, "i8"))
    holder = subprocess.Popen(["flock", "-x", str(run.folder / "train.h5"), "sleep", "30"])
    try:
        run.train(REST)
    finally:
        holder.kill()


def test_a_model_of_another_shape_or_name_is_refused(run):
    run.data(numpy.zeros((40, 3), "f4"), numpy.zeros(40, "i8"))
    run.train(REST)
    text = (run.folder / "run.toml").read_text()
    (run.folder / "run.toml").write_text(text.replace("hidden = [4]", "hidden = [5]"))
    done = subprocess.run([HADAL, "evaluate", str(run.folder / "run.toml"), "--data", "train"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 66
    assert "1.weight has the shape [4, 3], the model needs [5, 3]" in done.stderr
