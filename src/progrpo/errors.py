"""Every error the package raises on purpose: what was wrong, what was expected, what was got, and what to do.

Each class is also the standard exception of its kind, so callers may catch either.
"""


class ProgrpoError(Exception):
    """Base of all errors below. The command line prints its message and exits with `exit_code`."""

    exit_code = 2


class ConfigError(ProgrpoError, ValueError):
    """A setting is unknown, of the wrong type, out of range, or at odds with another setting."""


class PluginError(ProgrpoError, LookupError):
    """A method, reward, task, engine or measure is unknown, or does not keep the contract of its package."""


class ShapeError(ProgrpoError, ValueError):
    """A tensor argument has another shape than the function's signature says."""


class DataError(ProgrpoError, ValueError):
    """A data file is missing, empty, or has a row that cannot be used (file and line are named)."""


class SplitError(DataError):
    """A task has no such split at all: nothing is missing that could be supplied, another split is meant."""


class ModelError(ProgrpoError, ValueError):
    """A model or tokenizer cannot be used for training (no end-of-text token, no such folder, ...)."""


class RunDirectoryError(ProgrpoError, FileExistsError):
    """A run directory already holds a run, or holds none where one is needed. Nothing was overwritten."""


class CheckpointError(ProgrpoError, RuntimeError):
    """No checkpoint of a run can be read."""


class VerifierError(ProgrpoError, RuntimeError):
    """Too many verdicts were `timeout` or `crashed`: the rewards say more about the verifier than about the model."""


class NonFiniteError(ProgrpoError, FloatingPointError):
    """A loss or gradient was inf or nan. The batch was dumped; the message says where."""


class SandboxError(ProgrpoError, RuntimeError):
    """This machine cannot isolate untrusted programs, or a sandbox is set up in a way that cannot work."""


class ProcessError(ProgrpoError, RuntimeError):
    """The processes of a run cannot meet, have lost one of them, or do not hold the same numbers."""
