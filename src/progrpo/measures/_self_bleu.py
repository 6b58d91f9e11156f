"""BLEU of each text against all others, in time linear in their tokens up to a sort.

For text i and n-gram g, BLEU counts min(count_i(g), max over j != i of count_j(g)). That is count_i(g) for every text but
the one that has g most often, its owner (of equals, the first), and for the owner the second-largest count. So each n-gram
is counted once, and not once for every pair of texts.
"""

import math

import numpy as np

from progrpo.measures._ngrams import Corpus

_EPSILON = 0.1
"""What smoothing method 1 puts in place of 0 matches."""
_LARGEST_CODE = 2**62


def bleu_against_others(corpus: Corpus, order: int) -> list[float]:
    """BLEU of each text with all others as its references, each in [0, 1].

        BLEU_i = min(1, exp(1 - r_i/l_i)) · exp(Σ_m log(p_im) / order),   m = 1..order

    p_im is the clipped share of the m-grams of text i that the others have; where none matches, 0.1 over their number
    (or over 1, if the text is shorter than m). l_i is the text's length, r_i the length of the other text closest to it,
    of two the shorter. A text without a matching token gets 0.

    Source: Papineni et al. 2002; smoothing method 1 of Chen and Cherry 2014. To the last bit what nltk's `sentence_bleu`
    gives with `SmoothingFunction().method1` and uniform weights.

    Raises:
        ValueError: fewer than two texts, or order < 1.
    """
    texts = corpus.lengths.size
    if texts < 2 or order < 1:
        raise ValueError(f"self-BLEU: expected at least 2 texts and n >= 1, got {texts} texts and n = {order}")
    matches = clipped_matches(corpus, order)
    lengths = corpus.lengths.tolist()
    rows = zip(matches.T.tolist(), lengths, _closest_lengths(corpus.lengths).tolist(), strict=True)
    return [_bleu(counts, length, closest) for counts, length, closest in rows]


def clipped_matches(corpus: Corpus, order: int) -> np.ndarray:
    """[order, n] how many m-grams of each text the others have, m = 1..order, each clipped as BLEU clips."""
    matches = np.zeros((order, corpus.lengths.size), dtype=np.int64)
    remaining = corpus.remaining
    starts, texts, grams = np.arange(corpus.tokens.size), corpus.text_of_token, corpus.tokens
    for index in range(order):
        if index:
            # An n-gram that two texts share begins with one that they share: the others need not be looked at again.
            fits = remaining[starts] > index
            starts, texts = starts[fits], texts[fits]
            grams = grams[fits] * corpus.vocabulary + corpus.tokens[starts + index]
        if not grams.size:
            break
        by_gram = _by_gram_and_text(grams, texts, corpus.lengths.size)
        starts, texts, grams = starts[by_gram], texts[by_gram], grams[by_gram]
        new = np.concatenate([[True], grams[1:] != grams[:-1]])
        matches[index], shared = _count(new, texts, corpus.lengths.size)
        grams = np.cumsum(new) - 1
        kept = shared[grams]
        starts, texts, grams = starts[kept], texts[kept], grams[kept]
    return matches


def _by_gram_and_text(grams: np.ndarray, texts: np.ndarray, count: int) -> np.ndarray:
    """The order of the occurrences by n-gram, and by text within an n-gram."""
    if int(grams.max()) >= _LARGEST_CODE // count:
        grams = np.unique(grams, return_inverse=True)[1]
    return np.argsort(grams * count + texts)


def _count(new: np.ndarray, texts: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Clipped matches of each text [n], and whether each n-gram stands in more than one text.

    Args:
        new: where, in the order of n-gram and text, another n-gram begins than the one before.
        texts: the text of each occurrence, in that order.
    """
    edges = new.copy()
    edges[1:] |= texts[1:] != texts[:-1]
    first = np.flatnonzero(edges)  # one entry per (n-gram, text)
    counts = np.diff(first, append=texts.size)
    begins = new[first]
    group = np.cumsum(begins) - 1
    heads = np.flatnonzero(begins)  # one per n-gram
    largest = np.maximum.reduceat(counts, heads)
    at_largest = np.flatnonzero(counts == largest[group])
    owned = group[at_largest]
    owner = at_largest[np.concatenate([[True], owned[1:] != owned[:-1]])]
    others = counts.copy()
    others[owner] = 0
    second = np.maximum.reduceat(others, heads)
    lost = np.bincount(texts[first[owner]], weights=largest - second, minlength=count).astype(np.int64)
    return np.bincount(texts, minlength=count) - lost, second > 0


def _closest_lengths(lengths: np.ndarray) -> np.ndarray:
    """[n] for each text the length of the other text closest to it, of two the shorter."""
    order = np.argsort(lengths, kind="stable")
    ranked = lengths[order]
    far = int(ranked[-1]) * 2 + 1  # farther than any neighbour, for the first and the last, which have one
    below = np.concatenate([[-far], ranked[:-1]])
    above = np.concatenate([ranked[1:], [ranked[-1] + far]])
    closest = np.empty_like(lengths)
    closest[order] = np.where(ranked - below <= above - ranked, below, above)
    return closest


def _bleu(matches: list[int], length: int, closest: int) -> float:
    if matches[0] == 0:
        return 0.0
    weight = 1 / len(matches)
    logs = [weight * math.log((matched or _EPSILON) / max(1, length - index)) for index, matched in enumerate(matches)]
    brevity = 1.0 if length > closest else math.exp(1 - closest / length)
    return brevity * math.exp(math.fsum(logs))
