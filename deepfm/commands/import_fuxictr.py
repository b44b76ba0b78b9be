"""`deepfm import-fuxictr`."""

import argparse

HELP = "Write the configuration and the table schema of an experiment of FuxiCTR's."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("dataset_config", metavar="DATASET_CONFIG", help="FuxiCTR's dataset_config.yaml")
    parser.add_argument("model_config", metavar="MODEL_CONFIG", help="FuxiCTR's model_config.yaml")
    parser.add_argument("--expid", metavar="NAME", help="the experiment in MODEL_CONFIG")
    parser.add_argument("-o", "--output", metavar="FOLDER", required=True, help="where both files are written")
    parser.add_argument(
        "--root",
        metavar="DIR",
        help="the folder that relative paths in DATASET_CONFIG start from, which is where FuxiCTR is run; left out: "
        "the first of this folder, DATASET_CONFIG's and those above it that the training file is found from",
    )
    parser.add_argument(
        "--nearest",
        action="store_true",
        help="write what has no equal here in its nearest form, each named, instead of refusing it",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")


def run(args: argparse.Namespace) -> int:
    """Translate, write and say what to know."""
    from pathlib import Path

    from deepfm.interop.fuxictr import read_experiment, translate

    experiment = read_experiment(args.dataset_config, args.model_config, args.expid)
    root = Path(args.root) if args.root else None
    translation = translate(experiment, root=root, nearest_form=args.nearest)
    config, schema = translation.write(args.output, overwrite=args.overwrite)
    findings = translation.findings
    for difference in findings.differences:
        print(f"other than FuxiCTR's: {difference}")
    for note in findings.notes:
        print(f"note: {note}")
    if findings.without_effect:
        print(f"no effect here: {', '.join(findings.without_effect)}")
    print(f"wrote {config} and {schema}; train with: deepfm train --config {config}")
    return 0
