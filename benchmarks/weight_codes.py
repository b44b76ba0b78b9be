"""Do codes of the auto-encoder hold unseen networks better than as many principal components?

    python benchmarks/weight_codes.py --folder outputs/zoo > codes.md

The networks of a zoo whose families are held out, three at a time, are rebuilt from codes of 16, 32 and 64 numbers.
"""

import argparse
import platform
import time
from dataclasses import replace

import numpy as np

from deepfm.model_selection.network_settings import AutoEncoderSettings
from deepfm.model_selection.reconstruction import SIZES, reconstruction_table
from deepfm.model_selection.weights import weight_tokens
from deepfm.model_selection.zoo import Zoo
from deepfm.reporting import Column, Table

GROUPS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default="outputs/zoo", help="a zoo")
    parser.add_argument("--epochs", type=int, help="left out: as the stage has it")
    args = parser.parse_args()
    started = time.process_time()
    zoo = Zoo.open(args.folder)
    settings = AutoEncoderSettings()
    if args.epochs is not None:
        settings = replace(settings, num_epochs=args.epochs)
    families = sorted(set(zoo.catalogue.families))
    found: dict[int, list[tuple[float, float]]] = {size: [] for size in SIZES}
    layers = {name: [weight_tokens(state) for state in zoo.states(name)] for name in zoo.catalogue.models}
    for group in range(GROUPS):
        hidden = {family for at, family in enumerate(families) if at % GROUPS == group}
        out = [zoo.catalogue.row(name)["family"] in hidden for name in zoo.catalogue.models]
        parts = [[state for name, its in zip(layers, out, strict=True) if its is side for state in layers[name]]
                 for side in (False, True)]  # fmt: skip
        for row in reconstruction_table(*parts, settings):
            found[row.code_size].append((row.autoencoder, row.principal_components))
    rows = [[size, *np.mean(values, axis=0).tolist()] for size, values in found.items()]
    columns = [Column("numbers", format="d"), *(Column(name, format=".4f") for name in ("auto-encoder", "PCA"))]
    seconds = time.process_time() - started
    print(f"{platform.processor() or platform.machine()}, {len(layers)} models, {seconds:.0f} s of processor time\n")
    print(Table(columns, rows, "mean squared error of unseen families, of the layers' variance").to_markdown())


if __name__ == "__main__":
    main()
