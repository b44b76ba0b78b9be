"""The tables of a ranking's report."""

from deepfm.equities.evaluation.results import Evaluation
from deepfm.reporting import Column, Table

SHOWN_SECTORS = 8


def rank_ic_table(found: Evaluation) -> Table:
    """Every method at every horizon: RankIC and IC with how sure they are and their ratios, good days."""
    columns = [
        Column("sessions", format="d"),
        Column("method"),
        Column("RankIC", format="+.4f"),
        Column("error", format=".4f"),
        Column("95 % interval"),
        Column("t", format="+.1f"),
        Column("RankICIR", format="+.3f"),
        Column("IC", format="+.4f"),
        Column("its error", format=".4f"),
        Column("ICIR", format="+.3f"),
        Column("days above 0", format=".1%"),
        Column("days", format=",d"),
        Column("skipped", format=",d"),
        Column("stocks a day", format=",.0f"),
    ]
    rows = []
    for at, horizon in enumerate(found.horizons):
        for name, results in found.methods.items():
            summary, linear = results[at].rank_ic, results[at].ic
            rows.append(
                [
                    horizon, name, summary.mean, summary.error, interval_text(summary.interval), summary.t,
                    summary.ratio, linear.mean, linear.error, linear.ratio, summary.positive_share, summary.days,
                    summary.skipped, results[at].names,
                ]
            )  # fmt: skip
    caption = (
        "Mean daily RankIC, and IC (Pearson's), with Newey-West errors; the interval, t and days above 0 are RankIC's; "
        "skipped days have too few stocks with a score and a return. IC takes scores as they are: those of several "
        "seeds and of a blend are mean ranks, whose IC is not that of forecasts with a heavy tail."
    )
    return Table(columns, rows, caption, best=False)


def paired_table(found: Evaluation) -> Table:
    """The evaluated method less each baseline, and its blend with one less that one, day by day."""
    cost = found.paired[0].cost if found.paired else 0.0
    columns = [
        Column("sessions", format="d"),
        Column("method"),
        Column("baseline"),
        Column("RankIC difference", format="+.4f"),
        Column("error", format=".4f"),
        Column("95 % interval"),
        Column("t", format="+.1f"),
        Column("net return difference, % a year", format="+.1f"),
        Column("t of it", format="+.1f"),
    ]
    rows = [
        [
            item.horizon, item.method, item.baseline, item.rank_ic.mean, item.rank_ic.error,
            interval_text(item.rank_ic.interval), item.rank_ic.t, 252 * 100 * item.net_return.mean, item.net_return.t,
        ]
        for horizon in found.horizons
        for item in found.paired
        if item.horizon == horizon
    ]  # fmt: skip
    return Table(columns, rows, f"The method less the baseline on the same days; returns net of {cost:g} bp.", False)


def yearly_table(found: Evaluation) -> Table:
    """The evaluated method's RankIC year by year, with errors."""
    years = sorted({year.year for result in found.results for year in result.rank_ic.years})
    columns = [Column("sessions", format="d"), *(Column(str(year)) for year in years)]
    rows = []
    for result in found.results:
        by_year = {year.year: year for year in result.rank_ic.years}
        rows.append(
            [
                result.horizon,
                *(
                    f"{by_year[year].mean:+.4f} ({by_year[year].error:.4f})" if year in by_year else None
                    for year in years
                ),
            ]
        )
    return Table(columns, rows, f"{found.name}: mean daily RankIC (Newey-West error) of each year.", best=False)


