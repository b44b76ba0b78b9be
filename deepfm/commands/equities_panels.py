"""What the actions of `deepfm equities panel` do; heavy imports inside each."""

import argparse
from typing import TYPE_CHECKING

from deepfm.commands.arguments import print_warnings

if TYPE_CHECKING:
    from deepfm.equities.panels.settings import PanelOptions


def build(args: argparse.Namespace) -> int:
    """Read prices and write a clean panel."""
    from deepfm.equities.panels.files import check_panel, save_panel
    from deepfm.reporting import print_table

    panel, report = check_panel(args.prices, args.sectors, _panel_options(args))
    print_table(report.to_table())
    print_warnings(report.warnings())
    save_panel(panel, args.output)
    print(f"panel {args.output}: {panel.num_sessions:,} sessions, {panel.num_stocks:,} tickers")
    return 0


def check(args: argparse.Namespace) -> int:
    """Say what is in a file of prices."""
    from deepfm.equities.panels.files import check_panel
    from deepfm.reporting import print_table
    from deepfm.utils.io import write_json

    _, report = check_panel(args.prices, args.sectors, _panel_options(args))
    print_table(report.to_table())
    print_warnings(report.warnings())
    if args.json:
        write_json(args.json, report.to_dict())
    return 0


def synth(args: argparse.Namespace) -> int:
    """Generate a panel."""
    from deepfm.engine.settings import load_settings
    from deepfm.equities.panels.files import save_panel
    from deepfm.equities.panels.synthetic import PlantedSettings, planted_panel

    panel = planted_panel(load_settings(PlantedSettings, overrides=args.override), args.seed).panel
    save_panel(panel, args.output)
    print(f"generated panel {args.output}: {panel.num_sessions:,} sessions, {panel.num_stocks:,} tickers")
    return 0


def _panel_options(args: argparse.Namespace) -> "PanelOptions | None":
    from deepfm.equities.panels.settings import PanelOptions

    return PanelOptions(bad_prints="keep") if args.keep_bad_prints else None
