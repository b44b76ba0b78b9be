"""What BARS publishes: its data sets' files, and the parameters and test metrics of each configuration.

All of it is of reczoo/BARS at 1ffaf73 and bc97da0 (`ranking/ctr/*/*/README.md`), on the test split.
"""

from dataclasses import dataclass

SETS = {"frappe_x1": "Frappe_x1", "movielenslatest_x1": "MovielensLatest_x1", "criteo_x1": "Criteo_x1"}
MODELS = {"deepfm": "DeepFM", "xdeepfm": "xDeepFM", "autoint": "AutoInt+", "final_mlp": "FinalMLP"}
MD5 = {
    "frappe_x1": (
        "ba7306e6c4fc19dd2cd84f2f0596d158",
        "88d51bf2173505436d3a8f78f2a59da8",
        "3470f6d32713dc5f7715f198ca7c612a",
    ),
    "movielenslatest_x1": (
        "efc8bceeaa0e895d566470fc99f3f271",
        "e1930223a5026e910ed5a48687de8af1",
        "54e8c6baff2e059fe067fb9b69e692d0",
    ),
    "criteo_x1": (
        "30b89c1c7213013b92df52ec44f52dc5",
        "f73c71fb3c4f66b6ebdfa032646bea72",
        "2c48b26e84c04a69b948082edae46f8c",
    ),
}


@dataclass(frozen=True)
class Published:
    """What BARS says of one configuration: parameters, and test AUC and log loss of each of its runs."""

    parameters: int
    auc: tuple[float, ...]
    logloss: tuple[float, ...]


PUBLISHED = {
    "deepfm_frappe_x1": Published(
        423_280,
        (0.984243, 0.983888, 0.983816, 0.983981, 0.983806),
        (0.148174, 0.150042, 0.149387, 0.147299, 0.152410),
    ),
    "xdeepfm_frappe_x1": Published(
        429_809,
        (0.984507, 0.984446, 0.983468, 0.984208, 0.984059),
        (0.146604, 0.143949, 0.149751, 0.146196, 0.144127),
    ),
    "autoint_frappe_x1": Published(622_180, (0.984812,), (0.149007,)),
    "final_mlp_frappe_x1": Published(253_392, (0.986072,), (0.148415,)),
    "deepfm_movielenslatest_x1": Published(
        1_328_630,
        (0.968515, 0.968224, 0.968233, 0.968092, 0.968050),
        (0.213002, 0.215447, 0.214846, 0.214043, 0.211613),
    ),
    "xdeepfm_movielenslatest_x1": Published(
        1_351_767,
        (0.969674, 0.966895, 0.968227, 0.967941, 0.967755),
        (0.240939, 0.224186, 0.228974, 0.228906, 0.227535),
    ),
    "autoint_movielenslatest_x1": Published(1_383_799, (0.969188,), (0.214772,)),
    "final_mlp_movielenslatest_x1": Published(1_040_902, (0.971968,), (0.196645,)),
    "deepfm_criteo_x1": Published(
        23_429_477,
        (0.813666, 0.813822, 0.813899, 0.813869, 0.813806),
        (0.438147, 0.438006, 0.438007, 0.438005, 0.438002),
    ),
    "xdeepfm_criteo_x1": Published(
        23_461_462,
        (0.813901, 0.813682, 0.813670, 0.813826, 0.813861),
        (0.438018, 0.438202, 0.438280, 0.438003, 0.437991),
    ),
    "autoint_criteo_x1": Published(23_844_454, (0.813939,), (0.437892,)),
    "final_mlp_criteo_x1": Published(22_478_162, (0.814902,), (0.437025,)),
}


def split_name(name: str) -> tuple[str, str]:
    """`final_mlp_frappe_x1` → `final_mlp`, `frappe_x1`."""
    data_set = next(one for one in SETS if name.endswith(one))
    return name.removesuffix(f"_{data_set}"), data_set
