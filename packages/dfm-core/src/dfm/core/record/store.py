"""Records on disk: an intent before a task's first side effect, an exec record after its last.

Both lie in the task's run directory and carry the same id. A record counts only if its checksum is right and if the
last intent has the same id: whatever dies in between costs a rerun. A record is written to a temporary file and
renamed, so that the one before stands until the new one does. An intent is written in place: a piece of one is no
intent, and makes the record beside it incomplete, which is what an intent is for. Nothing is fsynced: after a power
loss a record may be missing or torn, and then counts as absent; outputs that did not reach the disk have another size
or content than their stamps say.
"""

import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from dfm.api.errors import InfrastructureError
from dfm.api.items import Item
from dfm.api.runner import TaskResult
from dfm.core.crashpoint import crash_point
from dfm.core.record.cache import cache_key, moved_paths
from dfm.core.record.fingerprint import Fingerprint, TaskFacts, files_of, take
from dfm.core.record.index import Entry, RecordIndex, Signature, signature, signature_of
from dfm.core.record.stamps import Stamp, Stamper
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


class _Sealed(msgspec.Struct):
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
    """An intent that is written, with what its record will need."""

    intent: Intent
    fingerprint: Fingerprint
    rundir: str
    artefact: str


_SHAPE = f"{SCHEMA}:{','.join(ExecRecord.__struct_fields__)}"
"""Changes when records get other fields."""
_encode = msgspec.json.Encoder(enc_hook=str).encode
_decode_sealed = msgspec.json.Decoder(_Sealed).decode
_decode_record = msgspec.json.Decoder(ExecRecord).decode
_decode_intent = msgspec.json.Decoder(Intent).decode


class RecordStore:
    """The records of one run, and what was seen of files in it.

    Args:
        root: the root run directory, whose index is used; None uses none.
    """

    def __init__(self, root: str | None = None) -> None:
        self._stamper = Stamper()
        self._made: set[str] = set()
        self._index = None if root is None else RecordIndex(root, _SHAPE)

    def save_index(self) -> None:
        """Write down what the next run need not read again."""
        if self._index is not None:
            self._index.save()

    def load(self, rundir: str, artefact: str) -> ExecRecord | None:
        """Return the record of the last finished run, None where there is none that can be trusted."""
        record = self._look(rundir, artefact)[0]
        return record if isinstance(record, ExecRecord) else None

    def _look(self, rundir: str, artefact: str) -> tuple[ExecRecord | Reason | None, Intent | str | None]:
        """Return a task's record, or what is wrong with it, and its intent or the id of that."""
        record_path, intent_path = _record_path(rundir, artefact), _intent_path(rundir, artefact)
        entry = None if self._index is None else self._index.find(record_path, intent_path)
        if entry is not None:
            return _decode_record(entry.record), entry.intent
        (record, content, record_file), (intent, intent_file) = _load(record_path), _load_intent(intent_path)
        if self._index is not None and isinstance(record, ExecRecord) and intent and record_file and intent_file:
            self._index.add(record_path, Entry(record_file, intent_file, intent.id, content))
        return record, intent

    def assess(self, facts: TaskFacts, *, rundir: str, artefact: str) -> Assessment[ExecRecord]:
        """Say whether the task's last result still stands, and if not, all that speaks against it."""
        loaded, intent = self._look(rundir, artefact)
        record = loaded if isinstance(loaded, ExecRecord) else None
        known = {} if record is None else record.fingerprint.files
        fingerprint = take(facts, self._stamper, known)
        if record is None:
            reason = loaded if isinstance(loaded, Reason) else _never(intent)
            return Assessment(fingerprint, None, (reason,))
        reasons: list[Reason] = []
        if (intent.id if isinstance(intent, Intent) else intent) != record.intent:
            reasons.append(Reason("interrupted", "the last run was interrupted"))
        elif record.outcome != "succeeded":
            reasons.append(Reason("failed", f"the last run failed ({record.cause or f'status {record.status}'})"))
        if fingerprint.digest != record.fingerprint.digest:
            reasons += differences(record.fingerprint, fingerprint)
        if not reasons:
            reasons += self._moved_outputs(record)
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
        if self._index is not None:
            self._index.forget(_record_path(rundir, artefact))
        intent = Intent(uuid.uuid4().hex, task, run_id, attempt, assessment.fingerprint.digest)
        _write_intent(_intent_path(rundir, artefact), _encode(intent))
        return Begun(intent, assessment.fingerprint, rundir, artefact)

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
            resource_class=result.resource_class,
        )
        content = _encode(record)
        checksum = hashlib.sha256(content).hexdigest()
        path = _record_path(begun.rundir, begun.artefact)
        _write_record(path, b'{"checksum":"%s","record":%s}\n' % (checksum.encode(), content))
        self._add_to_index(begun, path, content)
        return record

    def _add_to_index(self, begun: Begun, path: str, content: bytes) -> None:
        if self._index is None:
            return
        record_file, intent_file = signature(path), signature(_intent_path(begun.rundir, begun.artefact))
        if record_file is not None and intent_file is not None:
            self._index.add(path, Entry(record_file, intent_file, begun.intent.id, content))

    def portable_key(self, facts: TaskFacts, fingerprint: Fingerprint, roots: Iterable[str], added: object) -> str:
        """Return the key under which an action cache has the result of these facts."""
        return cache_key(facts, fingerprint, roots, added, self._stamper)

    def moved_inputs(self, facts: TaskFacts, fingerprint: Fingerprint) -> list[Reason]:
        """Return what of a task's inputs is no more as it was when its fingerprint was taken."""
        now = take(facts, Stamper(), fingerprint.files)
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
        if path in self._made:
            return
        try:
            try:
                os.mkdir(path)
            except (FileExistsError, FileNotFoundError):
                os.makedirs(path, exist_ok=True)
        except OSError as error:
            raise InfrastructureError(f"cannot make the directory {path}: {error.strerror}") from error
        self._made.add(path)

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


