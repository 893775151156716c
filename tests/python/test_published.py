"""A pre-trained network that others published, in a module with other names, applied to images."""

import importlib
import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys
import types

import h5py
import numpy
import torch
from test_exported_programs import hadal_export
from torch import nn

BATCH = 4


class Face(nn.Module):
    """The output network of MTCNN (Zhang et al. 2016), grouped and named as someone else would."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 32, 3), nn.PReLU(32), nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Conv2d(32, 64, 3), nn.PReLU(64), nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Conv2d(64, 64, 3), nn.PReLU(64), nn.MaxPool2d(2, 2, ceil_mode=True),
            nn.Conv2d(64, 128, 2), nn.PReLU(128))
        self.join = nn.Sequential(nn.Linear(1152, 256), nn.PReLU(256))
        self.heads = nn.ModuleDict({"box": nn.Linear(256, 4), "points": nn.Linear(256, 10), "face": nn.Linear(256, 2)})

    def forward(self, image):
        x = self.join(self.trunk(image).permute(0, 3, 2, 1).flatten(1))
        return self.heads["box"](x), self.heads["points"](x), self.heads["face"](x).softmax(1)


KEY_MAP = r"""key_map = [
  ["^conv1\\.", "trunk.0."], ["^prelu1\\.", "trunk.1."], ["^conv2\\.", "trunk.3."], ["^prelu2\\.", "trunk.4."],
  ["^conv3\\.", "trunk.6."], ["^prelu3\\.", "trunk.7."], ["^conv4\\.", "trunk.9."], ["^prelu4\\.", "trunk.10."],
  ["^dense5\\.", "join.0."], ["^prelu5\\.", "join.1."],
  ["^dense6_1\\.", "heads.face."], ["^dense6_2\\.", "heads.box."], ["^dense6_3\\.", "heads.points."],
]
"""


def published():
    """facenet-pytorch's own network with the weights that its wheel brings; the rest of the package, which
    needs more packages, is not imported."""
    folder = pathlib.Path(importlib.util.find_spec("facenet_pytorch").submodule_search_locations[0])
    package = types.ModuleType("facenet_pytorch")
    package.__path__ = [str(folder)]
    sys.modules["facenet_pytorch"] = package
    return importlib.import_module("facenet_pytorch.models.mtcnn").ONet().eval(), folder / "data" / "onet.pt"


def test_published_weights_go_through_the_key_map_and_give_their_own_outputs(run):
    network, weights = published()
    random = numpy.random.default_rng(1)
    # Smooth pictures in [-1, 1], as the network takes them.
    x = torch.nn.functional.interpolate(
        torch.from_numpy(random.uniform(-1, 1, (12, 3, 6, 6)).astype("f4")), (48, 48), mode="bicubic").clamp(-1, 1)
    run.fields(x=x.numpy())
    torch.manual_seed(1)
    hadal_export.export(Face(), (x[:BATCH],), run.folder / "face.pt2")
    fields = "".join(f'targets.{name}.path = "{name}"\n' for name in ("box", "points", "face"))
    terms = "".join(f'terms.{name}.loss = "mse"\n' for name in ("box", "points", "face"))
    run.config(
        f'[model]\nprogram = "face.pt2"\nweights = "net.safetensors"\n{KEY_MAP}[objective]\n{terms}'
        f"[train]\nsteps = 1\nglobal_batch = {BATCH}\nmicro_batch = {BATCH}\n"
        '[optimizer]\nkind = "sgd"\nlr = 0.01\n', 'inputs.image.path = "x"\n' + fields)
    predict = ("predict", "--data", "train.h5", "--output", "out.h5")
    # The program reads no pickle and says the line that converts it.
    shutil.copy(weights, run.folder / "net.pt")
    refusal = run.hadal(*predict, "--set", "model.weights=net.pt", code=66).stderr
    convert = re.search(r"python -c '(.*)'", refusal).group(1)
    subprocess.run([sys.executable, "-c", convert], cwd=run.folder, check=True)
    run.hadal(*predict)
    with torch.no_grad():
        wanted = [torch.cat(parts) for parts in zip(*(network(part) for part in x.split(BATCH)))]
    assert (wanted[2][:, 1] - wanted[2][0, 1]).abs().max() > 1e-4  # the pictures are told apart
    with h5py.File(run.folder / "out.h5") as file:
        for number, output in enumerate(wanted):
            got = torch.from_numpy(file[f"output_{number}"][:])
            assert torch.allclose(got, output, rtol=1e-5, atol=1e-6), number
