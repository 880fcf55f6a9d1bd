"""Resource requirement strings (`-R`): a strict reader, and what the scheduler takes from them.

Rules from the manual, with LSF_STRICT_RESREQ=Y: sections `select[] order[] rusage[] span[] same[] cu[] affinity[]`,
each at most once in a string; what stands before the first section counts as select; `&&`, `||`, `==`, no single `&`;
names that hold a `-` are quoted.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dfm.testing.fake_lsf import texts

Value = float | str | bool
SECTIONS = ("select", "order", "rusage", "span", "same", "cu", "affinity")
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)(?P<suffix>[KMGT]B?\b)?|(?P<name>[A-Za-z_][\w.]*)|(?P<quote>'[^']*'|\"[^\"]*\")"
    r"|(?P<operator>&&|\|\||==|!=|<=|>=|[<>()!+*/-]))"
)
_RUSAGE = re.compile(
    r"\s*(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<amount>\d+(?:\.\d+)?)(?P<suffix>[KMGT]B?)?(?:/(?P<per>host|job|task))?\s*"
)
_SECTION = re.compile(r"\s*(?P<name>[A-Za-z]+)\s*\[")
MEGABYTES = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0 * 1024}


class ResreqError(Exception):
    """A string that LSF would refuse, with LSF's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One resource that is taken.

    Attributes:
        megabytes_given: whether the amount came with a unit and is in MB by now.
        duration_minutes: when it is given back; None is at the end of the job.
    """

    name: str
    amount: float
    megabytes_given: bool = False
    per: str = ""
    duration_minutes: float | None = None


@dataclass(slots=True, kw_only=True)
class Resreq:
    """What all `-R` strings of a job ask for together."""

    selects: list[str] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)
    single_host: bool = False
    tasks_per_host: int | None = None


def parse(strings: list[str], *, allows_suffix: bool) -> Resreq:
    """Read the strings of a submission, in order.

    Raises:
        ResreqError: a string is not one.
    """
    wanted = Resreq()
    for text in strings:
        for section, content in _sections(text):
            _take(wanted, section, content, allows_suffix=allows_suffix)
    return wanted


def matches(select: str, attributes: Mapping[str, Value]) -> bool:
    """Tell whether a host with these attributes satisfies a select section."""
    return bool(_Select(select, attributes).value())


def _sections(text: str) -> list[tuple[str, str]]:
    if not text.strip():
        raise ResreqError(texts.BAD_RESREQ)
    found: list[tuple[str, str]] = []
    rest = text.strip()
    while rest:
        match = _SECTION.match(rest)
        if match is None or match["name"] not in SECTIONS:
            if found:
                raise ResreqError(texts.BAD_RESREQ)
            bare, rest = _split_bare(rest)
            found.append(("select", bare))
            continue
        name = match["name"]
        if name in [section for section, _ in found]:
            raise ResreqError(texts.DUPLICATE_SECTION.format(section=name))
        content, rest = _split_bracket(rest[match.end() :])
        found.append((name, content))
    return found


def _split_bare(text: str) -> tuple[str, str]:
    starts = [match.start() for name in SECTIONS for match in re.finditer(rf"\b{name}\s*\[", text)]
    end = min(starts, default=len(text))
    bare = text[:end].strip()
    if "[" in bare or "]" in bare:
        raise ResreqError(texts.BAD_RESREQ)
    return bare, text[end:].strip()


def _split_bracket(text: str) -> tuple[str, str]:
    end = text.find("]")
    if end < 0 or "[" in text[:end]:
        raise ResreqError(texts.BAD_RESREQ)
    return text[:end].strip(), text[end + 1 :].strip()


def _take(wanted: Resreq, section: str, content: str, *, allows_suffix: bool) -> None:
    if re.search(r"(?<!&)&(?!&)", content):
        raise ResreqError(texts.AMPERSAND_ALONE)
    if not content:
        raise ResreqError(texts.ERROR_IN_SELECT if section == "select" else texts.BAD_RESREQ)
    match section:
        case "select":
            _Select(content, None, allows_suffix=allows_suffix).value()
            wanted.selects.append(content)
        case "rusage":
            wanted.usages += _usages(content, allows_suffix=allows_suffix)
        case "span":
            _span(wanted, content)
        case _:
            if "'" in content or '"' in content:
                raise ResreqError(texts.BAD_RESREQ)


def _span(wanted: Resreq, content: str) -> None:
    match = re.fullmatch(r"(hosts|ptile)\s*=\s*(\d+)", content)
    if match is None or (match[1] == "hosts" and match[2] != "1") or match[2] == "0":
        raise ResreqError(texts.BAD_RESREQ)
    if match[1] == "hosts":
        wanted.single_host = True
    else:
        wanted.tasks_per_host = int(match[2])


def _usages(content: str, *, allows_suffix: bool) -> list[Usage]:
    usages: list[Usage] = []
    for part in re.split(r"[,:]", content):
        match = _RUSAGE.fullmatch(part)
        if match is None or (match["suffix"] and not allows_suffix):
            raise ResreqError(texts.ERROR_IN_RUSAGE)
        name, amount = match["name"], float(match["amount"])
        if name in {"duration", "decay"}:
            if not usages:
                raise ResreqError(texts.ERROR_IN_RUSAGE)
            if name == "duration":
                last = usages.pop()
                usages.append(Usage(name=last.name, amount=last.amount, per=last.per, duration_minutes=amount))
            continue
        factor = MEGABYTES[match["suffix"][0]] if match["suffix"] else 1.0
        usages.append(
            Usage(name=name, amount=amount * factor, megabytes_given=bool(match["suffix"]), per=match["per"] or "")
        )
    return usages


class _Select:
    """A recursive descent over one select section; without attributes it only checks the syntax."""

    def __init__(self, text: str, attributes: Mapping[str, Value] | None, *, allows_suffix: bool = True) -> None:
        self._attributes = attributes
        self._tokens = _tokens(text, allows_suffix=allows_suffix)
        self._next = 0

    def value(self) -> Value:
        value = self._either()
        if self._next < len(self._tokens):
            raise ResreqError(texts.ERROR_IN_SELECT)
        return value

    def _either(self) -> Value:
        value = self._both()
        while self._accept("||"):
            right = self._both()
            value = bool(value) or bool(right)
        return value

    def _both(self) -> Value:
        value = self._comparison()
        while self._accept("&&"):
            right = self._comparison()
            value = bool(value) and bool(right)
        return value

    def _comparison(self) -> Value:
        left = self._sum()
        for operator, holds in _COMPARISONS.items():
            if self._accept(operator):
                right = self._sum()
                if isinstance(left, str) or isinstance(right, str):
                    return holds(str(left), str(right))
                return holds(left, right)
        return left

    def _sum(self) -> Value:
        value = self._product()
        while (sign := self._accept("+", "-")) is not None:
            right = _number(self._product())
            value = _number(value) + (right if sign == "+" else -right)
        return value

    def _product(self) -> Value:
        value = self._atom()
        while (sign := self._accept("*", "/")) is not None:
            right = _number(self._atom())
            value = _number(value) * (right if sign == "*" else 1 / right if right else 0)
        return value

    def _atom(self) -> Value:
        if self._accept("!"):
            return not self._atom()
        if self._accept("("):
            value = self._either()
            if not self._accept(")"):
                raise ResreqError(texts.ERROR_IN_SELECT)
            return value
        kind, text = self._tokens[self._next] if self._next < len(self._tokens) else ("end", "")
        self._next += 1
        if kind == "number":
            return float(text)
        if kind == "quote":
            return text[1:-1]
        if kind == "name":
            return self._call() if self._accept("(") else self._named(text)
        raise ResreqError(texts.ERROR_IN_SELECT)

    def _call(self) -> Value:
        value = self._either()
        if not self._accept(")"):
            raise ResreqError(texts.ERROR_IN_SELECT)
        return value

    def _named(self, name: str) -> Value:
        if self._attributes is None:
            return 0.0
        if self._next >= 2 and self._tokens[self._next - 2][1] in {"==", "!="}:
            return self._attributes.get(name, name)
        return self._attributes.get(name, False)

    def _accept(self, *operators: str) -> str | None:
        if self._next < len(self._tokens) and self._tokens[self._next] in [("operator", each) for each in operators]:
            self._next += 1
            return self._tokens[self._next - 1][1]
        return None


_COMPARISONS: dict[str, Callable[..., bool]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<=": lambda left, right: left <= right,
    ">=": lambda left, right: left >= right,
    "<": lambda left, right: left < right,
    ">": lambda left, right: left > right,
}


def _tokens(text: str, *, allows_suffix: bool) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ResreqError(texts.BAD_RESREQ if text[at:].strip()[:1] in "'\"" else texts.ERROR_IN_SELECT)
        at = match.end()
        if match["number"] is not None:
            if match["suffix"] and not allows_suffix:
                raise ResreqError(texts.BAD_RESREQ)
            factor = MEGABYTES[match["suffix"][0]] if match["suffix"] else 1
            tokens.append(("number", str(float(match["number"]) * factor)))
        else:
            kind = match.lastgroup
            assert kind is not None
            tokens.append((kind, match[kind]))
    return tokens


def _number(value: Value) -> float:
    return 0.0 if isinstance(value, str) else float(value)
