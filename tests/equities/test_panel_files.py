"""Files of prices become panels, and what cannot be right is said."""

import numpy as np
import polars as pl
import pytest

from deepfm.equities.panels.cleaning import known_bad_prints, trailing_eligible
from deepfm.equities.panels.files import check_panel, panel_from_rows, panel_to_rows, read_panel, save_panel
from deepfm.equities.panels.panel import PRICES
from deepfm.equities.panels.settings import EligibilityRule, PanelOptions
from deepfm.errors import ConfigError, DataError
from tests.equities.made_panels import REAL, made_panel, rows_of

EASY = PanelOptions(eligibility=EligibilityRule(min_rows=0, window=1, min_dollar_volume=0))


def made(closes, **options):
    return panel_from_rows(rows_of(closes), options=PanelOptions(**options))


def same(first, second):
    return all(
        np.array_equal(getattr(first, name), getattr(second, name), equal_nan=True) for name in (*PRICES, "volume")
    ) and bool((first.eligible == second.eligible).all() and (first.sectors == second.sectors).all())


class TestReading:
    def test_rows_are_laid_out_by_session_and_ticker(self):
        panel, report = made({"B": [10, 11, 12], "A": [None, 5, 6]})
        assert panel.tickers == ("A", "B")
        np.testing.assert_array_equal(panel.close, np.float32([[np.nan, 10], [5, 11], [6, 12]]))
        assert (report.listed_later, report.holes, report.was_sorted) == (1, 0, True)
        assert not panel.eligible.any()  # nobody has 252 earlier rows

    @pytest.mark.parametrize("suffix", [".parquet", ".csv"])
    def test_files_of_either_kind_give_the_same_panel(self, tmp_path, suffix):
        rows = rows_of({"A": [5.5, 6.25], "B": [10, 11]}).with_columns(
            sector=pl.col("ticker").replace_strict({"A": "x", "B": "n/a"})
        )
        path = tmp_path / f"prices{suffix}"
        rows.write_csv(path) if suffix == ".csv" else rows.write_parquet(path)
        panel = read_panel(path)
        assert panel.close.tolist() == [[5.5, 10.0], [6.25, 11.0]]
        assert (panel.sector_names, panel.sectors.tolist()) == (("x",), [0, -1])

    def test_unsorted_rows_are_sorted_and_said(self):
        rows = rows_of({"A": [5, 6, 7], "B": [1, 2, 3]})
        panel, report = panel_from_rows(rows[::-1])
        assert same(panel, panel_from_rows(rows)[0])
        assert not report.was_sorted

    def test_a_saved_panel_is_read_back_bit_for_bit(self, tmp_path):
        panel = made_panel()
        save_panel(panel, tmp_path / "panel.parquet")
        again = read_panel(tmp_path / "panel.parquet")
        assert same(again, panel)
        assert (again.tickers, again.sector_names) == (panel.tickers, panel.sector_names)
        assert (again.sessions == panel.sessions).all()

    def test_a_saved_panel_is_not_cleaned_again(self, tmp_path):
        panel, report = made({"A": [10, 10, 99, 10, 10, 10, 99, 99, 99], "B": [5] * 9})
        assert report.masked == 1
        save_panel(panel, tmp_path / "panel.parquet")
        again, report = check_panel(tmp_path / "panel.parquet")
        assert same(again, panel)
        assert report.masked == 0


class TestRefused:
    @pytest.mark.parametrize("name", ["date", "ticker", "open", "high", "low", "close", "volume"])
    def test_a_missing_column_is_named(self, name):
        with pytest.raises(DataError, match=f"no column '{name}'"):
            panel_from_rows(rows_of({"A": [1]}).drop(name))

    def test_duplicates_are_named(self):
        rows = rows_of({"A": [1, 2], "B": [3, 4]})
        with pytest.raises(DataError, match=r"2 pairs .* such as \(2012-01-02, A\), \(2012-01-02, B\)"):
            panel_from_rows(pl.concat([rows, rows.filter(pl.col("date") == pl.date(2012, 1, 2))]))

    @pytest.mark.parametrize(
        ("column", "says"),
        [
            (pl.lit("dear").alias("close"), "'close' of type String"),
            (pl.lit(20120102).alias("date"), "'date' of type Int32"),
            (pl.lit("soon").alias("date"), "holds no dates"),
            (pl.lit(None, pl.String).alias("ticker"), "1 rows without a ticker"),
        ],
    )
    def test_wrong_types_are_named(self, column, says):
        with pytest.raises(DataError, match=says):
            panel_from_rows(rows_of({"A": [1]}).with_columns(column))

    def test_no_row_no_price_and_no_file(self, tmp_path):
        with pytest.raises(DataError, match="no row"):
            panel_from_rows(rows_of({"A": [1]}).clear())
        with pytest.raises(DataError, match="no close above zero"):
            made({"A": [0.0, -1.0]})
        with pytest.raises(DataError, match="does not exist"):
            read_panel(tmp_path / "none.parquet")
        (tmp_path / "text.parquet").write_text("no table")
        with pytest.raises(DataError, match="cannot be read"):
            read_panel(tmp_path / "text.parquet")
        with pytest.raises(ConfigError, match="bad_prints"):
            made({"A": [1]}, bad_prints="guess")


