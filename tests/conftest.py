"""Shape annotations of the equations are checked while the tests run (and only then)."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from jaxtyping import install_import_hook

install_import_hook(["progrpo.algo", "progrpo.methods"], "beartype.beartype")
