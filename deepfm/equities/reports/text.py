"""What the numbers of a ranking mean, in plain words; figures of a panel are those of the report's own evaluation."""

import math

from deepfm.equities.evaluation.backtest import BASIS_POINT
from deepfm.equities.evaluation.results import Evaluation
from deepfm.equities.evaluation.sharpe import SESSIONS_PER_YEAR
from deepfm.equities.reports.plots import sessions_text

SURVIVORSHIP = (
    "A file of prices mostly holds the stocks whose prices could still be had when it was made, and few of those that "
    "failed or were taken over before (survivorship). Where that is so it flatters every method here, above all those "
    "that buy what has fallen. Differences between methods on the same stocks suffer less than levels. A long-short "
    "portfolio is neutral in money, not in risk: see its beta and, where known, its sectors.",
    "Be wary of larger numbers. From daily prices and volumes of real stocks, a RankIC above .06 for the next day, or "
    "a Sharpe ratio that is the mean of single stock-days by their spread, is a sign of a leak, of trading at a close "
    "that is not known yet, or of a ratio that is no portfolio's. Targets such as RankIC .18 at one session or a "
    "Sharpe of .849 measured per observation have no support.",
)
NOT_ADVICE = "Nothing here is advice to buy or sell anything. Past returns, of a backtest least of all, promise none."
FEATURE_WEIGHTS = (
    "The mean weight that the variable selection gives each feature. Weights say what the network reads, not what "
    "decides: features that say the same share a weight."
)
ATTENTION = (
    "The mean weight that the day's own position gives each session of the look-back, beside what even weights would "
    "be. Attention says where a layer looks, not what decides (Jain and Wallace, 2019)."
)
QUANTILES = (
    "Coverage is the share of outcomes at or below each forecast quantile; an honest forecast shows its own level. "
    "A crossing is a higher quantile that lies below a lower one."
)


def how_to_read(found: Evaluation) -> tuple[str, ...]:
    """What RankIC, ICIR, errors and differences are, with this evaluation's own number of stocks and errors."""
    last = found.results[-1]
    summary, horizon = last.rank_ic, last.horizon
    stocks = f", here on {last.names:,.0f} of them" if summary.days else ""
    why = (
        f"the returns over {horizon} sessions that start today and tomorrow share {horizon - 1}"
        if horizon > 1
        else "neighbouring days may be alike"
    )
    naive = (
        f"; one that takes days as independent would be {summary.deviation / math.sqrt(summary.days):.4f} over "
        f"{sessions_text(horizon)}, not {summary.error:.4f}"
        if summary.days
        else ""
    )
    errors = [
        (at, [item.rank_ic.error for item in found.paired if (item.method, item.horizon) == (found.name, at)])
        for at in found.horizons
    ]
    least = ", ".join(f"{2 * min(known):.4f} over {sessions_text(at)}" for at, known in errors if known)
    return (
        "RankIC is the rank correlation, across the stocks of one day, of the scores with the returns that followed; "
        "the table gives its mean over days. It reaches from -1 to 1, and 0 is chance. A RankIC of .02 to .03 is small "
        "and is what prices and volumes of liquid stocks have been seen to give when the trade comes a day after the "
        "scores: of two stocks picked at random the one with the higher score did better in about 51 of 100 cases. It "
        f"can still be worth something, because it is a bet on many stocks every day{stocks}.",
        "ICIR is the mean of the daily values by their own spread from day to day. It is not annualised. The error of "
        f"a mean is Newey and West's, because {why}{naive}. t is the mean in errors, and below 2 in size a difference "
        "can well be chance.",
        "A difference to a baseline is taken day by day on the same days and then averaged, so that days which were "
        "hard for both do not count. A mean without such a difference says little."
        + (
            f" Here a difference of less than two errors, at best {least}, cannot be told from chance." if least else ""
        ),
    )


def costs(found: Evaluation) -> tuple[str, ...]:
    """How the portfolios are traded and what that costs, at this evaluation's own turnover; the deflated ratio."""
    settings = found.settings
    traded = [result for result in found.results if len(result.portfolio.dates)]
    error = (
        f" Its own error over {len(traded[0].portfolio.dates):,} sessions is "
        f"{traded[0].portfolio.before_costs.sharpe_error:.2f}: a ratio below twice that cannot be told from none."
        if traded
        else ""
    )
    yearly = SESSIONS_PER_YEAR * settings.main_cost * BASIS_POINT
    turnovers = "; ".join(
        f"held {sessions_text(result.horizon)}, {result.portfolio.mean_turnover:.2f} times and "
        f"{result.portfolio.mean_turnover * yearly:.1%}"
        for result in traded
    )
    told = (
        f" This is how many times its capital on a side {found.name}'s portfolio trades a day, and what that costs a "
        f"year at {settings.main_cost:g} basis points a unit: {turnovers}."
        if traded
        else ""
    )
    return (
        "The portfolio buys the best of the day's stocks and, unless it is long only, sells the worst short, equal "
        "weights, traded after the delay and held for the horizon in overlapping parts. Sharpe is the mean of its "
        "daily returns by their deviation, times the root of 252; a long-short portfolio that follows the scores has "
        f"a positive one where the scores are right.{error}",
        f"Costs decide which horizon is of any use.{told} The costs in the table are assumed, the same for every "
        "stock; borrowing, market impact and the price at which one really trades are not in it.",
        _deflated(found),
    )


def _deflated(found: Evaluation) -> str:
    trials, deviation = found.settings.trials, found.settings.trial_deviation
    start = (
        "The deflated Sharpe ratio (Bailey and López de Prado, 2014) is the probability, given the number of returns "
        f"and their skewness and kurtosis, that the true ratio net of {found.settings.main_cost:g} bp is above "
    )
    if trials == 1:
        return (
            f"{start}the best that luck would show among all that was tried; trials are 1 (evaluation.trials), which "
            "says that nothing was searched for, so that it is the probability of a ratio above 0."
        )
    spread = "as chance has it" if deviation is None else f"with a deviation of {deviation:g}"
    return (
        f"{start}the best that {trials} worthless trials (evaluation.trials) would show, their ratios spread {spread}; "
        "baselines were not searched for, and theirs is the probability of a ratio above 0."
    )
