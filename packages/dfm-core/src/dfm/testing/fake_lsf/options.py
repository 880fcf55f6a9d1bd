"""Command lines as strictly as LSF reads them: an option that is not in the table means usage and 255."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dfm.testing.fake_lsf import texts
from dfm.testing.fake_lsf.config import Dialect

FLAG, VALUE = "flag", "value"


class UsageError(Exception):
    """A command line that the command refuses; the message is what it writes to stderr."""


@dataclass(slots=True)
class Parsed:
    """A command line, read.

    Attributes:
        flags: options without a value, as written.
        values: options with one, each with all its values in order.
        words: what is left; for bsub the command.
    """

    flags: set[str] = field(default_factory=set)
    values: dict[str, list[str]] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def last(self, option: str) -> str | None:
        """Return the value that counts, None without the option."""
        given = self.values.get(option)
        return given[-1] if given else None


_BSUB_FLAGS = ["-H", "-x", "-r", "-rn", "-B", "-N", "-h", "-V", "-I", "-Ip", "-Is", "-K", "-ti", "-XF", "-hl"]
_BSUB_VALUES = [
    "-q", "-n", "-R", "-M", "-W", "-We", "-c", "-o", "-oo", "-e", "-eo", "-i", "-is", "-J",
    "-P", "-G", "-app", "-sla", "-Lp", "-m", "-sp", "-b", "-t", "-w", "-cwd", "-E", "-Ep", "-L",
    "-u", "-env", "-D", "-C", "-F", "-S", "-v", "-p", "-T", "-wa", "-wt", "-g", "-a", "-k",
    "-f", "-U", "-pack", "-ext", "-gpu", "-Jd",
]  # fmt: skip
_QUERY = {"-J": VALUE, "-q": VALUE, "-u": VALUE, "-m": VALUE, "-h": FLAG, "-V": FLAG}
OPTIONS: dict[str, dict[str, str]] = {
    "bsub": {**dict.fromkeys(_BSUB_FLAGS, FLAG), **dict.fromkeys(_BSUB_VALUES, VALUE)},
    "bjobs": {
        **_QUERY,
        **dict.fromkeys(["-a", "-d", "-p", "-s", "-r", "-w", "-l", "-A", "-W", "-x", "-X", "-UF", "-noheader"], FLAG),
        **dict.fromkeys(["-o", "-P", "-G", "-app", "-sla", "-g", "-Lp"], VALUE),
        "-json": FLAG,
    },
    "bkill": {**_QUERY, "-s": VALUE, "-g": VALUE, "-app": VALUE, "-r": FLAG, "-b": FLAG, "-d": FLAG},
    "bstop": {**_QUERY, "-a": FLAG, "-d": FLAG, "-g": VALUE},
    "bresume": {**_QUERY, "-g": VALUE},
    "brequeue": {**_QUERY, "-d": FLAG, "-e": FLAG, "-r": FLAG, "-a": FLAG, "-H": FLAG, "-p": FLAG},
    "bhist": {
        **_QUERY,
        **dict.fromkeys(["-a", "-b", "-d", "-e", "-l", "-p", "-r", "-s", "-w"], FLAG),
        **dict.fromkeys(["-n", "-f", "-P", "-C", "-D", "-S", "-T"], VALUE),
    },
    "bacct": {**_QUERY, "-d": FLAG, "-e": FLAG, "-l": FLAG, "-w": FLAG, "-f": VALUE, "-C": VALUE, "-P": VALUE},
    "bpeek": {**_QUERY, "-f": FLAG},
    "bhosts": {"-w": FLAG, "-l": FLAG, "-a": FLAG, "-h": FLAG, "-V": FLAG, "-R": VALUE},
    "bqueues": {"-w": FLAG, "-l": FLAG, "-r": FLAG, "-h": FLAG, "-V": FLAG, "-m": VALUE, "-u": VALUE},
    "busers": {"-w": FLAG, "-h": FLAG, "-V": FLAG},
    "bparams": {"-l": FLAG, "-a": FLAG, "-h": FLAG, "-V": FLAG},
    "badmin": {"-h": FLAG, "-V": FLAG},
    "lsadmin": {"-h": FLAG, "-V": FLAG},
    "lsid": {"-h": FLAG, "-V": FLAG},
    "lsclusters": {"-w": FLAG, "-h": FLAG, "-V": FLAG},
}
LACKING: Mapping[str, dict[str, list[str]]] = {
    "ibm9": {"bjobs": ["-json"], "bsub": ["-gpu", "-env"]},
    "volclava": {
        "bsub": ["-cwd", "-G", "-app", "-env", "-rn", "-gpu", "-Lp", "-sla"],
        "bjobs": ["-noheader", "-app", "-G", "-Lp"],
        "bparams": ["-a"],
    },
}


def parse(command: str, words: Sequence[str], dialect: Dialect) -> Parsed:
    """Read a command line.

    Raises:
        UsageError: an unknown option, or one whose value is missing.
    """
    known = dict(OPTIONS[command])
    for option in LACKING.get(dialect, {}).get(command, []):
        known.pop(option, None)
    parsed = Parsed()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            parsed.words.append(word)
            if command == "bsub":
                parsed.words += rest
                break
            continue
        for option in _expand(word, known, command):
            _take(parsed, option, known[option], rest, command)
    return parsed


def _expand(word: str, known: Mapping[str, str], command: str) -> list[str]:
    """Return the options of a word: itself, or, except for bsub, several of one letter each such as `-aJ`."""
    if word in known:
        return [word]
    letters = [f"-{letter}" for letter in word[1:]]
    flags_then_any = all(known.get(letter) == FLAG for letter in letters[:-1]) and letters[-1] in known
    if command != "bsub" and len(letters) > 1 and flags_then_any:
        return letters
    raise UsageError(usage(command, texts.UNKNOWN_OPTION.format(command=command, option=word)))


def _take(parsed: Parsed, option: str, kind: str, rest: list[str], command: str) -> None:
    if kind == FLAG:
        parsed.flags.add(option)
        return
    if not rest:
        raise UsageError(usage(command, texts.OPTION_NEEDS_VALUE.format(command=command, option=option)))
    parsed.values.setdefault(option, []).append(rest.pop(0))


def usage(command: str, fault: str = "") -> str:
    """Return the usage text of a command, after the fault if there is one."""
    return "\n".join(part for part in (fault, texts.USAGE[command]) if part)


def split_words(line: str) -> list[str]:
    """Split a line of a pack file.

    Raises:
        UsageError: its quotes are out of balance.
    """
    try:
        return shlex.split(line)
    except ValueError as fault:
        raise UsageError(str(fault)) from fault
