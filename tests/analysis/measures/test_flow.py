"""Facts of a backward pass, by hand."""

import pytest
import torch
from torch import nn

from deepfm.analysis.measures.flow import measure_flow
from deepfm.analysis.measures.invariances import measure_invariances
from deepfm.analysis.measures.io import measure_contract
from deepfm.analysis.subject import make_subject
from tests.analysis.conftest import subject_of
from tests.analysis.healthy import HEALTHY

pytestmark = pytest.mark.usefixtures("one_thread")


def test_norms_of_a_line_by_hand():
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -1.0]]))
    x, y = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0.0, 0.0])
    flow = measure_flow(make_subject(model, (x, y), "mse"))
    # outputs 1 and -2; loss (1 + 4) / 2; at the outputs (2 · 1 / 2, 2 · -2 / 2); in the weights (1, -4)
    assert flow.loss == pytest.approx(2.5)
    (layer,) = flow.layers
    assert layer.output_gradient == pytest.approx(5**0.5)
    assert layer.gradient == pytest.approx(17**0.5)
    assert layer.weight == pytest.approx(2**0.5)
    assert flow.global_norm == (pytest.approx(17**0.5),)


def test_skip_paths_shorten_the_way():
    plain = measure_flow(subject_of(HEALTHY["tower for clicks"]))
    skipping = measure_flow(subject_of(HEALTHY["residual network"]))
    assert plain.longest - plain.shortest <= 1  # a weight is one transposition further than a bias
    assert skipping.longest - skipping.shortest > 5


def test_dead_units_are_counted_over_all_batches():
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].weight[0, 0] = model[0].weight[1, 1] = 1.0
        model[0].bias.copy_(torch.tensor([0.0, 0.0, 1.0, -1.0]))
    batches = [(torch.tensor([[1.0, -1.0]] * 4), torch.ones(4)), (torch.tensor([[-1.0, 1.0]] * 4), torch.zeros(4))]
    (unit,) = measure_flow(make_subject(model, batches, "bce")).units
    assert (unit.place, unit.kind, unit.share) == ("1", "relu", 0.25)


def test_an_attention_that_sees_one_entry_is_not_saturated():
    class Attend(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 1)

        def forward(self, scores, values):
            return self.head(torch.softmax(scores, dim=1) * values)

    scores = torch.full((4, 3), -torch.inf)
    scores[:, 0] = 0.0
    batch = ((scores, torch.randn(4, 3)), torch.ones(4))
    assert measure_flow(make_subject(Attend(), batch, "bce")).units[0].share == 0.0
    several = ((torch.tensor([[9.0, 0.0, 0.0]] * 4), torch.randn(4, 3)), torch.ones(4))
    assert measure_flow(make_subject(Attend(), several, "bce")).units[0].share == 1.0


def test_dimensions_that_follow_and_that_are_free():
    contract = measure_contract(subject_of(HEALTHY["Transformer that ranks"]))
    dims = {one.name: one.dims for one in (*contract.inputs, *contract.outputs)}
    assert dims["candidates"][0] == dims["events"][0] == dims["output"][0] == "B"
    assert dims["candidates"][1] == dims["output"][1] != dims["events"][1] == dims["padding"][1]
    assert dims["events"][2] == "8"
    mixer = measure_contract(subject_of(HEALTHY["mixer"]))
    assert mixer.inputs[0].dims == ("B", "10", "8")


def test_ids_and_their_bounds():
    contract = measure_contract(subject_of(HEALTHY["a dict of ids"]), {"user": "ids"})
    by_name = {one.module: one for one in contract.vocabularies}
    assert (by_name["items"].rows, by_name["items"].padding) == (60, 0)
    assert by_name["items"].high <= 59
    assert by_name["items"].padding_share > 0
    assert contract.promises == {"user": "ids"}


def test_nan_and_infinity_in_inputs_are_counted():
    x = torch.tensor([[1.0, torch.nan], [torch.inf, 2.0]])
    (given,) = measure_contract(make_subject(nn.Linear(2, 1), (x, torch.ones(2)), "mse")).inputs
    assert (given.nan, given.inf, given.low, given.high, given.mean) == (1, 1, 1.0, 2.0, 1.5)


def test_invariances_of_a_set_a_sequence_and_a_mask():
    of_set = {one.name: one.holds for one in measure_invariances(subject_of(HEALTHY["deep set"])).found}
    assert of_set == {
        **{"determinism": True, "independence of rows": True, "order of a set": True},
        "training and evaluation agree": True,
    }
    lstm = measure_invariances(subject_of(HEALTHY["LSTM"]))
    assert [one.holds for one in lstm.get("order of a set")] == [False]
    masked = measure_invariances(subject_of(HEALTHY["Transformer, norm first"]))
    assert [(one.place, one.holds) for one in masked.get("padding")] == [("padding", True)]
    assert [one.holds for one in masked.get("training and evaluation agree")] == [False]
