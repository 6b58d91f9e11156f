"""Bundles: one rollout with all that was computed from it, in one hashed file that can be replayed.

RUN/bundles/step-NNNNNN.safetensors, named after the first optimiser step that the rollout feeds. Tensors (P problems, G
completions of each, N = P * G; what belongs to tokens is laid end to end, completion after completion):

    prompt_ids, prompt_logprobs                        [sum of prompt_lengths], prompt_lengths [P]
    token_ids, sampler_logprobs, old_logprobs, entropies, entropy_gradients, trained
                                                       [sum of lengths], lengths [N]; old_logprobs only where they are others
                                                       than the sampler's, trained only where a prefix was fed
    logprobs                                           of the training pass, at the optimiser step of each sequence
    token_weights                                      dJ/dlog-prob of each token there: its weight in the loss (-dL/dlog-prob)
    token_advantages                                   where tokens of one completion have several
    rewards, advantages, column.NAME                   [P, G]
    method_state, generator                            what the method remembered before, torch's generator: bytes

The header (JSON in the file's metadata) has settings, versions, problems, completions with their verdicts, checksums of the
weights, what each optimiser step logged, why it was kept, and the SHA-256 of each tensor; `digest` is that of the header.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from progrpo.errors import DataError
from progrpo.files import storing, to_json
from progrpo.types import Completion, Group, Problem, Verdict

FOLDER, SUFFIX = "bundles", ".safetensors"
_HEADER, _DIGEST = "progrpo", "digest"
_FORMAT = 1
_OF_TOKENS = ("sampler_logprobs", "entropies", "entropy_gradients")
"""Tensors of a completion that a bundle has where every completion has them."""


def bundle_path(run: Path, step: int) -> Path:
    """Where the bundle of the rollout stands that feeds from `step` on."""
    return run / FOLDER / f"step-{step:06d}{SUFFIX}"


def bundle_paths(run: Path) -> dict[int, Path]:
    """The bundles of a run by the first optimiser step they feed, ascending."""
    paths = sorted((run / FOLDER).glob(f"step-*{SUFFIX}"))
    return {int(path.stem.removeprefix("step-")): path for path in paths}


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """One bundle, read.

    Attributes:
        header: see above. tensors: by name, as they lie in the file. digest: SHA-256 of the header, and by it of everything.
        faults: what differs from the hashes in the file, in words; () where it is as it was written.
    """

    path: Path
    header: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    digest: str
    faults: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """The first optimiser step that the rollout feeds."""
        return int(self.header["step"])

    @property
    def steps(self) -> tuple[int, ...]:
        """All of them."""
        return tuple(row["step"] for row in self.header["logged"])

    @property
    def settings(self) -> Mapping[str, Any]:
        """Of the run, as they were."""
        settings: Mapping[str, Any] = self.header["settings"]
        return settings

    @property
    def size(self) -> int:
        """G."""
        return int(self.tensors["rewards"].shape[1])

    def logged(self, step: int) -> Mapping[str, Any]:
        """What the run logged of an optimiser step."""
        return next(row for row in self.header["logged"] if row["step"] == step)

    def columns(self, name: str) -> Tensor | None:
        """A tensor of tokens as columns [N, S], 0 in the padding; None where the bundle has none."""
        values = self.tensors.get("sampler_logprobs" if name == "old_logprobs" and name not in self.tensors else name)
        return None if values is None else unpacked(values, self.tensors["lengths"])

    @property
    def table(self) -> dict[str, Tensor]:
        """Numbers [P, G] that stand beside each completion."""
        return {
            name.removeprefix("column."): value for name, value in self.tensors.items() if name.startswith("column.")
        }

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The rollout as it was sampled and judged."""
        prompt_lengths, lengths = self.tensors["prompt_lengths"].tolist(), self.tensors["lengths"].tolist()
        prompts = self.tensors["prompt_ids"].long().split(prompt_lengths)
        scored = self.tensors.get("prompt_logprobs")
        prompt_logprobs = [None] * len(prompts) if scored is None else scored.split(prompt_lengths)
        parts = {name: self.tensors[name].split(lengths) for name in _OF_TOKENS if name in self.tensors}
        trained = self.tensors["trained"].split(lengths) if "trained" in self.tensors else None
        ids = self.tensors["token_ids"].long().split(lengths)
        completions = [
            _completion(row, ids[n], {name: each[n] for name, each in parts.items()}, trained and trained[n])
            for n, row in enumerate(self.header["completions"])
        ]
        verdicts = [Verdict(**row["verdict"]) for row in self.header["completions"]]
        size = self.size
        return tuple(
            Group(
                problem=_problem(row),
                prompt_ids=prompts[p],
                prompt_logprobs=prompt_logprobs[p],
                completions=tuple(completions[p * size : (p + 1) * size]),
                verdicts=tuple(verdicts[p * size : (p + 1) * size]),
            )
            for p, row in enumerate(self.header["problems"])
        )


