"""How a file of prices becomes a panel: what is masked, what is dropped, who belongs to the universe."""

from dataclasses import dataclass

from deepfm.engine.settings import setting

BAD_PRINTS = ("known", "two_sided", "keep")


@dataclass(frozen=True)
class EligibilityRule:
    """Who belongs to the universe on a session, from trailing data alone.

    Args:
        min_price: the least close of the day.
        min_dollar_volume: the least median of close times volume over the window.
        window: sessions of that median, the day's own included.
        min_rows: earlier sessions on which the stock printed.
    """

    min_price: float = setting(5.0, at_least=0)
    min_dollar_volume: float = setting(1e6, at_least=0)
    window: int = setting(60, at_least=1)
    min_rows: int = setting(252, at_least=0)


@dataclass(frozen=True)
class PanelOptions:
    """What `read_panel` does with data that cannot be right.

    Args:
        bad_prints: which closes that jump by more than half are masked. `known` looks at nothing later than the close
            itself: it masks a jump away from the last two prints of a stock whose prints of the last 250 sessions held
            a jump that was undone. `two_sided` masks each jump that the next print undoes, and so looks one session
            ahead. `keep` masks none; a saved panel is always read so.
        drop_partial_last: whether the last session goes when far fewer stocks than usual have a print, or a tenth of
            the usual volume.
        refuse_bad_prices: whether prices of zero or less are an error; otherwise they are missing, and counted.
        eligibility: the rule where the file has no column `elig`.
    """

    bad_prints: str = setting("known", choices=BAD_PRINTS)
    drop_partial_last: bool = setting(True)
    refuse_bad_prices: bool = setting(False)
    eligibility: EligibilityRule = EligibilityRule()
