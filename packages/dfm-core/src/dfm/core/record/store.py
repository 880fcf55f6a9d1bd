"""Records on disk: an intent before a task's first side effect, an exec record after its last, in one file.

The file is one line: a JSON object with the intent, a checksum over both, and the record that completes the intent. A
task that never ran gets the line's beginning as its intent, and the rest when it has ended. One that has a record gets
its next intent as the beginning of a second line, so that the record can still be read; then the whole file is written
anew beside it and renamed. Nothing but one whole line whose checksum is right counts: whatever dies in between costs a
rerun, whatever is torn is no record. Nothing is fsynced: after a power loss a record may be missing or torn, and then
counts as absent; outputs that did not reach the disk have another size or content than their stamps say.
"""

import contextlib
import hashlib
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from dfm.api.errors import InfrastructureError
from dfm.api.items import Item
from dfm.api.runner import TaskResult
from dfm.core.crashpoint import crash_point
from dfm.core.record.cache import cache_key, moved_paths
from dfm.core.record.fingerprint import Fingerprint, TaskFacts, files_of, take
from dfm.core.record.index import Entry, RecordIndex, Signature, signature_of
from dfm.core.record.stamps import RECORD_NAME, Stamp, Stamper
from dfm.core.record.uptodate import Assessment, Reason, differences

SCHEMA = 1


class MissingOutputsError(Exception):
    """The task's items name files that do not exist."""

    def __init__(self, paths: Sequence[str]) -> None:
        super().__init__(", ".join(paths))
        self.paths = paths


class Command(msgspec.Struct, frozen=True):
    """A command a task ran, with its exit status."""

    cmd: str
    status: int


class ExecRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One finished run of a task, as it is kept in `<task>.exec_data.json`.

    Attributes:
        intent: id of the intent it completes.
        outputs: the task's own items.
        output_stamps: the files they name, by absolute path.
        makes_tasks: whether its body asked for tasks, of which this record knows nothing.
        seconds: wall-clock duration of the body.
        resource_class: the class whose resources the last attempt had, None where the task names none.
    """

    schema: int
    name: str
    run_id: str
    attempt: int
    intent: str
    rundir: str
    srcdir: str
    logfile: str | None
    fingerprint: Fingerprint
    params: dict[str, Any]
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    output_stamps: dict[str, Stamp]
    memento: Any
    markers: list[dict[str, Any]]
    commands: list[Command]
    status: int
    outcome: str
    changed: bool
    cause: str | None
    host: str
    started_at: str
    seconds: float
    cpu_seconds: float
    max_rss_bytes: int
    resource_class: str | None
    makes_tasks: bool = False


class _Sealed(msgspec.Struct):
    intent: msgspec.Raw
    checksum: str
    record: msgspec.Raw


class Intent(msgspec.Struct, frozen=True):
    """What was about to be done."""

    id: str
    task: str
    run_id: str
    attempt: int
    digest: str


class Begun(msgspec.Struct, frozen=True):
    """An intent that is written, with what its record will need.

    Attributes:
        content: the JSON of the intent.
        is_first: whether there is no record yet that must stand until the new one does.
    """

    intent: Intent
    content: bytes
    is_first: bool
    fingerprint: Fingerprint
    rundir: str
    artefact: str


_SHAPE = f"{SCHEMA}:{','.join(ExecRecord.__struct_fields__)}"
"""Changes when records get other fields."""
_START = b'{"intent":'
_INTERRUPTED = Reason("interrupted", "the last run was interrupted")
_encode = msgspec.json.Encoder(enc_hook=str).encode
_decode_sealed = msgspec.json.Decoder(_Sealed).decode
_decode_record = msgspec.json.Decoder(ExecRecord).decode
_decode_intent = msgspec.json.Decoder(Intent).decode


class _Found(msgspec.Struct, frozen=True):
    """What a task's file holds.

    Attributes:
        record: the last one that was finished.
        problem: why it is not the task's last run, or why there is none.
    """

    record: ExecRecord | None
    problem: Reason | None = None


class RecordStore:
    """The records of one run, and what was seen of files in it.

    Args:
        root: the root run directory, whose index is used; None uses none.
        is_read_only: whether the index is left as it is.
    """

    def __init__(self, root: str | None = None, *, is_read_only: bool = False) -> None:
        self._stamper = Stamper()
        self._index = None if root is None else RecordIndex(root, _SHAPE, is_read_only=is_read_only)
        self._intents = itertools.count()

    def save_index(self) -> None:
        """Write down what the next run need not read again."""
        if self._index is not None:
            self._index.save()

    def load(self, rundir: str, artefact: str) -> ExecRecord | None:
        """Return the record of the last finished run, None where there is none that can be trusted."""
        return self._look(rundir, artefact).record

    def _look(self, rundir: str, artefact: str) -> _Found:
        path = _record_path(rundir, artefact)
        entry = None if self._index is None else self._index.find(path)
        if entry is not None:
            return _Found(_decode_record(entry.record))
        found, content, file = _load(path)
        if self._index is not None and file is not None and found.problem is None:
            self._index.add(path, Entry(file, content))
        return found

    def assess(self, facts: TaskFacts, *, rundir: str, artefact: str) -> Assessment[ExecRecord]:
        """Say whether the task's last result still stands, and if not, all that speaks against it."""
        found = self._look(rundir, artefact)
        record = found.record
        fingerprint = take(facts, self._stamper, None if record is None else record.fingerprint)
        reasons = [] if found.problem is None else [found.problem]
        if record is None:
            return Assessment(fingerprint, None, tuple(reasons))
        if not reasons and record.outcome != "succeeded":
            reasons.append(Reason("failed", f"the last run failed ({record.cause or f'status {record.status}'})"))
        if fingerprint.digest != record.fingerprint.digest:
            reasons += differences(record.fingerprint, fingerprint)
        if not reasons:
            reasons += self._moved_outputs(record)
        if record.makes_tasks:
            reasons.append(Reason("makes-tasks", "it makes tasks while it runs, and they are looked at anew"))
        return Assessment(fingerprint, record, tuple(reasons))

    def begin(
        self,
        assessment: Assessment[ExecRecord],
        *,
        rundir: str,
        artefact: str,
        task: str,
        run_id: str,
        attempt: int,
    ) -> Begun:
        """Write the intent; nothing of the task may happen before this returns.

        Raises:
            InfrastructureError: it cannot be written.
        """
        crash_point("record.intent.before")
        path = _record_path(rundir, artefact)
        if self._index is not None:
            self._index.forget(path)
        intent = Intent(f"{run_id}-{next(self._intents)}", task, run_id, attempt, assessment.fingerprint.digest)
        begun = Begun(intent, _encode(intent), assessment.record is None, assessment.fingerprint, rundir, artefact)
        try:
            _write_file(path, _START + begun.content, os.O_TRUNC if begun.is_first else os.O_APPEND)
        except OSError as error:
            raise InfrastructureError(f"cannot write {path}: {error.strerror}") from error
        crash_point("record.intent.written")
        return begun

    def commit(
        self,
        begun: Begun,
        *,
        params: Mapping[str, object],
        inputs: Sequence[Item],
        outputs: Sequence[Item],
        srcdir: str,
        logfile: str | None,
        result: TaskResult,
        makes_tasks: bool = False,
    ) -> ExecRecord:
        """Look at the outputs and write the record.

        Raises:
            MissingOutputsError: a file that the outputs name does not exist; nothing is written.
            InfrastructureError: the record cannot be written; the one before stays.
        """
        crash_point("record.commit.before_stamps")
        stamps = self._output_stamps(outputs, begun.rundir)
        crash_point("record.commit.after_stamps")
        record = ExecRecord(
            schema=SCHEMA,
            name=begun.intent.task,
            run_id=begun.intent.run_id,
            attempt=begun.intent.attempt,
            intent=begun.intent.id,
            rundir=begun.rundir,
            srcdir=srcdir,
            logfile=logfile,
            fingerprint=begun.fingerprint,
            params=dict(params),
            inputs=list(inputs),
            outputs=list(outputs),
            output_stamps=stamps,
            memento=result.memento,
            markers=[msgspec.to_builtins(marker) for marker in result.markers],
            commands=[Command(item.cmd, item.status) for item in result.commands],
            status=result.status,
            outcome=str(result.outcome),
            changed=result.changed,
            cause=result.cause,
            host=result.host,
            started_at=result.started_at,
            seconds=result.seconds,
            cpu_seconds=result.cpu_seconds,
            max_rss_bytes=result.max_rss_bytes,
            makes_tasks=makes_tasks,
            resource_class=result.resource_class,
        )
        content = _encode(record)
        path = _record_path(begun.rundir, begun.artefact)
        file = _write_record(path, begun, content)
        if self._index is not None:
            self._index.add(path, Entry(file, content))
        return record

    def portable_key(self, facts: TaskFacts, fingerprint: Fingerprint, roots: Iterable[str], added: object) -> str:
        """Return the key under which an action cache has the result of these facts."""
        return cache_key(facts, fingerprint, roots, added, self._stamper)

    def moved_inputs(self, facts: TaskFacts, fingerprint: Fingerprint) -> list[Reason]:
        """Return what of a task's inputs is no more as it was when its fingerprint was taken."""
        now = take(facts, Stamper(), fingerprint)
        return [] if now.digest == fingerprint.digest else differences(fingerprint, now)

    def finished_elsewhere(self, root: str, relative: str, artefact: str) -> list[Item] | None:
        """Return the outputs of a task that ended well in another root run directory, as they are there.

        Args:
            root: the other root run directory, which may have been moved or copied since.
            relative: the task's own inside it.
            artefact: the task's name.
        """
        rundir = os.path.join(root, relative) if relative else root
        record = self.load(rundir, artefact)
        if record is None or record.outcome != "succeeded":
            return None
        before = record.rundir.removesuffix(f"/{relative}") if relative else record.rundir
        outputs: list[Item] = moved_paths(record.outputs, before, root)
        return outputs if all(os.path.exists(path) for item in outputs for path in files_of(item)) else None

    def make_directory(self, path: str) -> None:
        """Make a run directory.

        Raises:
            InfrastructureError: it cannot be made.
        """
        try:
            try:
                os.mkdir(path)
            except (FileExistsError, FileNotFoundError):
                os.makedirs(path, exist_ok=True)
        except OSError as error:
            raise InfrastructureError(f"cannot make the directory {path}: {error.strerror}") from error

    def _output_stamps(self, outputs: Sequence[Item], rundir: str) -> dict[str, Stamp]:
        stamps = {path: self._stamper.fresh(path) for item in outputs for path in files_of(item, rundir)}
        missing = [path for path, stamp in stamps.items() if stamp.digest is None]
        if missing:
            raise MissingOutputsError(missing)
        return stamps

    def _moved_outputs(self, record: ExecRecord) -> list[Reason]:
        reasons = []
        for path, stamp in record.output_stamps.items():
            now = self._stamper.stamp(path, stamp)
            if now.digest != stamp.digest:
                what = "is missing" if now.digest is None else "was modified"
                reasons.append(Reason("output", f"output {os.path.basename(path)} {what}"))
        return reasons


