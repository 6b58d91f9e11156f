"""The verb `watch`: the page of runs, on this machine, while they go on."""

from pathlib import Path
from typing import Annotated

import typer

from progrpo.api.patience import Patience
from progrpo.cli import output
from progrpo.cli.output import Json, Quiet, examples
from progrpo.processes import require_alone

EXAMPLES = examples(
    "progrpo watch runs/math",
    "progrpo watch runs/grpo-0 runs/progrpo-0 --port 8080",
)


def watch(
    runs: Annotated[list[Path], typer.Argument(help="run directories; several are compared")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="on 127.0.0.1; 0 takes a free one")] = 7272,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Serve the page of runs on 127.0.0.1 and renew it while they go on; Ctrl-C ends it."""
    require_alone("watch")
    with Patience("making the page", quiet=output.quiet()):
        from progrpo.report.live import LiveServer

        server = LiveServer(runs, port)
    with server:
        named = ", ".join(map(str, runs))
        output.show({"url": server.url}, lambda: typer.echo(f"{named}: {server.url} (Ctrl-C ends it)"))
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
