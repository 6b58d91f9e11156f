"""The verb `push`: a checkpoint of a run to the hub, with a model card."""

from pathlib import Path
from typing import Annotated

import typer

from progrpo.api.patience import Patience
from progrpo.cli import output
from progrpo.cli.output import Checkpoint, Json, Quiet, named_checkpoint
from progrpo.processes import require_alone


def push(
    run: Annotated[Path, typer.Argument(help="the directory of a training run")],
    repo: Annotated[str, typer.Argument(help="the repository: OWNER/NAME, or NAME under your own account")],
    checkpoint: Checkpoint = None,
    private: Annotated[bool, typer.Option("--private", help="make a new repository private")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the card and the files, and send nothing")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Push a checkpoint to the Hugging Face hub, with a model card made from the run (token: hf auth login, or HF_TOKEN)."""
    require_alone("push")
    with Patience("loading torch and transformers", quiet=output.quiet()):
        from progrpo.api.push import plan_push, send

    plan = plan_push(run, repo, checkpoint=named_checkpoint(checkpoint or "latest"))
    if plan.hint and checkpoint is None and not output.quiet():
        typer.echo(f"note: {plan.hint}", err=True)
    sizes = {name: (plan.folder / name).stat().st_size for name in plan.files}
    if dry_run:
        listed = "\n".join(f"# {size:>14,} bytes  {name}" for name, size in sizes.items())
        whole = f"# would be pushed to {repo}, from {plan.folder}, with this README.md:\n{listed}\n\n{plan.card}"
        result = {"repo": repo, "folder": str(plan.folder), "files": sizes, "card": plan.card}
        output.show(result, lambda: typer.echo(whole))
        return
    address = send(plan, private=True if private else None)
    output.show({"url": address, "files": sizes}, lambda: typer.echo(address))
