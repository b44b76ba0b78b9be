"""FuxiCTR's models that are here too, and what their keys are in ours.

Names and defaults are those of the classes of FuxiCTR 2.3.10; where a file leaves a key out, its default is written.
"""

from collections.abc import Callable

from deepfm.engine.settings import nearest
from deepfm.interop.fuxictr.forms import THREE, Form, Section, activation, dropout, some_widths, tower
from deepfm.interop.fuxictr.keys import Keys, as_number
from deepfm.interop.fuxictr.sequence_models import bst, din

NO_WIDE = {"use_first_order": False}
WIDE = {"use_first_order": True}
PAIRS = {"use_first_order": True, "use_second_order": True}


def read_model(keys: Keys) -> Form | None:
    """Take the keys that describe the model; None, and a refusal, where it is not here."""
    name = keys.take("model")
    if not isinstance(name, str) or name not in MODELS:
        known = nearest(name, list(MODELS)) if isinstance(name, str) else "known: " + ", ".join(MODELS)
        keys.refuse("model", f"not a model of FuxiCTR's that is here too; {known}")
        return None
    return MODELS[name](keys)


def _lr(_: Keys) -> Form:
    return Form("LR", "lr", {"fm": WIDE}, first_order=True)


def _fm(_: Keys) -> Form:
    return Form("FM", "fm", {"fm": PAIRS}, first_order=True)


def _wide_deep(keys: Keys) -> Form:
    return Form("WideDeep", "wide_deep", {"fm": WIDE, "dnn": tower(keys)}, first_order=True)


def _deepfm(keys: Keys) -> Form:
    note = "wide part and tower share one bias here, where FuxiCTR 2 adds up two"
    return Form("DeepFM", "deepfm", {"fm": PAIRS, "dnn": tower(keys)}, first_order=True, note=note)


def _xdeepfm(keys: Keys) -> Form:
    maps = some_widths(keys, "cin_hidden_units", (16, 16, 16), older=("cin_layer_units",))
    sections = {
        "fm": WIDE,
        "dnn": tower(keys, "dnn_hidden_units", "dnn_activations", older=("hidden_activations",)),
        "cin": {"layer_sizes": maps, "split_half": False, "activation": "linear", "output_bias": True},
    }
    note = "the CIN's weights begin as torch's linear layers do, where FuxiCTR 2 has Xavier's"
    return Form("xDeepFM", "xdeepfm", sections, first_order=True, note=note)


def _dcn(keys: Keys) -> Form:
    layers = keys.whole("num_cross_layers", 3, older=("crossing_layers",))
    network = tower(keys, "dnn_hidden_units", "dnn_activations", default=())
    return Form("DCN", "dcn", {"fm": NO_WIDE, "dnn": network, "dcn": {"num_layers": layers}}, equal_widths=False)


def _dcn_v2(keys: Keys) -> Form:
    keys.require("model_structure", "parallel", ("parallel", "stacked"), "expected parallel or stacked")
    structure = "stacked" if keys.taken["model_structure"] == "stacked" else "parallel"
    keys.no_effect("parallel_dnn_hidden_units" if structure == "stacked" else "stacked_dnn_hidden_units")
    section: Section = {"num_layers": keys.whole("num_cross_layers", 3), "structure": structure}
    mixture = keys.flag("use_low_rank_mixture", False)
    if mixture:
        section |= {"low_rank": keys.whole("low_rank", 32), "num_experts": keys.whole("num_experts", 4)}
        if section["num_experts"] == 1:
            keys.refuse("num_experts", "a single expert has no nonlinearity here; write 2 or more")
    else:
        keys.no_effect("low_rank", "num_experts")
    network = tower(keys, f"{structure}_dnn_hidden_units", "dnn_activations", default=())
    sections = {"fm": NO_WIDE, "dnn": network, "dcn_v2": section}
    note = "the experts' matrices begin with another Xavier range than FuxiCTR's" if mixture else ""
    return Form("DCNv2", "dcn_v2", sections, equal_widths=False, note=note)


def _autoint(keys: Keys) -> Form:
    wide, deep = keys.flag("use_wide", False), bool(keys.widths("dnn_hidden_units", THREE))
    section: Section = {
        "num_layers": keys.whole("attention_layers", 2),
        "num_heads": keys.whole("num_heads", 1),
        "attention_dim": keys.whole("attention_dim", 8),
        "use_residual": keys.flag("use_residual", True),
        "residual_projection": "if_needed",
        "layer_norm": keys.flag("layer_norm", False),
        "scale": keys.flag("use_scale", False),
        "dropout": dropout(keys, "net_dropout"),
        "use_dnn": deep,
    }
    sections: dict[str, Section] = {"fm": {"use_first_order": wide}, "autoint": section}
    if deep:
        sections["dnn"] = tower(keys, "dnn_hidden_units", "dnn_activations")
    else:
        keys.no_effect("dnn_activations", "batch_norm")
    return Form("AutoInt", "autoint", sections, first_order=wide)


