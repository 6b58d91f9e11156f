"""A page as headless Chromium has it once its script has run."""

import subprocess
from pathlib import Path

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=2000",
    "--dump-dom",
]


def dom(page: str, folder: Path, *flags: str) -> str:
    """The document as HTML; `folder` takes the page and the browser's profile."""
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    command = ["chromium", *FLAGS, *flags, f"--user-data-dir={folder / 'profile'}", file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
