"""Nothing on the default path that Apple's GPUs lack: no operator, no float64, no sparse gradient.

Every registered model is built, trained a step and scored on the `meta` device, which takes the same branches as MPS
(the hand-written operations are for CPU and CUDA), while every operator is written down. Which of them MPS has is read
from torch's own list, `native_functions.yaml`, that is shipped with torch.
"""

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchgen
import yaml
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import deepfm.training.task as task_module
from deepfm.engine.optim import build_optimizer
from deepfm.engine.schedule import Schedule
from deepfm.engine.sparse import clip_gradients
from deepfm.errors import ConfigError
from deepfm.models import MODELS, DeepFM, create_model, evaluation_mode
from deepfm.models.layers.dnn import ACTIVATIONS
from deepfm.models.layers.kernels import scoring_kernels
from deepfm.training.scoring import scorer
from deepfm.training.task import CTRTask
from tests.clicks import SCHEMA, behaviour, clicks, config_of, dense, model_of, pairs, schema_of, sequence, sparse

META = torch.device("meta")
COMPOSITE = {"CompositeImplicitAutograd", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional"}
SUPPORTED = (
    "add.Tensor", "addmm", "bernoulli_.float", "embedding", "embedding_dense_backward", "index_select",
    "native_batch_norm", "native_layer_norm_backward", "linear", "_foreach_norm.Scalar",
    # What MPS takes in place of operators that are seen on meta, or that nobody sees.
    "_fused_adam_", "_fused_adamw_", "_fused_sgd_", "_scaled_dot_product_attention_math_for_mps",
)  # fmt: skip
UNSUPPORTED = (
    "take", "put_", "mode", "heaviside", "geqrf", "linalg_eig", "linalg_matrix_exp", "segment_reduce", "poisson",
    "logit_", "record_stream", "_scaled_dot_product_flash_attention_for_cpu", "_sparse_coo_tensor_with_dims",
)  # fmt: skip


WITHOUT_META = ("_fused_sgd_",)  # in place, and torch has no form of it for the meta device


@cache
def operators():
    """Each operator of torch by its name and overload."""
    path = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    entries = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {entry["func"].split("(")[0]: entry for entry in entries}


def kernels_of(name):
    """The dispatch keys with a kernel of their own; none where torch makes the operator of others."""
    entry = operators()[name]
    if "structured_delegate" in entry:
        return kernels_of(entry["structured_delegate"])
    return {key.strip() for keys in entry.get("dispatch", ()) for key in keys.split(",")}


def mps_has(name):
    keys = kernels_of(name)
    return not keys or "MPS" in keys or bool(keys & COMPOSITE)


def is_made_of_others(name):
    keys = kernels_of(name)
    return not keys or ("CompositeImplicitAutograd" in keys and "MPS" not in keys)


class Recorder(TorchDispatchMode):
    """Writes down the operators on the device, and the kinds of tensors that come of them."""

    def __init__(self):
        super().__init__()
        self.names, self.wrong = set(), set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        overload = "" if function._overloadname == "default" else f".{function._overloadname}"
        name = function._schema.name.removeprefix("aten::") + overload
        if torch.is_inference_mode_enabled() and name in operators() and is_made_of_others(name):
            with self:  # inference mode takes such an operator whole; what it is made of is what counts
                out = function.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = None if name in WITHOUT_META else function(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
        if any(tensor.device == META for tensor in tensors):
            self.names.add(name)
        for tensor in tensors:
            if tensor.dtype == torch.float64:
                self.wrong.add(f"{name} with float64")
            if tensor.layout != torch.strided:
                self.wrong.add(f"{name} with a sparse tensor")
        return out

    def lacking(self):
        """What MPS has not got."""
        return sorted(self.wrong | {name for name in self.names if name not in operators() or not mps_has(name)})


def recorded(make, *overrides, schema=SCHEMA, user_fields=()):
    """The operators of a training step, and of scoring rows and pairs, of the model that `make` makes.

    The fields are joined by an item and the history of items, for models that read behaviour.
    """
    item = sparse("chosen", 25)
    schema = schema_of(*schema.fields.values(), item, behaviour(of="chosen"))
    config = config_of("training.batch_size=64", *overrides)
    with META:
        model = make(schema, config)
    rows = clicks(schema, 70).to(META)
    recorder = Recorder()
    with recorder:
        task = CTRTask(model.train(), config, rows, rows)
        # As on MPS, where the optimizer is fused.
        optimizer = build_optimizer(config.training.optimizer, 0.01, task.parameter_groups(), torch.device("mps"))
        schedule = Schedule("cosine", 0.01, 10)
        for batch in task.batches(1):
            loss, _ = task.loss(batch)
            loss.backward()
            clip_gradients(list(model.parameters()), 1.0)
            schedule.apply(optimizer)
            optimizer.step()
            optimizer.zero_grad()
    assert {weight.device for weight in model.parameters()} == {META}
    trained, recorder.names = recorder.names, set()
    sides = [pairs(schema, user_fields).to(META)] if user_fields else []
    with recorder, torch.inference_mode(), evaluation_mode(model), scoring_kernels():
        for dataset in (rows, *sides):
            logits = scorer(model, dataset)(slice(0, 30))
            assert logits.shape == (30,)
    scored, recorder.names = recorder.names, trained | recorder.names
    return recorder, trained, scored


def maker(name):
    return lambda schema, config: create_model(name, schema, config)


MIXES = {
    "sparse": (sparse("a"), sparse("b")),
    "dense": (dense("a"), dense("b")),
    **{f"sequence {combiner}": (sequence("a", combiner), sparse("b")) for combiner in ("mean", "sum", "max")},
    "all": tuple(SCHEMA.fields.values()),
    "all of one width": tuple(SCHEMA.with_embedding_dim(4).fields.values()),
}
every_model = pytest.mark.parametrize("name", MODELS)


class TestModels:
    @every_model
    @pytest.mark.parametrize("mix", MIXES)
    def test_any_mix_of_fields_trains_and_scores_with_what_mps_has(self, name, mix):
        schema = schema_of(*MIXES[mix])
        recorder, trained, scored = recorded(maker(name), schema=schema, user_fields=("a", "user", "mean"))
        assert recorder.lacking() == []
        assert {"binary_cross_entropy_with_logits", *(["addmm"] if name not in ("lr", "fm") else [])} < trained
        assert trained & {"_fused_adam_"}
        assert "index_select" in scored
        if mix not in ("dense",):
            assert "embedding_dense_backward" in trained

    @every_model
    @pytest.mark.parametrize("projection", ["always", "if_needed", "none"])
    def test_with_every_projection(self, name, projection):
        schema = SCHEMA.with_embedding_dim(4) if projection == "none" else SCHEMA
        recorder, *_ = recorded(maker(name), f"feature.projection={projection}", schema=schema)
        assert recorder.lacking() == []

    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_with_every_activation(self, activation):
        recorder, *_ = recorded(maker("deepfm"), f"dnn.activation={activation}", user_fields=("user", "price"))
        assert recorder.lacking() == []

    @pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
    def test_with_every_optimizer_and_both_penalties(self, optimizer):
        recorder, trained, _ = recorded(
            maker("deepfm"), f"training.optimizer={optimizer}", "training.weight_decay=0.1",
            "feature.embedding_l2_reg=0.1",
        )  # fmt: skip
        assert recorder.lacking() == []
        assert f"_fused_{optimizer}_" in trained

    @pytest.mark.parametrize("form", ["cin.activation=relu", "cin.activation=linear"])
    @pytest.mark.parametrize("split_half", ["true", "false"])
    def test_with_every_form_of_the_interaction_network(self, form, split_half):
        recorder, *_ = recorded(maker("xdeepfm"), form, f"cin.split_half={split_half}", user_fields=("user",))
        assert recorder.lacking() == []

    def test_large_tables_have_dense_gradients_where_sparse_ones_are_not(self, monkeypatch):
        monkeypatch.setattr(task_module, "SPARSE_ROWS", 1)
        recorder, *_ = recorded(maker("deepfm"))
        assert recorder.lacking() == []

    @pytest.mark.parametrize("switch", ["training.embedding_optimizer=sparse_adam", "training.lazy_embedding_l2=true"])
    def test_switches_that_need_sparse_gradients_are_refused_in_words(self, switch, monkeypatch):
        model, rows = model_of("deepfm", switch), clicks(rows=64)
        on_mps = [SimpleNamespace(device=torch.device("mps"))]
        monkeypatch.setattr(model, "parameters", lambda: iter(on_mps))
        with pytest.raises(ConfigError, match="sparse gradients, which MPS has not; use embedding_optimizer=same"):
            CTRTask(model, model.config, rows, rows)


class TestTheCheckItself:
    def test_torchs_list_says_of_known_operators_what_is_known(self):
        assert [name for name in SUPPORTED if not mps_has(name)] == []
        assert [name for name in UNSUPPORTED if mps_has(name) and name in operators()] == []
        assert len([name for name in UNSUPPORTED if name in operators()]) >= 10

    def test_torchs_list_is_read_whole(self):
        having = sum(mps_has(name) for name in operators())
        assert len(operators()) > 2000
        assert 0.6 * len(operators()) < having < 0.97 * len(operators())
        assert sum("MPS" in kernels_of(name) for name in operators()) > 300

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            (lambda logit: logit + torch.heaviside(logit.detach(), logit.detach()), "heaviside"),
            (lambda logit: torch.take(logit, torch.zeros(len(logit), 1, dtype=torch.int64, device=META)), "take"),
            (lambda logit: logit.double().float(), "_to_copy with float64"),
            (lambda logit: logit + torch.ones(1, dtype=torch.float64, device=META)[0], "select.int with float64"),
        ],
        ids=["heaviside", "take", "a cast", "a constant"],
    )
    def test_a_model_with_something_that_mps_lacks_is_found_out(self, change, found):
        class Careless(DeepFM):
            def _forward_components(self, *views):
                return change(super()._forward_components(*views))

        recorder, *_ = recorded(Careless)
        assert found in recorder.lacking()

    def test_sparse_tensors_are_found_out(self):
        ids, table = torch.zeros(2, dtype=torch.int64, device=META), torch.zeros(3, 2, device=META, requires_grad=True)
        recorder = Recorder()
        with recorder:
            torch.nn.functional.embedding(ids, table, sparse=True).sum().backward()
        assert any("sparse" in name for name in recorder.lacking())

    def test_operators_within_an_operator_are_seen_in_inference_mode_too(self):
        recorder, ones = Recorder(), torch.ones(2, 3, device=META)
        with recorder, torch.inference_mode():
            torch.nn.functional.multilabel_margin_loss(ones, ones.long())
        assert recorder.lacking() == ["multilabel_margin_loss_forward"]
