"""What every measure's test asks: the model is as it was, the result is plain data, and each figure has a source."""

import copy
import dataclasses
import json
import random

import numpy as np
import torch

from deepfm.analysis.subject import make_subject
from tests.analysis.healthy import HEALTHY
from tests.clicks import SCHEMA, clicks, model_of


def subject_of(case, name="case", batches=None):
    return make_subject(case.model, batches or case.batches, case.loss, name=name)


def healthy_subject(name, seed=0, batches=None):
    torch.manual_seed(seed)
    case = HEALTHY[name]()
    return subject_of(case, name, case.batches[:batches] if batches else None)


def assert_untouched(subject, measure):
    """Weights, buffers, modes, gradients and streams are equal before and after; gives the measure's result."""
    model = subject.model
    model.train()
    for at, part in enumerate(model.modules()):
        part.training = at % 2 == 0
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    state, modes = copy.deepcopy(model.state_dict()), [part.training for part in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    streams = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    fast = torch.backends.mha.get_fastpath_enabled()
    result = measure(subject)
    assert all(torch.equal(state[key], part) for key, part in model.state_dict().items())
    assert [part.training for part in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(torch.equal(parameter.grad, torch.full_like(parameter, 0.5)) for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), streams[0])
    assert random.getstate() == streams[1]
    assert np.array_equal(np.random.get_state()[1], streams[2])  # noqa: NPY002
    assert torch.backends.mha.get_fastpath_enabled() == fast
    return result


def assert_plain(result, without=()):
    """JSON takes it, and each figure says where it comes from."""
    json.dumps(dataclasses.asdict(result))
    words = {"skipped", "reason", "note", "optimizer", "method", "resolved", "evaluated_on", "unchecked", *without}
    fields = {field.name for field in dataclasses.fields(result)}
    assert set(type(result).SOURCES) <= fields
    assert fields - set(type(result).SOURCES) <= words
    assert all(text.split(":")[0] in ("measured", "derived", "assumed") for text in type(result).SOURCES.values())


def package_subject(kind="deepfm", rows=64):
    """A model of the package on generated clicks of every kind of field, two batches."""
    dataset = clicks(SCHEMA, rows=2 * rows)
    drawn = [dataset.batch(torch.arange(start, start + rows)) for start in (0, rows)]
    return make_subject(model_of(kind), [(dict(features), labels) for features, labels in drawn], "bce")
