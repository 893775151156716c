"""What hadal stats says of the data, against numpy."""

import json

import numpy


def test_statistics_are_those_of_numpy_on_any_number_of_ranks(run):
    draws = numpy.random.default_rng(2)
    image = draws.integers(0, 256, (150, 3, 5, 4)).astype("u1")
    vector = draws.standard_normal((150, 7)).astype("f4") * 1000 + 30
    run.fields(image=image, vector=vector, y=numpy.arange(150) % 2)
    fields = 'inputs.image.path = "image"\ninputs.image.scale = 0.5\ninputs.vector.path = "vector"\ntargets.y.path = "y"\n'
    run.config('[model]\nkind = "mlp"\noptions = { classes = 2 }\n[objective]\nloss = "cross_entropy"\n[train]\nsteps = 1\n'
               'global_batch = 10\nmicro_batch = 10\n[optimizer]\nkind = "sgd"\nlr = 0.1\n', fields)
    found = {ranks: json.loads(run.hadal("stats", "--json", ranks=ranks).stdout)["inputs"] for ranks in (1, 2, 3)}
    assert found[1] == found[2] == found[3]
    for name, values, axes in (("image", image * 0.5, (0, 2, 3)), ("vector", vector.astype("f8"), 0)):
        assert numpy.allclose(found[1][name]["mean"], values.mean(axes), rtol=1e-12)
        assert numpy.allclose(found[1][name]["std"], values.std(axes), rtol=1e-12)
        assert found[1][name]["least"] == values.min(axes).tolist()
        assert found[1][name]["most"] == values.max(axes).tolist()
