"""How a study is run: trials, sampler, pruner, processes; without Optuna, so that bad values are found first."""

from dataclasses import dataclass

from deepfm.engine.settings import setting
from deepfm.errors import ExtraError

SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("median", "hyperband", "none")


@dataclass(frozen=True)
class StudySettings:
    """How a study is run.

    `trials` is how many the study has in all when it ends, those of earlier commands among them. `seed` is what the
    sampler draws from; trials are trained with the configuration's. No trial starts after `timeout` seconds.
    """

    trials: int = setting(20, at_least=1)
    sampler: str = setting("tpe", choices=SAMPLERS)
    pruner: str = setting("median", choices=PRUNERS)
    jobs: int = setting(1, at_least=1)
    timeout: float | None = setting(None, above=0)
    seed: int = setting(42, at_least=0, at_most=2**32 - 1)


def require_optuna() -> None:
    """Make sure that Optuna is here, and keep it from printing; it is imported when a study is made.

    Raises:
        ExtraError: it is not, with the extra that installs it.
    """
    try:
        import optuna
    except ImportError as error:
        raise ExtraError("deepfm tune needs Optuna 4 or newer; pip install 'deepfm[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
