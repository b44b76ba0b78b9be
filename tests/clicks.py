"""Generated click problems with every kind of field, for tests that train."""

import numpy as np
import torch

from deepfm.config import load_config
from deepfm.data.dataset import TabularDataset
from deepfm.data.interactions import InteractionDataset
from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from deepfm.models import create_model
from deepfm.training.task import CTRTask

CPU = torch.device("cpu")
MODEL_OPTIONS = {
    "deepfm": ("deepfm", ()),
    "xdeepfm relu split": ("xdeepfm", ("cin.activation=relu", "cin.split_half=true")),
    "xdeepfm linear": ("xdeepfm", ("cin.activation=linear", "cin.split_half=false")),
    "attention_deepfm": ("attention_deepfm", ("attention.num_layers=2",)),
}
INTERACTION_OPTIONS = {  # the other models without behaviour, option by option
    "lr": ("lr", ()),
    "fm": ("fm", ()),
    "wide_deep": ("wide_deep", ()),
    "dcn": ("dcn", ()),
    "dcn_v2": ("dcn_v2", ()),
    "dcn_v2 stacked": ("dcn_v2", ("dcn_v2.structure=stacked",)),
    "dcn_v2 low rank": ("dcn_v2", ("dcn_v2.low_rank=2",)),
    "dcn_v2 experts": ("dcn_v2", ("dcn_v2.low_rank=2", "dcn_v2.num_experts=3", "dcn_v2.num_layers=2")),
    "autoint": ("autoint", ()),
    "autoint alone": ("autoint", ("autoint.use_dnn=false", "autoint.scale=true", "autoint.layer_norm=true")),
    "autoint if needed": ("autoint", ("autoint.residual_projection=if_needed", "autoint.num_layers=2")),
    "autoint without residual": ("autoint", ("autoint.use_residual=false",)),
    "afm": ("afm", ()),
    "nfm": ("nfm", ()),
    "final_mlp": ("final_mlp", ()),
    "final_mlp contexts": ("final_mlp", ("final_mlp.context_1=[user,mean]", "final_mlp.context_2=[item,user]")),
    "final_mlp unselected": ("final_mlp", ("final_mlp.use_feature_selection=false",)),
    "mask_net": ("mask_net", ()),
    "mask_net serial": ("mask_net", ("mask_net.structure=serial", "mask_net.reduction_ratio=0.5")),
    "mask_net without norm": ("mask_net", ("mask_net.embedding_norm=false", "mask_net.num_blocks=2")),
}
SMALL = (
    "device=cpu",
    "feature.fm_embed_dim=4",
    "dnn.hidden_units=[12,6]",
    "dnn.dropout=0.2",
    "cin.layer_sizes=[6,4]",
    "attention.num_heads=2",
    "attention.attention_dim=6",
    "autoint.attention_dim=6",
    "afm.attention_dim=5",
    "final_mlp.hidden_units_1=[8,6]",
    "final_mlp.hidden_units_2=[4]",
    "final_mlp.num_heads=2",
    "final_mlp.selection_hidden_units=[7]",
    "mask_net.block_dim=5",
    "training.metric=auc",
    "training.batch_size=64",
    "training.scheduler=none",
    "training.lr=0.01",
)

SEQUENCE_SMALL = (
    "bst.num_heads=2",
    "bst.feedforward_dim=8",
    "bst.dropout=0.2",
    "din.hidden_units=[6,4]",
    "sin.num_heads=2",
    "sin.feedforward_dim=8",
    "sin.fusion_dim=5",
    "sin.dropout=0.2",
)
PRODUCTS = ("sin.fusion=transformer", "sin.candidate=product", "sin.use_dnn=false")  # an inner product
SEQUENCE_OPTIONS = {  # the models of behaviour, option by option
    **{
        f"bst {pooling} {layers}": ("bst", (f"bst.pooling={pooling}", f"bst.num_layers={layers}"))
        for pooling in ("target", "mean", "all")
        for layers in (1, 2)
    },
    **{
        f"bst {pooling} second order": ("bst", (f"bst.pooling={pooling}", "bst.second_order=true"))
        for pooling in ("target", "all")
    },
    "din second order": ("din", ("din.second_order=true",)),
    "bst norm first": ("bst", ("bst.norm_first=true", "bst.num_layers=2")),
    **{
        f"din normalize={normalize} recency={recency}": (
            "din",
            (f"din.normalize={normalize}", f"din.recency={recency}"),
        )
        for normalize in ("false", "true")
        for recency in ("false", "true")
    },
    **{
        f"sin {fusion} {candidate}": ("sin", (f"sin.fusion={fusion}", f"sin.candidate={candidate}"))
        for fusion in ("gate", "sum", "cin", "transformer")
        for candidate in ("attends", "encoded", "product")
    },
    "sin attends 0 layers": ("sin", ("sin.num_layers=0",)),
    "sin attends 2 layers": ("sin", ("sin.num_layers=2", "sin.norm_first=false")),
    "sin encoded 2 layers": ("sin", ("sin.candidate=encoded", "sin.num_layers=2")),
    "sin product 0 layers": ("sin", ("sin.candidate=product", "sin.num_layers=0")),
    **{
        f"sin {candidate} 6 wide": ("sin", (f"sin.candidate={candidate}", "sin.encoder_dim=6"))
        for candidate in ("attends", "encoded", "product")
    },
    "sin without tower": ("sin", ("sin.use_dnn=false",)),
    "sin of products": ("sin", PRODUCTS),
    "sin of products 6 wide": ("sin", (*PRODUCTS, "sin.encoder_dim=6")),
}


