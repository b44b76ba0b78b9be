"""The terms that a model's logit is a sum of: the bias, the first order, pairs of fields, and each further part."""

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from deepfm.explain.moments import Hook
from deepfm.models import AFM, DCN, NFM, SIN, BaseCTRModel, DCNv2, FinalMLP, MaskNet, xDeepFM
from deepfm.models.layers import CIN, BiInteraction, FMInteraction, GatedFusion, PairAttention

REST = "rest"
OUTPUTS = {  # a model's last linear layer → what feeds it
    "dnn_output": "deep",
    "cin_output": "CIN",
    "attention_output": "attention",
    "fused_output": "fused",
    "output": "output",
}
ROUNDING = 1e-4  # of a logit and its terms: what float32 may lose


@dataclass(frozen=True, eq=False)
class Terms:
    """B logits taken apart, in float64: `bias` + `first_order` + `pairs` + `parts` make the logit.

    Args:
        logits: `(B,)`.
        bias: one number, the same for every row.
        first_order: `(B,)`; None where the model has none.
        pairs: `(B, P)` of the pairs of `names` in the order of `itertools.combinations`; None where no pair stands by
            itself in the logit.
        products: `(B, P)` inner products of pairs, where the model has a pair part: `pairs` but for NFM, which hands
            them on, and AFM, which weighs them.
        weights: `(B, P)` AFM's attention.
        names: what the pairs are of: fields, and behaviour sequences under a second order.
        parts: what each further part adds, `(B,)`.
    """

    logits: Tensor
    bias: float
    first_order: Tensor | None
    pairs: Tensor | None
    products: Tensor | None
    weights: Tensor | None
    names: tuple[str, ...]
    parts: dict[str, Tensor]