def packed(columns: Tensor, lengths: Tensor) -> Tensor:
    """Columns [N, S] without their padding, end to end."""
    return columns[torch.arange(columns.shape[1])[None, :] < lengths[:, None]]


def unpacked(values: Tensor, lengths: Tensor) -> Tensor:
    """The inverse of `packed`: [N, S], S the longest and 1 at least, 0 in the padding."""
    mask = torch.arange(max(1, int(lengths.max())))[None, :] < lengths[:, None]
    return torch.zeros(mask.shape, dtype=values.dtype).masked_scatter(mask, values)


def pack_groups(groups: Sequence[Group]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The part of header and tensors that `Bundle.groups` reads."""
    completions = [completion for group in groups for completion in group.completions]
    verdicts = [verdict for group in groups for verdict in group.verdicts]
    tensors = {
        "prompt_lengths": torch.tensor([len(group.prompt_ids) for group in groups]),
        "prompt_ids": torch.cat([group.prompt_ids for group in groups]).int(),
        "lengths": torch.tensor([len(completion.token_ids) for completion in completions]),
        "token_ids": torch.cat([completion.token_ids for completion in completions]).int(),
    }
    for name in _OF_TOKENS:
        values = [getattr(completion, name) for completion in completions]
        if all(value is not None for value in values):
            tensors[name] = torch.cat(values)
    if any(completion.trained is not None for completion in completions):
        tensors["trained"] = torch.cat(
            [
                torch.ones(len(one.token_ids), dtype=torch.bool) if one.trained is None else one.trained
                for one in completions
            ]
        )
    scored = [group.prompt_logprobs for group in groups]
    if all(one is not None for one in scored):
        tensors["prompt_logprobs"] = torch.cat([one for one in scored if one is not None])
    header = {
        "problems": [_problem_row(group.problem) for group in groups],
        "completions": [
            {
                "seed": completion.seed,
                "text": completion.text,
                "finish": completion.finish,
                "policy_version": completion.policy_version,
                "logprobs_of": completion.logprobs_of,
                "verdict": {
                    "status": verdict.status,
                    "reward": verdict.reward,
                    "extracted": verdict.extracted,
                    "canonical": verdict.canonical,
                    "detail": verdict.detail,
                    "parts": dict(verdict.parts),
                },
            }
            for completion, verdict in zip(completions, verdicts, strict=True)
        ],
    }
    return header, tensors


def token_columns(bundle: Bundle) -> list[dict[str, Any]]:
    """Of each completion its numbers per token as lists, by name; "prompt_ids" and "prompt_logprobs" are its prompt's,
    "trained" stands where not all of it is trained on."""
    names = ("token_ids", *_OF_TOKENS, "old_logprobs", "logprobs", "token_weights")
    lengths, prompts = bundle.tensors["lengths"].tolist(), bundle.tensors["prompt_lengths"].tolist()
    columns = {name: bundle.tensors[name].split(lengths) for name in names if name in bundle.tensors}
    before = {
        name: bundle.tensors[name].split(prompts)
        for name in ("prompt_ids", "prompt_logprobs")
        if name in bundle.tensors
    }
    trained = bundle.tensors.get("trained", torch.ones(sum(lengths), dtype=torch.bool)).split(lengths)
    return [
        {name: each[n // bundle.size].tolist() for name, each in before.items()}
        | {name: each[n].tolist() for name, each in columns.items()}
        | ({} if bool(trained[n].all()) else {"trained": trained[n].int().tolist()})
        for n in range(len(lengths))
    ]


def write_bundle(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a bundle whole or not at all; it is on the disk when this returns.

    Raises:
        StorageError: the disk refuses.
    """
    from safetensors.torch import save

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    digests = {name: _digest_of(tensor) for name, tensor in whole.items()}
    text = to_json({"format": _FORMAT, **header, "digests": digests})
    aside = path.with_name(f".{path.name}.writing")
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as file:
                file.write(save(whole, metadata={_HEADER: text, _DIGEST: _sha(text.encode("utf-8"))}))
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and hold it against its hashes: see `Bundle.faults`.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DataError(f"{path}: no such file; a bundle is RUN/{FOLDER}/step-NNNNNN{SUFFIX}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not readable (damaged or cut short?): {error}") from None
    if _HEADER not in metadata:
        raise DataError(f"{path}: a file of tensors, but no bundle: its metadata have no {_HEADER!r}")
    text = metadata[_HEADER]
    try:
        header = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: its header is no JSON ({error})") from None
    faults = [] if _sha(text.encode("utf-8")) == metadata.get(_DIGEST) else ["the header"]
    digests = header.get("digests", {})
    faults += [f"tensor {name}" for name, tensor in tensors.items() if digests.get(name) != _digest_of(tensor)]
    faults += [f"tensor {name} (missing)" for name in digests if name not in tensors]
    return Bundle(path=path, header=header, tensors=tensors, digest=metadata.get(_DIGEST, ""), faults=tuple(faults))


def read_header(path: Path) -> Mapping[str, Any]:
    """The header of a bundle, without its tensors and without a look at the hashes.

    Raises:
        DataError: it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header: Mapping[str, Any] = json.loads((file.metadata() or {})[_HEADER])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: no bundle, or not readable (damaged or cut short?): {error}") from None
    return header


def sound_bundle(path: Path) -> Bundle:
    """`read_bundle`, of a bundle that is as it was written.

    Raises:
        DataError: it is not, or cannot be read.
    """
    bundle = read_bundle(path)
    if bundle.faults:
        raise DataError(
            f"{path}: differs from what was written: {', '.join(bundle.faults)}; `progrpo replay` says where. Restore the file"
        )
    return bundle


def _problem_row(problem: Problem) -> dict[str, Any]:
    return {
        "id": problem.id,
        "prompt": problem.prompt if isinstance(problem.prompt, str) else [dict(one) for one in problem.prompt],
        "answer": problem.answer,
        "accepted": list(problem.accepted),
        "facts": dict(problem.facts),
    }


def _problem(row: Mapping[str, Any]) -> Problem:
    prompt = row["prompt"]
    return Problem(
        id=row["id"],
        prompt=prompt if isinstance(prompt, str) else tuple(prompt),
        answer=row["answer"],
        accepted=tuple(row["accepted"]),
        facts=row["facts"],
    )


def _completion(
    row: Mapping[str, Any], token_ids: Tensor, values: Mapping[str, Tensor], trained: Tensor | None
) -> Completion:
    return Completion(
        seed=row["seed"],
        text=row["text"],
        finish=row["finish"],
        policy_version=row["policy_version"],
        logprobs_of=row["logprobs_of"],
        token_ids=token_ids,
        sampler_logprobs=values["sampler_logprobs"],
        entropies=values.get("entropies"),
        entropy_gradients=values.get("entropy_gradients"),
        trained=trained,
    )


def _digest_of(tensor: Tensor) -> str:
    about = f"{tuple(tensor.shape)} {tensor.dtype}".encode()
    return _sha(about + tensor.contiguous().numpy().tobytes())


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