def _never(intent: Intent | str | None) -> Reason:
    if intent is None:
        return Reason("never", "it has never run")
    return Reason("interrupted", "the last run was interrupted")


def _record_path(rundir: str, artefact: str) -> str:
    return os.path.join(rundir, f"{artefact}.exec_data.json")


def _intent_path(rundir: str, artefact: str) -> str:
    return os.path.join(rundir, f"{artefact}.intent.json")


def _load(path: str) -> tuple[ExecRecord | Reason | None, bytes, Signature | None]:
    """Return the record of a file, or what is wrong with it; its JSON; and the signature of the file that was read."""
    try:
        content, file = _read(path)
    except FileNotFoundError:
        return None, b"", None
    except OSError as error:
        return Reason("unreadable", f"its record cannot be read: {error.strerror}"), b"", None
    try:
        sealed = _decode_sealed(content)
        if hashlib.sha256(sealed.record).hexdigest() != sealed.checksum:
            return Reason("unreadable", "its record is damaged"), b"", None
        return _decode_record(sealed.record), bytes(sealed.record), file
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Reason("unreadable", "its record is damaged or of another version"), b"", None


def _load_intent(path: str) -> tuple[Intent | None, Signature | None]:
    try:
        content, file = _read(path)
        return _decode_intent(content), file
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None, None


def _read(path: str) -> tuple[bytes, Signature]:
    """Return the content of a file with the signature it had before it was read."""
    with open(path, "rb", buffering=0) as file:
        before = signature_of(os.fstat(file.fileno()))
        return file.readall(), before


def _write_intent(path: str, content: bytes) -> None:
    try:
        _write_file(path, content)
    except OSError as error:
        raise InfrastructureError(f"cannot write {path}: {error.strerror}") from error
    crash_point("record.intent.written")


def _write_record(path: str, content: bytes) -> None:
    temporary = f"{path}.tmp"
    try:
        _write_file(temporary, content)
        crash_point("record.commit.temporary")
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise InfrastructureError(f"cannot write {path}: {error.strerror}") from error
    crash_point("record.commit.renamed")


def _write_file(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        crash_point("record.file.opened")
        written = 0
        while written < len(content):
            written += os.write(descriptor, content[written:])
    finally:
        os.close(descriptor)