def _afm(keys: Keys) -> Form:
    keys.require("use_attention", True, (True,), "AFM without attention is FM; write model: FM")
    given = keys.take("attention_dropout", [0, 0])
    shares = [as_number(one) for one in given] if isinstance(given, list) else []
    if len(shares) != 2 or any(share is None or not 0 <= share < 1 for share in shares):
        keys.refuse("attention_dropout", "expected two shares of at least 0 and below 1")
    elif shares[0]:
        keys.refuse("attention_dropout", "no attention weights are dropped here; write 0 first", "those stay whole")
    section: Section = {"attention_dim": keys.whole("attention_dim", 10), "dropout": shares[-1] if shares else 0.0}
    return Form("AFM", "afm", {"fm": WIDE, "afm": section}, first_order=True, always_there=True)


def _nfm(keys: Keys) -> Form:
    keys.no_effect("embedding_dropout")  # FuxiCTR's NFM takes it and leaves it
    return Form("NFM", "nfm", {"fm": WIDE, "dnn": tower(keys), "nfm": {"dropout": 0.0}}, first_order=True)


def _final_mlp(keys: Keys) -> Form:
    section: Section = {}
    for number in (1, 2):
        section[f"hidden_units_{number}"] = some_widths(keys, f"mlp{number}_hidden_units", THREE)
        section[f"dropout_{number}"] = dropout(keys, f"mlp{number}_dropout")
        section[f"use_batch_norm_{number}"] = keys.flag(f"mlp{number}_batch_norm", False)
    first, second = (activation(keys, f"mlp{number}_hidden_activations") for number in (1, 2))
    if first != second:
        keys.refuse("mlp2_hidden_activations", f"both towers have one activation here, and mlp1's is {first}", first)
    section["num_heads"] = keys.whole("num_heads", 1)
    section["use_feature_selection"] = keys.flag("use_fs", True)
    context: tuple[str, ...] = ()
    if section["use_feature_selection"]:
        section["selection_hidden_units"] = some_widths(keys, "fs_hidden_units", (64,))
        section |= {f"context_{number}": keys.names(f"fs{number}_context") for number in (1, 2)}
        context = (*section["context_1"], *section["context_2"])
    else:
        keys.no_effect("fs_hidden_units", "fs1_context", "fs2_context")
    sections: dict[str, Section] = {"fm": NO_WIDE, "dnn": {"activation": first}, "final_mlp": section}
    return Form("FinalMLP", "final_mlp", sections, context=context)


def _mask_net(keys: Keys) -> Form:
    kinds = {"SerialMaskNet": "serial", "ParallelMaskNet": "parallel"}
    keys.require("model_type", "SerialMaskNet", tuple(kinds), "expected SerialMaskNet or ParallelMaskNet")
    structure = kinds.get(str(keys.taken["model_type"]), "serial")
    keys.require("net_layernorm", True, (True,), "every block has a LayerNorm here, as in the paper; write true")
    units = some_widths(keys, "dnn_hidden_units", THREE)
    network: Section = {
        "activation": activation(keys, "dnn_hidden_activations"),
        "dropout": dropout(keys, "net_dropout"),
        "use_batch_norm": False,
    }
    section: Section = {
        "structure": structure,
        "reduction_ratio": keys.number("reduction_ratio", 1.0),
        "embedding_norm": keys.flag("emb_layernorm", True),
    }
    if structure == "parallel":
        network["hidden_units"] = units
        section |= {
            "num_blocks": keys.whole("parallel_num_blocks", 1),
            "block_dim": keys.whole("parallel_block_dim", 64),
        }
    else:
        keys.no_effect("parallel_num_blocks", "parallel_block_dim")
        if len(set(units)) > 1:
            keys.refuse("dnn_hidden_units", "serial blocks are equally wide here; write one width for all")
        section |= {"num_blocks": len(units), "block_dim": units[0]}
    return Form("MaskNet", "mask_net", {"fm": NO_WIDE, "dnn": network, "mask_net": section})


MODELS: dict[str, Callable[[Keys], Form]] = {
    "LR": _lr,
    "FM": _fm,
    "WideDeep": _wide_deep,
    "DeepFM": _deepfm,
    "xDeepFM": _xdeepfm,
    "DCN": _dcn,
    "DCNv2": _dcn_v2,
    "AutoInt": _autoint,
    "AFM": _afm,
    "NFM": _nfm,
    "FinalMLP": _final_mlp,
    "MaskNet": _mask_net,
    "DIN": din,
    "BST": bst,
}
