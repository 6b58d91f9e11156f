"""Push a checkpoint of a run to the Hugging Face hub, with a model card made from the run; only ever when it is asked for."""

import logging
from pathlib import Path
from typing import NamedTuple

from progrpo.api.subject import checkpoint_folder, hint_of_best
from progrpo.errors import ConfigError, HubError, RunDirectoryError
from progrpo.model.files import ADAPTER
from progrpo.report.card import make_card
from progrpo.settings import read_yaml
from progrpo.train.checkpoint import PRIVATE_FILES, best_of

logger = logging.getLogger(__name__)

_CARD = "README.md"


class Push(NamedTuple):
    """What is to be pushed.

    Attributes:
        folder: of the checkpoint. files: within it. card: README.md there. hint: of a better checkpoint, in words; "" where
            there is none.
    """

    repo: str
    folder: Path
    files: tuple[str, ...]
    card: str
    hint: str = ""


def plan_push(run: str | Path, repo: str, *, checkpoint: str | int = "latest") -> Push:
    """Choose the checkpoint and write its card; nothing is sent.

    Args:
        repo: "OWNER/NAME", or "NAME" under one's own account. checkpoint: "latest", "best", or a step.

    Raises:
        RunDirectoryError: no training run. ModelError, CheckpointError: it has no such checkpoint. ConfigError: no name of a
            repository.
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ConfigError(
            f"{repo!r} cannot be the name of a repository: {error}; expected OWNER/NAME or NAME"
        ) from None
    path = Path(run)
    if not (path / "config.yaml").is_file() or "method" not in read_yaml(path / "config.yaml"):
        raise RunDirectoryError(f"{path}: expected the directory of a training run (with config.yaml in it)")
    folder = checkpoint_folder(path, checkpoint)
    best = best_of(path / "checkpoints")
    step = int(folder.name.removeprefix("step-"))
    adapter = (folder / ADAPTER).is_file() and not (folder / "config.json").is_file()
    return Push(
        repo=repo,
        folder=folder,
        files=tuple(
            str(file.relative_to(folder))
            for file in sorted(folder.rglob("*"))
            if file.is_file() and file.relative_to(folder).parts[0] not in (*PRIVATE_FILES, _CARD)
        ),
        card=make_card(
            path, step, repo=repo, adapter=adapter, chosen_by=best.metric if best and best.step == step else ""
        ),
        hint=hint_of_best(path, folder),
    )


def send(push: Push, *, private: bool | None = None) -> str:
    """Make the repository where it is not there, and commit the files and the card; the address of the model.

    The token is that of `hf auth login` or HF_TOKEN; no setting and no file of a run holds one.

    Args:
        private: of a new repository; None takes the account's default.

    Raises:
        HubError: there is no token, the hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE:
        raise HubError("HF_HUB_OFFLINE is set: nothing can be pushed; unset it")
    if get_token() is None:
        raise HubError(
            "there is no token for the hub: log in with `hf auth login`, or set HF_TOKEN (with the right to write)"
        )
    # Errors of the connection are those of the HTTP library beneath, which changes with the hub's version.
    broken: tuple[type[BaseException], ...] = (OSError, RuntimeError, *HfHubHTTPError.__bases__)
    hub = HfApi()
    try:
        repo = hub.create_repo(push.repo, private=private, exist_ok=True).repo_id
        operations = [CommitOperationAdd(name, str(push.folder / name)) for name in push.files]
        operations.append(CommitOperationAdd(_CARD, push.card.encode()))
        hub.create_commit(repo, operations, commit_message=f"Checkpoint {push.folder.name} of a progrpo run")
    except broken as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        remedy = {401: "; the token is not valid: `hf auth login`", 403: "; the token may not write there"}.get(
            status or 0, ""
        )
        said = f"answers with status {status}" if status else "cannot be reached"
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise HubError(
            f"{push.repo}: {hub.endpoint} {said} ({lines[0]:.200}){remedy}; nothing was committed"
        ) from error
    return f"{hub.endpoint}/{repo}"
