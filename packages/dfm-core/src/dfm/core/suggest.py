"""Did you mean ...?: the nearest of the words that would have been right."""

from collections.abc import Iterable

_QUESTION = "did you mean"
_NEAR = 0.6
_LONGEST_LIST = 2_000
"""Above this many candidates only those that share a first or last letter and a like length are compared."""


def did_you_mean(word: str, candidates: Iterable[str]) -> str | None:
    """Return "did you mean 'x'?" for the candidate nearest to `word`, None when none is near."""
    near = nearest(word, candidates)
    return None if near is None else f"{_QUESTION} {near!r}?"


def is_suggestion(hint: str | None) -> bool:
    """Whether a hint is one that `did_you_mean` gives."""
    return hint is not None and hint.startswith(_QUESTION)


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate nearest to `word`: the same but for case, one that ends in it, or one spelt alike."""
    unique = [candidate for candidate in dict.fromkeys(candidates) if candidate and candidate != word]
    lowered = word.lower()
    for candidate in unique:
        if candidate.lower() == lowered:
            return candidate
    ending = [candidate for candidate in unique if candidate.endswith(f".{word}")]
    if len(ending) == 1:
        return ending[0]
    if len(unique) > _LONGEST_LIST:
        unique = [c for c in unique if abs(len(c) - len(word)) <= 2 and (c[0] == word[:1] or c[-1] == word[-1:])]
    import difflib  # noqa: PLC0415  (only a mistake needs it)

    found = difflib.get_close_matches(word, unique, n=1, cutoff=_NEAR)
    return found[0] if found else None