class TermReader:
    """Keeps what a model's parts gave in its last forward pass, and makes terms of it.

    Args:
        model: watch it with `hooks`.

    Example:
        >>> reader = TermReader(model)  # doctest: +SKIP
        >>> with watched(reader.hooks):  # doctest: +SKIP
        ...     terms = reader.terms(model(batch))
    """

    def __init__(self, model: BaseCTRModel) -> None:
        self.model = model
        self._seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    @property
    def hooks(self) -> list[tuple[nn.Module, Hook]]:
        """What to watch."""
        kinds = (CIN, FMInteraction, BiInteraction, PairAttention)
        inner = [part for part in self.model.modules() if isinstance(part, kinds)]
        outer = [part for part in self.model.children() if isinstance(part, nn.Linear)] + [self.model.embedding]
        gates = [part.values for part in self.model.modules() if isinstance(part, GatedFusion)]
        towers = [self.model.tower_1, self.model.tower_2, self.model.fusion] if isinstance(self.model, FinalMLP) else []
        return [(part, self._keep(part)) for part in (*inner, *outer, *gates, *towers)]

    def terms(self, logits: Tensor) -> Terms:
        """The terms of the logits `(B, 1)` that the last forward pass gave."""
        exact = _exact(logits).squeeze(1)
        first_order = self._first_order()
        names, products, weights, pairs = self._pairs()
        bias, parts = self._parts(pairs is not None)
        known = sum([bias + torch.zeros_like(exact), *parts.values()])
        assert isinstance(known, Tensor)
        known = known + (0.0 if first_order is None else first_order) + (0.0 if pairs is None else pairs.sum(dim=1))
        rest = exact - known
        if bool((rest.abs() > ROUNDING * (1.0 + exact.abs())).any()):  # a model of one's own has parts of its own
            parts[REST] = rest
        self._seen.clear()
        return Terms(exact, bias, first_order, pairs, products, weights, names, parts)

    def _first_order(self) -> Tensor | None:
        has_one = self.model.config.fm.use_first_order
        return self._gave(self.model.embedding).squeeze(1) if has_one else None

    def _pairs(self) -> tuple[tuple[str, ...], Tensor | None, Tensor | None, Tensor | None]:
        """Names, products, weights and terms of pairs."""
        schema = self.model.schema
        names = tuple(field.name for field in schema.interacting_fields)
        for part, (given, _) in self._seen.items():
            if isinstance(part, FMInteraction | BiInteraction | PairAttention):
                if given.shape[1] > len(names):
                    names = (*names, *(field.name for field in schema.behaviour_fields))
                left, right = torch.triu_indices(len(names), len(names), 1)
                fields = _exact(given)
                vectors = fields.index_select(1, left) * fields.index_select(1, right)  # (B, P, D)
                products, weights = vectors.sum(dim=2), None
                pairs = None if isinstance(part, BiInteraction) else products
                if isinstance(part, PairAttention) and isinstance(self.model, AFM):
                    weights = _exact(part.weights(given))  # (B, P)
                    pairs = weights * (vectors @ _exact(self.model.output.weight).squeeze(0))
                return names, products, weights, pairs
        return names, None, None, None

    def _parts(self, has_pairs: bool) -> tuple[float, dict[str, Tensor]]:
        """The bias, and what each linear output adds without its own."""
        model = self.model
        own = getattr(model, "bias", None)
        bias = float(own) if isinstance(own, nn.Parameter) else 0.0
        parts: dict[str, Tensor] = {}
        for name, layer in model.named_children():
            if not isinstance(layer, nn.Linear) or layer not in self._seen or name not in OUTPUTS:
                continue
            if layer.out_features > 1 or (isinstance(model, SIN) and name == "cin_output"):
                continue  # it feeds a fusion, not the logit
            bias += 0.0 if layer.bias is None else float(layer.bias)
            parts |= self._of_output(OUTPUTS[name], layer)
        if isinstance(model, FinalMLP):
            constant = float(model.fusion.left.bias) + float(model.fusion.right.bias)
            first = (self._gave(model.tower_1) @ _exact(model.fusion.left.weight).t()).squeeze(1)
            second = (self._gave(model.tower_2) @ _exact(model.fusion.right.weight).t()).squeeze(1)
            together = self._gave(model.fusion).squeeze(1) - constant - first - second
            bias += constant
            parts |= {"tower 1": first, "tower 2": second, "towers together": together}
        if isinstance(model, AFM) and has_pairs:
            del parts["output"]  # it stands in the pairs
        return bias, parts

    def _of_output(self, name: str, layer: nn.Linear) -> dict[str, Tensor]:
        """What one output layer adds, by what feeds it."""
        model, given, weight = self.model, self._got(layer), _exact(layer.weight).squeeze(0)
        if isinstance(model, SIN) and name == "fused":
            return self._sides(model, weight)
        if isinstance(model, xDeepFM) and name == "CIN":
            return _by_layer(model.cin, given * weight)
        if isinstance(model, DCN | DCNv2):
            width = len(weight) - model.dnn.output_dim
            added = given * weight
            parts = {"cross": added[:, :width].sum(dim=1)} if width else {}
            return parts | {"deep": added[:, width:].sum(dim=1)}
        if isinstance(model, MaskNet | NFM):
            name = "mask blocks" if isinstance(model, MaskNet) else "deep on pairs"
        return {name: given @ weight}

    def _sides(self, model: SIN, weight: Tensor) -> dict[str, Tensor]:
        """The direct way of SIN's two sides to the logit, under the gates as they are."""
        gate = None if model.fusion is None else self._gave(model.fusion.values)  # (B, G)
        parts: dict[str, Tensor] = {}
        if model.config.sin.fusion != "transformer":
            on_cin = weight if gate is None else gate * weight  # (B, G) or (G,)
            pooled = self._got(model.cin_output)  # (B, maps)
            through = on_cin @ _exact(model.cin_output.weight)  # (B, maps) or (maps,)
            parts |= _by_layer(model.cin, pooled * through)
            constant = on_cin @ _exact(model.cin_output.bias)
            parts["CIN, constant"] = constant.expand(len(pooled))
        if model.config.sin.fusion != "cin":
            on_behaviour = weight if gate is None else (1.0 - gate) * weight
            parts["behaviour"] = (self._gave(model.transformer_output) * on_behaviour).sum(dim=1)
        return parts

    def _got(self, part: nn.Module) -> Tensor:
        return _exact(self._seen[part][0])

    def _gave(self, part: nn.Module) -> Tensor:
        return _exact(self._seen[part][1])

    def _keep(self, part: nn.Module) -> Hook:
        def keep(given: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
            first = output[0] if isinstance(output, tuple) else output
            entered = given[0] if isinstance(given[0], Tensor) else first  # the embedding is given a batch
            self._seen[part] = entered, first

        return keep


def _exact(values: Tensor) -> Tensor:
    """In float64, on the CPU, as not every device has it."""
    return values.detach().cpu().double()


def pair_names(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """The pairs of some names, in the order in which terms have them."""
    return list(combinations(names, 2))


def _by_layer(cin: CIN, added: Tensor) -> dict[str, Tensor]:
    """What each layer of a CIN adds, of what its maps add `(B, maps)`."""
    layers = added.split(cin.output_sizes, dim=1)
    return {f"CIN layer {depth}": maps.sum(dim=1) for depth, maps in enumerate(layers, start=1)}
