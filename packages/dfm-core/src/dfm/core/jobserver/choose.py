"""Whose jobserver a run uses: with `-j`, or without a parent's, our own; else the parent's."""

import os
from collections.abc import Mapping

from dfm.core.jobserver.client import JobserverUnavailableError, TokenClient, open_ends
from dfm.core.jobserver.owner import TokenServer
from dfm.core.jobserver.protocol import parse_auth
from dfm.core.jobserver.tokens import TokenSource


def token_source(
    jobs: int | None, environ: Mapping[str, str], default_jobs: int, name: str = ""
) -> tuple[TokenSource, str | None]:
    """Return the source of tokens, and a notice for the person where the answer may surprise.

    Args:
        jobs: the `-j` of the command line.
        environ: whose MAKEFLAGS may name a parent's jobserver.
        default_jobs: what to use where neither `-j` nor a parent says.
        name: of the run, for what the server makes on disk.
    """
    makeflags = environ.get("MAKEFLAGS", "")
    auths = parse_auth(makeflags)
    if jobs is not None:
        return TokenServer(jobs, name), f"-j{jobs} given: the jobserver around this run is not used" if auths else None
    problem = None
    for auth in auths:
        try:
            ends = open_ends(auth)
        except JobserverUnavailableError as error:
            problem = problem or str(error)
            continue
        for fd in ends:
            os.close(fd)
        return TokenClient(auth, makeflags), None
    if problem is not None:
        return TokenServer(1, name), f"{problem}; running one thing at a time (put `+` before the recipe's command)"
    return TokenServer(default_jobs, name), None