class TestCleaned:
    def test_prices_of_zero_or_less_are_missing_and_counted(self):
        panel, report = made({"A": [5, 0, 6], "B": [3, -2, 3], "C": [1, 1, 1]})
        assert report.bad_prices == 8
        assert np.isnan(panel.close[1, :2]).all()
        assert np.isnan(panel.volume[1, :2]).all()
        with pytest.raises(DataError, match="8 prices of zero or less"):
            made({"A": [5, 0, 6], "B": [3, -2, 3], "C": [1, 1, 1]}, refuse_bad_prices=True)

    def test_high_below_low_and_negative_volume_are_missing(self):
        rows = rows_of({"A": [5, 6]}).with_columns(low=pl.Series([9.0, 6.0]), volume=pl.Series([1.0, -1.0]))
        panel, report = panel_from_rows(rows)
        assert (report.high_below_low, report.bad_volumes, report.outside_range) == (1, 1, 0)
        assert np.isnan([panel.high[0, 0], panel.low[0, 0], panel.volume[1, 0]]).all()
        assert panel.close[0, 0] == 5

    def test_days_without_a_close_are_no_sessions(self):
        panel, report = panel_from_rows(rows_of({"A": [5, 0, 6], "B": [5, 0, 6]}))
        assert panel.num_sessions == 2
        assert report.empty_sessions == ("2012-01-03",)

    def test_missing_sessions_are_named(self):
        rows = rows_of({"A": [1.0] * 12}).filter(~pl.col("date").is_between(pl.date(2012, 1, 6), pl.date(2012, 1, 10)))
        report = panel_from_rows(rows)[1]
        assert report.gaps == (("2012-01-05", "2012-01-11"),)
        assert any("2012-01-05 to 2012-01-11" in line for line in report.warnings())
        assert made({"A": [1.0] * 12})[1].gaps == ()

    def test_a_split_sized_jump_is_named_with_its_date(self):
        panel, report = made({"A": [10, 10, 5, 4, 4, 4], "B": [3] * 6})
        assert [str(jump) for jump in report.jumped] == []  # -50 % is not beyond a half
        panel, report = made({"A": [10, 10, 4, 4, 4, 4], "B": [3] * 6})
        assert [str(jump) for jump in report.jumped] == ["A 2012-01-04 -60%"]
        assert (report.undone, report.masked) == ((), 0)
        assert panel.close[2, 0] == 4
        assert any("A 2012-01-04 -60%" in line for line in report.warnings())

    def test_a_jump_that_the_next_print_undoes_is_a_bad_print(self):
        closes = {"A": [10, 10, 99, None, 10, 10, 10], "B": [3] * 7}
        _, report = made(closes)
        assert [str(jump) for jump in report.undone] == ["A 2012-01-04 +890%"]
        assert report.jumped == ()  # the way back is no jump of its own
        assert report.masked == 0  # nobody knew on the day
        panel, report = made(closes, bad_prints="two_sided")
        assert np.isnan(panel.close[2, 0])
        assert report.masked == 1

    def test_bad_prints_known_on_their_day_need_a_record_of_them(self):
        panel, report = made({"A": [10, 10, 99, 10, 10, 99, 10, 30, 30]})
        assert np.flatnonzero(np.isnan(panel.close[:, 0])).tolist() == [5, 7]
        assert report.masked == 2

    def test_the_mask_of_a_day_knows_nothing_after_it(self):
        rng = np.random.default_rng(0)
        close = np.exp(rng.normal(size=(60, 5)))
        close[rng.random(close.shape) < 0.2] = np.nan
        with np.errstate(invalid="ignore"):
            whole = known_bad_prints(close)
            assert whole.any()
            for end in range(3, 60, 7):
                assert (known_bad_prints(close[:end]) == whole[:end]).all()

    def test_a_partial_last_session_is_dropped_or_kept(self):
        closes = {f"S{number:02d}": [5.0] * (30 if number % 2 else 29) for number in range(20)}
        panel, report = made(closes)
        assert (panel.num_sessions, report.dropped_last) == (29, True)
        assert report.partial_last == "2012-02-10"
        panel, report = made(closes, drop_partial_last=False)
        assert (panel.num_sessions, report.dropped_last) == (30, False)
        assert any("partial" in line for line in report.warnings())

    def test_the_report_is_a_table_and_plain_values(self):
        _, report = made({"A": [10, 10, 4, 4], "B": [3, 3, 3, 3]})
        cells = dict(report.to_table().rows)
        assert cells["jumps that stayed"] == "1: A 2012-01-04 -60%"
        assert report.to_dict()["jumped"][0] == {"ticker": "A", "session": "2012-01-04", "change": -0.6}
        assert any("survivors" in line for line in report.warnings())


