"""The README's section "Your own model", word for word: from a Python definition to predictions."""

import glob
import os
import re
import subprocess

import h5py
import numpy
import torch
from conftest import HADAL, ROOT


def blocks():
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## Your own model"):]
    section = section[: section.index("\n## ")]
    found = re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)
    return {kind: body for kind, body in reversed(found)}  # the first of each kind


def test_your_own_model_as_the_readme_says(tmp_path):
    example = blocks()
    (tmp_path / "net.py").write_text(example["python"])
    (tmp_path / "my.toml").write_text(example["toml"])
    for name in ("engine", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = dict(
        os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_rmaps_base_oversubscribe="1",
        PATH=f"{os.path.dirname(HADAL)}:{ROOT / '.deps' / 'venv' / 'bin'}:{os.environ['PATH']}")
    done = subprocess.run(["bash", "-euc", example["sh"]], cwd=tmp_path, env=environment, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    images, labels = [], []
    for path in sorted(glob.glob(str(ROOT / "data" / "digits" / "valid-*.h5"))):
        with h5py.File(path) as file:
            images.append(file["x"][:].astype("f4") * numpy.float32(0.0625))
            labels.append(file["y"][:])
    images, labels = numpy.concatenate(images), numpy.concatenate(labels)
    with h5py.File(tmp_path / "predictions.h5") as file:
        predicted = file["output"][:]
    assert (predicted == labels).mean() > 0.95
    # The trained program goes back to Python: its weights and the predicted classes are one.
    trained = torch.export.load(tmp_path / "trained.pt2")
    module = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(128, 10))
    module.load_state_dict(trained.state_dict)
    module.eval()
    with torch.no_grad():
        assert numpy.array_equal(module(torch.from_numpy(images)).argmax(1).numpy(), predicted)