def portfolio_table(found: Evaluation) -> Table:
    """Every method's portfolio: Sharpe before and after costs and deflated, turnover, drawdowns, beta."""
    costs, main = found.settings.costs, found.settings.main_cost
    columns = [
        Column("sessions", format="d"),
        Column("method"),
        *(Column(f"Sharpe at {cost:g} bp", format="+.2f") for cost in costs),
        Column("its error", format=".2f"),
        Column(f"deflated at {main:g} bp", format=".1%"),
        Column("gross return", format="+.1%"),
        Column("volatility", format=".1%"),
        Column("drawdown", format=".1%"),
        Column(f"drawdown at {main:g} bp", format=".1%"),
        Column("turnover a day", format=".3f"),
        Column("beta", format="+.2f"),
    ]
    rows = []
    for at, horizon in enumerate(found.horizons):
        for name, results in found.methods.items():
            portfolio = results[at].portfolio
            gross, net = portfolio.before_costs, portfolio.level(main)
            rows.append(
                [
                    horizon, name, *(level.sharpe for level in portfolio.levels), gross.sharpe_error, net.deflated,
                    gross.annual_return, gross.volatility, gross.drawdown, net.drawdown, portfolio.mean_turnover,
                    portfolio.beta,
                ]
            )  # fmt: skip
    share = f"{found.settings.share:.0%}"
    sold = "" if found.settings.long_only else f", the worst {share} sold"
    trials = f"{found.settings.trials:,} trial{'s' if found.settings.trials > 1 else ''}"
    caption = (
        f"Portfolios: the best {share} of a day's stocks bought{sold}; returns a year, volatility and drawdown are on "
        "one side's capital and, where no cost is named, before costs, as the Sharpe ratio's error is; deflated by "
        f"{trials} of {found.name}."
    )
    return Table(columns, rows, caption, best=False)


def sector_table(found: Evaluation) -> Table:
    """The sectors that the evaluated method's portfolio leans on most, by horizon."""
    columns = [Column("sessions", format="d"), Column("most bought"), Column("most sold"), Column("sum", format=".2f")]
    rows = []
    for result in found.results:
        order = sorted(result.portfolio.sectors.items(), key=lambda item: -item[1])
        bought = [f"{name} {weight:+.3f}" for name, weight in order[: SHOWN_SECTORS // 2] if weight > 0]
        sold = [f"{name} {weight:+.3f}" for name, weight in order[::-1][: SHOWN_SECTORS // 2] if weight < 0]
        total = sum(abs(weight) for _, weight in order)
        rows.append([result.horizon, "; ".join(bought) or None, "; ".join(sold) or None, total])
    return Table(
        columns, rows, "Mean net weight by sector; the sum is over the sizes of all sectors' net weights.", best=False
    )


def quantile_table(found: Evaluation) -> Table:
    """Coverage, pinball loss and crossings of the forecast quantiles, by horizon."""
    with_quantiles = [(result.horizon, result.quantiles) for result in found.results if result.quantiles is not None]
    levels = with_quantiles[0][1].levels if with_quantiles else ()
    columns = [
        Column("sessions", format="d"),
        *(Column(f"at or below {level:g}", format=".1%") for level in levels),
        Column("within the outer two", format=".1%"),
        Column("pinball", format=".5f"),
        Column("crossings", format=".2%"),
    ]
    rows = [
        [horizon, *quality.coverage, quality.interval, quality.pinball, quality.crossing_rate]
        for horizon, quality in with_quantiles
    ]
    return Table(columns, rows, "Forecast quantiles against what came.", best=False)


def spread_table(found: Evaluation) -> Table:
    """The highest tenth's forward return less the lowest's, in basis points over the horizon."""
    columns = [
        Column("sessions", format="d"),
        Column("method"),
        Column("spread, bp", format="+.1f"),
        Column("error", format=".1f"),
        Column("t", format="+.1f"),
    ]
    rows = [
        [horizon, name, 1e4 * results[at].spread.mean, 1e4 * results[at].spread.error, results[at].spread.t]
        for at, horizon in enumerate(found.horizons)
        for name, results in found.methods.items()
    ]
    return Table(
        columns,
        rows,
        "Forward return, clipped at ±50 %, of the highest tenth by score less that of the lowest.",
        best=False,
    )


def interval_text(interval: tuple[float, float]) -> str:
    """An interval as a reader sees it."""
    return f"{interval[0]:+.4f} to {interval[1]:+.4f}"
