"""Completions that come one by one, brought together into the groups they were asked for in."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from progrpo.engines import Done, Generated, Request
from progrpo.types import Completion


def places(requests: Sequence[Request]) -> list[tuple[int, int]]:
    """Index of the request and of the seed in it, of each completion wanted."""
    return [(index, place) for index, request in enumerate(requests) for place in range(len(request.seeds))]


def gathered(
    requests: Sequence[Request], completions: Iterable[tuple[int, int, Completion]], on_done: Done | None
) -> list[Generated]:
    """The results of all requests in their order; each is announced as its last completion comes.

    Args:
        completions: as `places` names them, in any order.
    """
    drawn: dict[int, dict[int, Completion]] = defaultdict(dict)
    results: dict[int, Generated] = {}
    for index, place, completion in completions:
        drawn[index][place] = completion
        if len(drawn[index]) < len(requests[index].seeds):
            continue
        group = tuple(one for _, one in sorted(drawn.pop(index).items()))
        results[index] = Generated(prompt_logprobs=None, completions=group)
        if on_done is not None:
            on_done(index, results[index])
    return [results[index] for index in range(len(requests))]
