"""The verb `push`: a checkpoint of a run to the hub, with a model card."""

from pathlib import Path

import typer

from progrpo.api.push import plan_push, send
from progrpo.cli import output


def run_push(run: Path, repo: str, *, checkpoint: str, private: bool, dry_run: bool) -> None:
    """Push, and print the address; with `dry_run`, print the card and what would be sent, and send nothing."""
    push = plan_push(run, repo, checkpoint=int(checkpoint) if checkpoint.isdecimal() else checkpoint)
    sizes = {name: (push.folder / name).stat().st_size for name in push.files}
    if dry_run:
        listed = "\n".join(f"# {size:>14,} bytes  {name}" for name, size in sizes.items())
        output.show(
            {"repo": repo, "folder": str(push.folder), "files": sizes, "card": push.card},
            lambda: typer.echo(
                f"# would be pushed to {repo}, from {push.folder}, with this README.md:\n{listed}\n\n{push.card}"
            ),
        )
        return
    address = send(push, private=True if private else None)
    output.show({"url": address, "files": sizes}, lambda: typer.echo(address))
