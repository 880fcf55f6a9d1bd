"""What may stand in a value that is given to LSF: each check returns what is wrong with it, None where nothing is.

No value may begin with `-`, where a tool could take it for an option, and none may hold a control character, which ends
a line of a script or of an answer. A resource requirement (`-R`) is read as the manual of LSF 10.1 describes it:
sections `name[...]`, each at most once in a string, predicates joined by `&&` and `||`.
"""

import re
from collections.abc import Iterator, Sequence

from dfm.api.errors import RunnerError

SECTIONS = ("select", "order", "rusage", "span", "same", "cu", "affinity")
_QUEUE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:+-]*\Z")
_JOB_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
_HOST_CHOICE = re.compile(r"[A-Za-z0-9_~][A-Za-z0-9_.@!+-]*\Z")
_SECTION_NAME = re.compile(r"([A-Za-z_]+)\s*\Z")
_WRAPPED = re.compile(r"\s*select\s*\[(?P<predicate>[^\[\]]*)\]\s*\Z")
_USAGE = re.compile(r"rusage\s*\[(?P<usage>[^\[\]]*)\]")
_TOKENS = re.compile(r"\s*(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)\s*=\s*(?P<count>[0-9]+(?:\.[0-9]+)?)\s*\Z")
_OF_HOSTS = frozenset({"mem", "swp", "tmp", "ut", "pg", "io", "ls", "it", "r15s", "r1m", "r15m", "slots"})
"""What hosts have by themselves; all else that `rusage` names is shared, such as a licence."""
_CLOSERS = {")": "(", "]": "[", "}": "{"}
MAX_JOB_NAME = 511
"""Longest name of a job; LSF before 9 takes no more, later ones take 4094."""


def refuse(fault: str | None, *, what: str, hint: str) -> None:
    """Raise what a check found.

    Raises:
        RunnerError: `fault` is not None.
    """
    if fault is not None:
        raise RunnerError(f"{what}: {fault}", hint=hint)


def value_fault(text: str) -> str | None:
    """Check any value: not empty, nothing unprintable, no dash in front."""
    if not text.strip():
        return f"{text!r} is empty"
    if not text.isprintable():
        return f"{text!r} holds a character that cannot be printed"
    if text.lstrip().startswith("-"):
        return f"{text!r} begins with '-' and would be taken for an option"
    return None


def queue_fault(text: str) -> str | None:
    """Check a queue, or several with blanks between them, as `bsub -q` takes them."""
    if (fault := value_fault(text)) is not None:
        return fault
    return next((f"{name!r} is no name of a queue" for name in text.split() if not _QUEUE.match(name)), None)


def job_name_fault(text: str) -> str | None:
    """Check the name of a worker job: what LSF takes for more than a name, such as `[1-4]`, is refused."""
    if not _JOB_NAME.match(text):
        return f"{text!r} is no name of a worker job: letters, digits, '.', '-' and '_'"
    return f"{text!r} is longer than {MAX_JOB_NAME} characters" if len(text) > MAX_JOB_NAME else None


def host_fault(text: str) -> str | None:
    """Check the name of one host."""
    return None if _HOST.match(text) else f"{text!r} is no name of a host"


def host_choice_fault(text: str) -> str | None:
    """Check a word of `bsub -m`: a host, a group, `host+2`, `~host`, `others`."""
    return None if _HOST_CHOICE.match(text) else f"{text!r} is no host or group as bsub -m takes them"


def path_fault(text: str) -> str | None:
    """Check an absolute path."""
    if (fault := value_fault(text)) is not None:
        return fault
    return None if text.startswith("/") else f"{text!r} is not absolute"


def plain_predicate(text: str) -> str:
    """Return a predicate without the `select[...]` that a person may have put around it."""
    wrapped = _WRAPPED.match(text)
    return (wrapped["predicate"] if wrapped else text).strip()


def predicate_fault(text: str) -> str | None:
    """Check one predicate of a `select` section, such as `mem>4000` or `type==any || type==LINUX`."""
    predicate = plain_predicate(text)
    if (fault := value_fault(predicate)) is not None:
        return fault
    if any(bracket in predicate for bracket in "[]{}"):
        return f"{text!r} is no predicate: a section such as rusage[...] stands in resource_requirements"
    return _scan_fault(predicate)


def requirement_fault(text: str) -> str | None:
    """Check a whole string of `bsub -R`: balanced, each section known and there once."""
    if (fault := value_fault(text)) is not None:
        return fault
    if (fault := _scan_fault(text)) is not None:
        return fault
    names = list(_section_names(text))
    unknown = next((name for name in names if name not in SECTIONS), None)
    if unknown is not None:
        return f"{text!r}: '{unknown}' is no section of a resource requirement, those are {', '.join(SECTIONS)}"
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None and "{" not in text:
        return f"{text!r}: section '{twice}' stands there twice"
    return None


def held_tokens(requirements: Sequence[str]) -> dict[str, float]:
    """Return what `rusage` reserves of shared resources for the whole life of a job; with a `duration` it is less."""
    held: dict[str, float] = {}
    usages = [usage for text in requirements for match in _USAGE.finditer(text) for usage in match["usage"].split(",")]
    for usage in usages:
        parts = usage.split(":")
        if any(part.strip().startswith("duration") for part in parts):
            continue
        for token in map(_TOKENS.match, parts):
            if token is not None and token["name"] not in _OF_HOSTS:
                held[token["name"]] = held.get(token["name"], 0.0) + float(token["count"])
    return held


def _scan_fault(text: str) -> str | None:
    open_brackets: list[str] = []
    for character in _outside_quotes(text):
        if character in _CLOSERS.values():
            open_brackets.append(character)
        elif character in _CLOSERS and (not open_brackets or open_brackets.pop() != _CLOSERS[character]):
            return f"{text!r}: '{character}' closes nothing"
        elif character == "":
            return f"{text!r}: a quote is not closed"
    if open_brackets:
        return f"{text!r}: '{open_brackets[-1]}' is not closed"
    if re.search(r"(?<!&)&(?!&)|&&&|(?<!\|)\|(?!\|)|\|\|\|", text):
        return f"{text!r}: predicates are joined with && and ||"
    return None


def _outside_quotes(text: str) -> Iterator[str]:
    """Yield the characters outside quotes, and at last an empty text where a quote is open."""
    quote = ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            yield character
    if quote:
        yield ""


def _section_names(text: str) -> Iterator[str]:
    for match in re.finditer(r"\[", text):
        name = _SECTION_NAME.search(text, 0, match.start())
        yield name[1] if name else ""
