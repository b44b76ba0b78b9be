"""What the numbers of a ranking mean, in plain words."""

HOW_TO_READ = (
    "RankIC is the rank correlation, across the stocks of one day, of the scores with the returns that followed; the "
    "table gives its mean over days. It reaches from -1 to 1, and 0 is chance. A RankIC of .02 to .03 is small and "
    "is what prices and volumes of liquid stocks have been seen to give when the trade comes a day after the scores: "
    "of two stocks picked at random the one with the higher score did better in about 51 of 100 cases. It can still "
    "be worth something, because it is a bet on a thousand stocks every day, not on one.",
    "ICIR is the mean of the daily values by their own spread from day to day. It is not annualised. The error of a "
    "mean is Newey and West's, because the returns over 20 sessions that start today and tomorrow share 19 sessions; "
    "a naive error would be about three times too small. t is the mean in errors, and below 2 in size a difference can "
    "well be chance.",
    "A difference to a baseline is taken day by day on the same days and then averaged, so that days which were hard "
    "for both do not count. A mean without such a difference says little: with five years of days, as of NASDAQ's "
    "liquid stocks from 2013 to 2017, only a gain of about .003 to .005 at short horizons, and .007 to .010 at long "
    "ones, can be told from chance.",
)
COSTS = (
    "The portfolio buys the best of the day's stocks and, unless it is long only, sells the worst short, equal "
    "weights, traded after the delay and held for the horizon in overlapping parts. Sharpe is the mean of its daily "
    "returns by their deviation, times the root of 252; a long-short portfolio that follows the scores has a positive "
    "one where the scores are right. Its own error over five years is .45, so that 1.0 and 1.4 do not differ.",
    "Costs decide which horizon is of any use. A portfolio that is renewed daily has been seen to trade twice its "
    "capital on a side every day; at 10 basis points a unit that is some 50 % a year. Held for 20 sessions it traded "
    "an eighth of its capital a day, some 3 % a year. The costs in the table are assumed, the same for every stock; "
    "borrowing, market impact and the price at which one really trades are not in it.",
)
SURVIVORSHIP = (
    "The stocks are those whose prices could still be had when the data were collected, so that few of those that "
    "failed or were taken over are among them (survivorship). That flatters every method here, above all those that "
    "buy what has fallen. Differences between methods on the same stocks suffer less than levels. The long-short "
    "portfolio is neutral in money, not in risk: see its beta and its sectors.",
    "Be wary of larger numbers. A RankIC above .06 for the next day, or a Sharpe ratio that is the mean of single "
    "stock-days by their spread, is on such data a sign of a leak, of trading at a close that is not known yet, or of "
    "a ratio that is no portfolio's. Targets such as RankIC .18 at one session or a Sharpe of .849 measured per "
    "observation have no support.",
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
