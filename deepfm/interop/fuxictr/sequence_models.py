"""FuxiCTR's models of behaviour: DIN, and BST as near as it comes."""

from typing import Any

from deepfm.interop.fuxictr.forms import Form, Section, activation, dropout, some_widths, tower
from deepfm.interop.fuxictr.keys import Keys


def din(keys: Keys) -> Form:
    """DIN; FuxiCTR's activation unit sees candidate, token, their difference and product in our order."""
    if activation(keys, "attention_hidden_activations", "Dice", known="relu") != "relu":
        keys.refuse("attention_hidden_activations", "the activation unit has relu here; write relu", "relu")
    keys.require("attention_output_activation", None, (None,), "the activation unit's output is linear here")
    keys.require("attention_dropout", 0, (0,), "the activation unit drops nothing here; write 0", "nothing is dropped")
    section = {
        "hidden_units": some_widths(keys, "attention_hidden_units", (64,)),
        "normalize": keys.flag("din_use_softmax", False),
        "recency": False,
        "second_order": False,
    }
    network = tower(keys, "dnn_hidden_units", "dnn_activations", default=(512, 128, 64))
    sections = {"fm": {"use_first_order": False}, "dnn": network, "din": section}
    return Form("DIN", "din", sections, equal_widths=False, histories=_histories(keys, "din"))


def bst(keys: Keys) -> Form:
    """BST; its positions and its feed-forward part are others here, so that no file has an equal."""
    keys.take("use_position_emb", True)
    keys.refuse(
        "use_position_emb",
        "a position's vector stands beside the token in FuxiCTR, or nowhere, and is added to it here: another model",
        "positions are added to the tokens, and LeakyReLU in the feed-forward part is relu",
    )
    keys.require("use_residual", True, (True,), "every layer has residuals here, as in the paper", "it has them")
    keys.require("layer_norm", True, (True,), "every layer has a LayerNorm here, as in the paper", "it has one")
    keys.require("use_causal_mask", False, (False,), "every token sees the whole history here", "it does")
    poolings = {"mean": "mean", "target": "target", "concat": "all"}
    keys.require("seq_pooling_type", "mean", tuple(poolings), "expected mean, target or concat")
    within, after = dropout(keys, "attention_dropout"), dropout(keys, "net_dropout")
    if within != after:
        keys.refuse("attention_dropout", f"a layer has one dropout here, and net_dropout is {after}", str(after))
    section: Section = {
        "num_heads": keys.whole("num_heads", 2),
        "num_layers": keys.whole("stacked_transformer_layers", 1),
        "feedforward_dim": keys.whole("embedding_dim", 10),
        "dropout": after,
        "norm_first": False,
        "pooling": poolings.get(str(keys.taken["seq_pooling_type"]), "mean"),
        "second_order": False,
    }
    network = tower(keys, "dnn_hidden_units", "dnn_activations", default=(256, 128, 64))
    sections = {"fm": {"use_first_order": False}, "dnn": network, "bst": section}
    histories = _histories(keys, "bst")
    return Form("BST", "bst", sections, equal_widths=False, histories=histories, heads=section["num_heads"])


def _histories(keys: Keys, model: str) -> tuple[tuple[str, str], ...]:
    """The target and the sequence column of each behaviour sequence."""
    name, other = f"{model}_target_field", f"{model}_sequence_field"
    targets, sequences = _groups(keys, name), _groups(keys, other)
    if not targets or [len(group) for group in targets] != [len(group) for group in sequences]:
        keys.refuse(other, f"expected a column for each that {name} names, and one at least")
        return ()
    if any(len(group) > 1 for group in targets):
        together = ", ".join(next(group for group in targets if len(group) > 1))
        keys.refuse(
            name,
            f"{together} attend as one in FuxiCTR, and every sequence by itself here; name them one by one",
            "every sequence attends by itself",
        )
    pairs = zip(targets, sequences, strict=True)
    return tuple(pair for target, sequence in pairs for pair in zip(target, sequence, strict=True))


def _groups(keys: Keys, name: str) -> list[tuple[str, ...]]:
    """Names or groups of names as groups."""
    given: Any = keys.take(name)
    given = given if isinstance(given, list) else [] if given is None else [given]
    return [tuple(map(str, one)) if isinstance(one, (list, tuple)) else (str(one),) for one in given]