def sparse(name, vocabulary_size=30, width=4):
    return FieldSchema(name, FeatureType.SPARSE, vocabulary_size, width)


def dense(name, width=4, dimension=1):
    return FieldSchema(name, FeatureType.DENSE, embedding_dim=width, dimension=dimension)


def sequence(name, combiner="mean", width=4):
    return FieldSchema(name, FeatureType.SEQUENCE, 15, width, max_length=5, combiner=combiner)


def behaviour(name="history", of="item", vocabulary_size=25, width=4, max_length=6):
    """A behaviour sequence that shares the table of its candidate."""
    return FieldSchema(
        name, FeatureType.SEQUENCE, vocabulary_size, width, max_length=max_length, combiner="none",
        shares_embedding_with=of,
    )  # fmt: skip


def schema_of(*fields):
    return DatasetSchema({field.name: field for field in fields}, "click")


# Widths of several fields and of one; runs of sparse fields, of dense ones, and sequences between them.
SCHEMA = schema_of(
    sparse("user", 40),
    sparse("city", 12),
    sequence("mean", "mean"),
    dense("price", 3),
    sparse("item", 25, 3),
    dense("age"),
    dense("stock"),
    sequence("sum", "sum", 3),
    sequence("max", "max", 5),
)

# A behaviour sequence between the fields of the three views, before its candidate.
BEHAVIOUR_SCHEMA = schema_of(
    sparse("user", 40),
    sequence("tags", "mean"),
    behaviour(),
    dense("price", 3),
    sparse("item", 25),
    sparse("shop", 12, 5),
)


def columns(schema, rows, seed=0):
    """Random values of every field; the first row of each sequence is padding alone."""
    rng = np.random.default_rng(seed)
    values = {}
    for field in schema.fields.values():
        if field.feature_type is FeatureType.DENSE:
            values[field.name] = rng.normal(size=rows if field.dimension == 1 else (rows, field.dimension)).astype(
                np.float32
            )
        elif field.feature_type is FeatureType.SPARSE:
            values[field.name] = rng.integers(0, field.vocabulary_size, rows)
        else:
            values[field.name] = rng.integers(0, field.vocabulary_size, (rows, field.max_length), dtype=np.int32)
            values[field.name][rng.random((rows, field.max_length)) < 0.3] = 0
            values[field.name][0] = 0
    return values


def clicks(schema=SCHEMA, rows=640, seed=0):
    """Rows whose labels follow every field."""
    features = columns(schema, rows, seed)
    liking = np.zeros(rows)
    for values in features.values():
        effect = np.sin(values * 1.7) if values.dtype.kind == "f" else np.where(values % 3 == 1, 1.0, -0.5)
        liking += effect if effect.ndim == 1 else effect.mean(axis=1)
    chance = 1 / (1 + np.exp(-1.5 * liking))
    return TabularDataset(features, np.random.default_rng(seed + 1).random(rows) < chance)


def pairs(schema, user_fields, rows=300, num_users=20, num_items=30, seed=0, **options):
    """Pairs of users, who have the named fields, and items, which have the others."""
    sides = [
        schema_of(*(field for field in schema.fields.values() if (field.name in user_fields) == of_users))
        for of_users in (True, False)
    ]
    users, items = columns(sides[0], num_users, seed), columns(sides[1], num_items, seed + 1)
    rng = np.random.default_rng(seed)
    return InteractionDataset(
        (users, items),
        rng.integers(0, num_users, rows),
        rng.integers(0, num_items, rows),
        rng.integers(0, 2, rows).astype(np.float32),
        **options,
    )


def config_of(*overrides):
    return load_config(None, [*SMALL, *overrides])


def model_of(kind="deepfm", *overrides, schema=SCHEMA, seed=0):
    """A model by its key in `MODEL_OPTIONS` or `INTERACTION_OPTIONS`, as it begins."""
    name, options = (MODEL_OPTIONS | INTERACTION_OPTIONS)[kind]
    torch.manual_seed(seed)
    return create_model(name, schema, config_of(*options, *overrides))


class ClickTask(CTRTask):
    """The task with its losses kept, and a validation that calls each epoch better, so that no weights go back."""

    def __init__(self, model, dataset, config=None):
        super().__init__(model, config or model.config, dataset, dataset)
        self.losses, self.epochs = [], 0

    def loss(self, batch):
        value, rows = super().loss(batch)
        self.losses.append(value.detach().clone())
        return value, rows

    def evaluate(self, on_progress=None):
        self.epochs += 1
        return {"auc": self.epochs / 1000}


def randomise(model, scale=0.3, seed=0):
    """Weights of a size at which an error shows, padding rows zero, and running statistics that are not the start's."""
    from tests.conftest import zero_padding

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * scale)
        for part in model.modules():
            if isinstance(part, torch.nn.BatchNorm1d):
                part.running_mean.normal_(generator=generator)
                part.running_var.uniform_(0.3, 3.0, generator=generator)
    zero_padding(model)
    return model


def sequence_model_of(kind, *overrides, schema=BEHAVIOUR_SCHEMA, seed=0):
    """A model of behaviour by its key in `SEQUENCE_OPTIONS`, with weights of a size at which every part shows."""
    name, options = SEQUENCE_OPTIONS[kind]
    torch.manual_seed(seed)
    return randomise(create_model(name, schema, config_of(*SEQUENCE_SMALL, *options, *overrides)), seed=seed)