THREE = {"A": [1.0], "B": [2.0], "C": [3.0]}


class TestSectors:
    def test_a_file_by_industry_and_a_mapping(self, tmp_path):
        path = tmp_path / "meta.csv"
        path.write_text("ticker,industry\nA,Banks\nB,n/a\nZ,Drugs\n")
        panel, report = panel_from_rows(rows_of(THREE), sectors=path)
        assert (panel.sector_names, panel.sectors.tolist()) == (("Banks",), [0, -1, -1])
        assert report.unknown_sectors == ("B", "C")
        again, _ = panel_from_rows(rows_of(THREE), sectors={"A": "Banks"})
        assert (again.sectors == panel.sectors).all()

    def test_two_sectors_of_one_ticker_and_other_columns_are_refused(self, tmp_path):
        path = tmp_path / "meta.csv"
        path.write_text("ticker,sector\nA,Banks\nA,Drugs\n")
        with pytest.raises(DataError, match=r"gives A the sectors \['Banks', 'Drugs'\]"):
            panel_from_rows(rows_of(THREE), sectors=path)
        path.write_text("name,group\nA,Banks\n")
        with pytest.raises(DataError, match="expected ticker and sector"):
            panel_from_rows(rows_of(THREE), sectors=path)


class TestEligibility:
    def test_the_rule_by_hand(self):
        rule = EligibilityRule(min_price=5, min_dollar_volume=100, window=3, min_rows=2)
        close = np.array([[10.0, 10, 10], [10, 4, np.nan], [10, 10, 10], [10, 10, 10], [10, 10, 10]])
        volume = np.array([[10.0, 10, 10], [9, 30, 10], [11, 10, 10], [9, 9, 10], [9, 9, 10]])
        expected = [[0, 0, 0], [0, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]]
        assert trailing_eligible(close, volume, rule).astype(int).tolist() == expected

    def test_the_median_is_numpys_also_for_even_windows(self):
        rng = np.random.default_rng(1)
        close, volume = np.full((40, 8), 10.0), rng.integers(5, 16, size=(40, 8)).astype(float)
        close[rng.random(close.shape) < 0.2] = np.nan
        found = trailing_eligible(close, volume, EligibilityRule(5, 100, 6, 0))
        for session in range(40):
            for stock in range(8):
                window = (close * volume)[max(0, session - 5) : session + 1, stock]
                known = window[~np.isnan(window)]
                expected = len(known) > 0 and np.median(known) >= 100 and not np.isnan(close[session, stock])
                assert found[session, stock] == expected

    def test_it_is_trailing(self):
        panel = made_panel(150)
        rule = EligibilityRule(5, 5e6, 60, 20)
        whole = trailing_eligible(panel.close.astype(float), panel.volume.astype(float), rule)
        assert 0 < whole.sum() < whole.size
        for end in (40, 100, 149):
            cut = panel.until(end)
            part = trailing_eligible(cut.close.astype(float), cut.volume.astype(float), rule)
            assert (part == whole[: end + 1]).all()

    def test_the_files_own_column_wins(self):
        rows = panel_to_rows(made_panel(30)).with_columns(elig=pl.lit(1, pl.Int8))
        panel, report = panel_from_rows(rows, options=EASY)
        assert (panel.eligible == panel.listed).all()
        assert not report.computed_eligibility
        assert panel_from_rows(rows.drop("elig"), options=EASY)[1].computed_eligibility


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="the panel of NASDAQ prices is not here")
def test_the_small_real_panel_is_read_as_measured():
    panel, report = check_panel(REAL / "nasdaq_demo200_ohlcv_2012_2017.parquet", REAL / "nasdaq_meta.csv")
    assert (panel.num_stocks, report.partial_last, report.dropped_last) == (200, "2017-12-11", True)
    assert ("2012-10-26", "2012-10-31") in report.gaps
    assert report.rows == 298_199


def test_a_file_with_a_header_alone_has_no_row(tmp_path):
    path = tmp_path / "empty.csv"
    path.write_text("date,ticker,open,high,low,close,volume\n")
    with pytest.raises(DataError, match=r"empty\.csv has no row; expected one for each date and ticker"):
        read_panel(path)
