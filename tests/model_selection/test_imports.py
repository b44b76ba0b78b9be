"""Published tables: recognised by their columns, read as they mean, and the published figures out of our metrics."""

import numpy as np
import polars as pl
import pytest

from deepfm.errors import DataError
from deepfm.model_selection.imports import import_table
from deepfm.model_selection.metrics import weighted_tau
from deepfm.model_selection.scores import RankedScores
from tests.model_selection.published import evidence_of, published

MODEL_SPIDER = {
    "H-Score": 0.648,
    "NCE": 0.666,
    "LEEP": 0.408,
    "NLEEP": 0.454,
    "LogME": 0.676,
    "PACTranDirichlet": 0.397,
    "OTCE": 0.149,
    "LFC": 0.034,
    "GBC": 0.095,
}
CLASSIFICATION = ("Aircraft", "CIFAR10", "CIFAR100", "Caltech101", "Cars", "DTD", "Pet", "SUN397")


@pytest.fixture(scope="module")
def spider():
    return published("model_spider_single_source_10ptm.csv")


@pytest.fixture(scope="module")
def taus(spider):
    evidence = evidence_of(spider)
    assert evidence.tasks == CLASSIFICATION
    return {
        probe: [
            weighted_tau(evidence.outcomes[:, task], RankedScores(values[:, task]), "by truth") for task in range(8)
        ]
        for probe, values in evidence.probes.items()
    }


@pytest.mark.parametrize("probe", MODEL_SPIDER)
def test_published_means_of_model_spider(taus, probe):
    assert np.mean(taus[probe]) == pytest.approx(MODEL_SPIDER[probe], abs=0.01)


def test_the_two_cells_that_differ_are_aircraft(taus):
    """Their CSV holds another value of inception_v3 on Aircraft than the published LogME .540 and LEEP .244 used."""
    assert taus["LogME"][0] == pytest.approx(0.552, abs=5e-4)
    assert taus["LEEP"][0] == pytest.approx(0.221, abs=5e-4)
    means = {probe: np.mean(taus[probe]) for probe in ("LogME", "LEEP")}
    assert means["LogME"] + (0.540 - 0.552) / 8 == pytest.approx(0.676, abs=6e-4)
    assert means["LEEP"] + (0.244 - 0.221) / 8 == pytest.approx(0.408, abs=6e-4)


def test_model_spider_keeps_losses_apart(spider):
    assert len(spider.catalogue) == 10
    assert len(spider.probe_scores) == 9 * 10 * 8
    assert sorted(set(spider.outcomes.truth("negative loss")["dataset"])) == ["UTKFace", "dSprites"]
    assert spider.outcomes.matrix().values.max() < 1
    assert set(spider.outcomes.rows["origin"]) == {"published"}


def test_models_of_many_sources():
    table = published("model_spider_multi_source_ftd.csv")
    assert len(table.catalogue) == 66
    assert len(set(table.catalogue.families)) == 22
    assert table.catalogue.row("FTD_inception_v3_AID")["architecture"] == "inception_v3"
    assert table.outcomes.matrix().values.shape == (66, 7)


def test_transfergraph_is_read_with_its_models():
    table = published("transfergraph_image_long.csv")
    assert len(table.catalogue) == 180
    assert "food101" not in set(table.outcomes.rows["dataset"])
    assert any("food101" in note for note in table.notes)
    assert set(table.probe_scores.probes) == {"LogME", "H-score"}
    assert table.catalogue.row("google/vit-base-patch16-224")["parameters"] == 86567656
    with pytest.raises(DataError, match=r"unlike splits .'eval', 'test'"):
        table.outcomes.matrix()
    assert table.outcomes.matrix(split="eval").values.shape == (180, 12)


def test_timm_is_a_catalogue_with_costs():
    table = published("timm_imagenet_variants.parquet")
    assert len(table.catalogue) == 1266
    assert np.nanmin(table.catalogue.costs("macs")) > 1e6
    assert np.isnan(table.catalogue.costs("latency_ms")).sum() == 86
    assert "imagenet-sketch" in set(table.outcomes.rows["dataset"])


def test_a_small_transfergraph_without_models(tmp_path):
    rows = {
        "model": ["a", "a", "b"],
        "dataset": ["d", "food101", "d"],
        "eval_accuracy": [0.5, 0.01, 0.6],
        "test_accuracy": [0.4, 0.01, None],
        "LOG_ME": [1.0, None, None],
        "REG_H_SCORE": [2.0, None, 3.0],
    }
    pl.DataFrame(rows).write_csv(tmp_path / "fine_tunes.csv")
    table = import_table(tmp_path / "fine_tunes.csv")
    assert len(table.outcomes) == 3
    assert len(table.probe_scores) == 3
    assert table.catalogue.families.tolist() == ["unknown", "unknown"]
    assert any("without the table of models" in note for note in table.notes)


def test_unknown_columns_are_answered_with_the_known(tmp_path):
    pl.DataFrame({"modle": ["a"], "score": [1.0]}).write_csv(tmp_path / "x.csv")
    with pytest.raises(DataError, match=r"columns modle, score, which no known table has.*finetune.*TransferGraph"):
        import_table(tmp_path / "x.csv")


def test_an_accuracy_above_a_hundred_percent_is_refused(tmp_path):
    pl.DataFrame({"model": ["a_b"], "dataset": ["d"], "finetune_acc": [101.0]}).write_csv(tmp_path / "x.csv")
    with pytest.raises(DataError, match=r"'a_b' on 'd' is 101\.0; expected percent"):
        import_table(tmp_path / "x.csv")
    with pytest.raises(DataError, match="needs none"):
        import_table(tmp_path / "x.csv", models=tmp_path / "x.csv")
