"""All checks of one model."""

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deepfm.config import ExperimentConfig
from deepfm.data.batches import Features
from deepfm.data.dataset import TabularDataset
from deepfm.data.schema import DatasetSchema
from deepfm.engine.loop import fit
from deepfm.errors import TrainingError
from deepfm.models import BaseCTRModel, evaluation_mode
from deepfm.training import objectives
from deepfm.training.evaluation import Evaluation
from deepfm.utils.seeding import seed_everything
from deepfm.validation import checks
from deepfm.validation.brief import BriefTask
from deepfm.validation.one_batch import LEARNING_RATES, OneBatch, learn_by_heart
from deepfm.validation.parts import parts_without_gradient, sequence_parts, shape_text, traced_parts
from deepfm.validation.report import DataFacts, Finding, ModelReport, Part, Start
from deepfm.validation.sources import ModelSource


@dataclass(frozen=True, eq=False)
class Material:
    """What models are checked on.

    Args:
        schema, train, validation: the data.
        config: with the training section of a brief training.
        epochs: of the brief training.
        facts: about the data.
        first_rows: features and labels of some training rows.
        batch: the one to learn by heart.
        bar: popularity on the validation rows.
        device: where to train.
    """

    schema: DatasetSchema
    train: TabularDataset
    validation: TabularDataset
    config: ExperimentConfig
    epochs: int
    facts: DataFacts
    first_rows: tuple[Features, Tensor]
    batch: OneBatch
    bar: Evaluation
    device: torch.device


def examine(source: ModelSource, material: Material) -> ModelReport:
    """Run all checks of one model; an error that it raises is a finding, and ends them."""
    started = time.perf_counter()
    examination = _Examination(source, material)
    examination.run()
    return examination.report(time.perf_counter() - started)


class _Examination:
    """One model's checks, and what they have found so far."""

    def __init__(self, source: ModelSource, material: Material) -> None:
        self.source, self.material, self.name = source, material, source.name
        self.findings: list[Finding] = []
        self.parts: list[Part] = []
        self.num_parameters: int | None = None
        self.start: Start | None = None
        self.one_batch_loss: float | None = None
        self.evaluation: Evaluation | None = None

    def run(self) -> None:
        """The checks in order, up to one without which the next would say nothing."""
        for check, work in (
            ("build", self._build),
            ("forward", self._look_inside),
            ("step 0", self._begin),
            ("one batch", self._learn_one_batch),
            ("training", self._train),
        ):
            try:
                going_on = work()
            except Exception as error:  # a person's own model may raise anything
                self.findings.append(checks.failure(self.name, check, self._failed(check), error))
                return
            if not going_on:
                return

    def report(self, seconds: float) -> ModelReport:
        """What was found."""
        return ModelReport(
            self.name,
            tuple(self.parts),
            self.num_parameters,
            self.start,
            self.one_batch_loss,
            self.evaluation.metrics if self.evaluation else {},
            round(seconds, 2),
            tuple(self.findings),
        )

    def _build(self) -> bool:
        model = self._fresh()
        self.num_parameters = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        return True

    def _look_inside(self) -> bool:
        """Shapes, the form of the logits, and what gradients reach."""
        model, batch = self._fresh(), self.material.batch
        with evaluation_mode(model):
            with torch.no_grad(), traced_parts(model, len(batch), self.parts):
                logits = model(batch.features)
            sequence_parts(model, batch.features, self.parts)
            self.parts.append(Part("logits", shape_text(logits, len(batch))))
            if self._found(checks.check_logits(self.name, logits, len(batch))):
                return False
            cut_off = parts_without_gradient(model, batch.features, batch.labels)
        self._found(checks.check_gradients(self.name, cut_off))
        return cut_off is not None

    def _begin(self) -> bool:
        """The untrained model in training mode, as the first step will see it."""
        model, (features, labels) = self._fresh(), self.material.first_rows
        model.train()
        with torch.no_grad():
            logits = model(features)
        if self._found(checks.check_logits(self.name, logits, len(labels))):
            return False
        loss = float(objectives.bce(logits.squeeze(1).float(), labels))
        self.start = Start(loss, float(logits.mean()), float(logits.std()))
        self._found(checks.check_start(self.name, self.start, self.material.facts))
        return True

    def _learn_one_batch(self) -> bool:
        """A fresh copy learns the batch by heart, at the first learning rate that does."""
        finding, failed = None, None
        for rate in LEARNING_RATES:
            model = self._fresh()
            try:
                loss = learn_by_heart(model, self.material.batch, rate)
            except TrainingError as error:
                failed = error
                continue
            if self.one_batch_loss is not None and loss >= self.one_batch_loss:
                continue
            with torch.no_grad():
                logits = model(self.material.batch.features)
            self.one_batch_loss, finding = loss, checks.check_one_batch(self.name, loss, logits)
            if finding is None:
                return True
        if self.one_batch_loss is None and failed is not None:
            raise failed
        self._found(finding)
        return True

    def _train(self) -> bool:
        """A brief training, against popularity."""
        material, model = self.material, self._fresh()
        task = BriefTask(model, material.config, material.train, material.validation, material.epochs)
        fit(task, material.config.training, device=material.device)
        self.evaluation = task.evaluation
        finding = checks.check_quality(self.name, task.evaluation, material.bar)
        if finding is not None and finding.check == "quality" and any(found.failed for found in self.findings):
            finding = replace(finding, meaning="Mend what failed before that first; it is reason enough.")
        self._found(finding)
        return True

    def _fresh(self) -> BaseCTRModel:
        """The model with its first weights, the same each time."""
        seed_everything(self.material.config.seed)
        return self.source.build(self.material.schema, self.material.config).to(self.material.device)

    def _found(self, finding: Finding | None) -> bool:
        if finding is not None:
            self.findings.append(finding)
        return finding is not None

    def _failed(self, check: str) -> str:
        if check == "build":
            return "the model cannot be built; it is called with (schema, config)"
        if check == "forward":
            return f"the forward pass fails{f' after {self.parts[-1].name}' if self.parts else ''}"
        work = {"step 0": "a pass in training mode", "one batch": "learning one batch by heart"}
        return f"{work.get(check, 'the brief training')} fails"
