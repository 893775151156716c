"""Exports a PyTorch model for hadal: its training and its evaluation program in one .pt2 archive.

    python hadal_export.py mymodule:build_model --input 32,3,224,224 -o net.pt2
    python hadal_export.py net.py:build_model --input tokens=8,128:int64 --dynamic-batch -o lm.pt2

The first size of every input is the micro-batch (`train.micro_batch`); with --dynamic-batch any will
do. Needs torch 2.9 to 2.15 and nothing else, on any machine. The archive is an ordinary one:
`torch.export.load` opens it and gives the training program.

In Python:  hadal_export.export(model, (x,), "net.pt2")
"""

import argparse
import base64
import importlib
import importlib.util
import io
import json
import pathlib
import sys
import zipfile

import torch

# ScalarType of torch/_export/serde/schema.py.
DTYPES = {
    torch.uint8: 1, torch.int8: 2, torch.int16: 3, torch.int32: 4, torch.int64: 5, torch.float16: 6,
    torch.float32: 7, torch.float64: 8, torch.bool: 12, torch.bfloat16: 13,
}


def export(model, inputs, path, *, dynamic_batch=False, targets=()):
    """Writes `model` to `path` (.pt2), traced with the tensors `inputs` (a tuple, or a dict of keyword
    arguments), whose first axis is the batch. `targets` are names noted for whoever reads the archive."""
    args, kwargs = ((), inputs) if isinstance(inputs, dict) else (tuple(inputs), {})
    tensors = list(args) + list(kwargs.values())
    was_training = model.training
    model.train()
    train = _program(model, args, kwargs, dynamic_batch)
    model.eval()
    evaluation = _program(model, args, kwargs, dynamic_batch)
    model.train(was_training)
    text, constants = _without_weights(evaluation, train)
    names = [spec.arg.name for spec in train.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    notes = {
        "version": 1,
        "mode": "train",
        "batch": None if dynamic_batch else int(tensors[0].shape[0]),
        "inputs": names,
        "targets": list(targets),
        "eval_constants": constants,
    }
    files = {"hadal.json": json.dumps(notes), "hadal_eval.json": text}
    torch.export.save(train, str(path), extra_files=files)
    return train


def _program(model, args, kwargs, dynamic_batch):
    shapes = None
    if dynamic_batch:
        batch = torch.export.Dim("batch", min=2)
        shapes = tuple({0: batch} for _ in args) if args else {name: {0: batch} for name in kwargs}
    return torch.export.export(model, args, kwargs, dynamic_shapes=shapes)


def _without_weights(evaluation, train):
    """The evaluation program's JSON, and those of its constants that the training program lacks."""
    buffer = io.BytesIO()
    torch.export.save(evaluation, buffer)
    with zipfile.ZipFile(buffer) as archive:
        name = next(n for n in archive.namelist() if n.endswith("models/model.json"))
        program = json.loads(archive.read(name))
    stored = {}
    for spec in program["graph_module"]["signature"]["input_specs"]:
        if "tensor_constant" in spec:
            key = "tensor_constant_name"
            body = spec["tensor_constant"]
        elif "buffer" in spec and not spec["buffer"]["persistent"]:
            key = "buffer_name"
            body = spec["buffer"]
        else:
            continue
        value = evaluation.constants[body[key]]
        other = train.constants.get(body[key])
        if other is not None and other.dtype == value.dtype and torch.equal(other, value):
            continue
        if other is not None:
            body[key] += "@eval"
        value = value.detach().cpu().contiguous()
        raw = value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b""
        stored[body[key]] = {
            "dtype": DTYPES[value.dtype],
            "sizes": list(value.shape),
            "data": base64.b64encode(raw).decode(),
        }
    return json.dumps(program), stored


def _load(place):
    """`module:name` or `file.py:name`: a module object, or a function that returns one."""
    module_name, _, attribute = place.rpartition(":")
    if not module_name:
        sys.exit(f"hadal_export: {place}: write it as module:function or file.py:function")
    if module_name.endswith(".py"):
        path = pathlib.Path(module_name).resolve()
        sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    else:
        sys.path.insert(0, "")
        module = importlib.import_module(module_name)
    found = getattr(module, attribute)
    return found if isinstance(found, torch.nn.Module) else found()


def _sample(text):
    """[NAME=]SIZES[:DTYPE] to its name and a tensor: zeros for whole numbers, else random ones."""
    name, _, rest = text.rpartition("=")
    sizes, _, dtype = rest.partition(":")
    shape = [int(size) for size in sizes.split(",")]
    kind = getattr(torch, dtype or "float32")
    value = torch.randn(shape).to(kind) if kind.is_floating_point else torch.zeros(shape, dtype=kind)
    return name, value


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="module:function, or file.py:function")
    parser.add_argument("--input", action="append", required=True, metavar="[NAME=]SIZES[:DTYPE]",
                        help="one forward argument, batch first; repeat it for several")
    parser.add_argument("--target", action="append", default=[], help="name of a label, noted in the archive")
    parser.add_argument("--weights", help="a state dict to load first (torch.save or safetensors)")
    parser.add_argument("--dynamic-batch", action="store_true", help="any micro-batch from 2")
    parser.add_argument("-o", "--output", required=True, help="the archive, NAME.pt2")
    options = parser.parse_args()
    model = _load(options.model)
    if options.weights and options.weights.endswith(".safetensors"):
        from safetensors.torch import load_file

        model.load_state_dict(load_file(options.weights))
    elif options.weights:
        model.load_state_dict(torch.load(options.weights, weights_only=True))
    samples = [_sample(text) for text in options.input]
    named = all(name for name, _ in samples)
    inputs = dict(samples) if named else tuple(value for _, value in samples)
    export(model, inputs, options.output, dynamic_batch=options.dynamic_batch, targets=options.target)
    parameters = sum(p.numel() for p in model.parameters())
    batch = "any" if options.dynamic_batch else samples[0][1].shape[0]
    print(f"{options.output}: {parameters} parameters, micro-batch {batch}, training and evaluation")


if __name__ == "__main__":
    main()