def _record_path(rundir: str, artefact: str) -> str:
    return f"{rundir}/{artefact}.{RECORD_NAME}" if artefact else f"{rundir}/{RECORD_NAME}"


def _load(path: str) -> tuple[_Found, bytes, Signature | None]:
    """Return what a task's file holds, the JSON of its record, and the signature of the file that was read."""
    try:
        content, file = _read(path)
    except FileNotFoundError:
        return _Found(None, Reason("never", "it has never run")), b"", None
    except OSError as error:
        return _Found(None, Reason("unreadable", f"its record cannot be read: {error.strerror}")), b"", None
    line, end, begun = content.partition(b"\n")
    if not end:
        return _Found(None, _INTERRUPTED), b"", None
    try:
        sealed = _decode_sealed(line)
        if _checksum(sealed.intent, sealed.record) != sealed.checksum:
            return _Found(None, Reason("unreadable", "its record is damaged")), b"", None
        record = _decode_record(sealed.record)
        is_complete = not begun and _decode_intent(sealed.intent).id == record.intent
        return _Found(record, None if is_complete else _INTERRUPTED), bytes(sealed.record), file
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Found(None, Reason("unreadable", "its record is damaged or of another version")), b"", None


def _read(path: str) -> tuple[bytes, Signature]:
    """Return the content of a file with the signature it had before it was read."""
    with open(path, "rb", buffering=0) as file:
        before = signature_of(os.fstat(file.fileno()))
        return file.readall(), before


def _checksum(intent: bytes | msgspec.Raw, record: bytes | msgspec.Raw) -> str:
    whole = hashlib.sha256(intent)
    whole.update(record)
    return whole.hexdigest()


def _write_record(path: str, begun: Begun, record: bytes) -> Signature:
    """Complete the intent, and return the signature of the file."""
    rest = b',"checksum":"%s","record":%s}\n' % (_checksum(begun.content, record).encode(), record)
    try:
        file = _append(path, rest, len(_START) + len(begun.content)) if begun.is_first else None
        if file is None:
            file = _replace(path, _START + begun.content + rest)
    except OSError as error:
        raise InfrastructureError(f"cannot write {path}: {error.strerror}") from error
    crash_point("record.commit.written")
    return file


def _append(path: str, content: bytes, size: int) -> Signature | None:
    """Append to a file of a size, and return its signature; None where the task made something else of it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if os.fstat(descriptor).st_size != size:
            return None
        crash_point("record.commit.opened")
        _write_whole(descriptor, content)
        return signature_of(os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _replace(path: str, content: bytes) -> Signature:
    temporary = f"{path}.tmp"
    try:
        _write_file(temporary, content, os.O_TRUNC)
        crash_point("record.commit.temporary")
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return signature_of(os.stat(path))


def _write_file(path: str, content: bytes, how: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | how, 0o666)
    try:
        crash_point("record.file.opened")
        _write_whole(descriptor, content)
    finally:
        os.close(descriptor)


def _write_whole(descriptor: int, content: bytes) -> None:
    written = os.write(descriptor, content)
    while written < len(content):
        written += os.write(descriptor, content[written:])
