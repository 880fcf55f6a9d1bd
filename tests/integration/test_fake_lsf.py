"""The fake LSF holds what is known of LSF: requirements F1 to F17, each test named after its own."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dfm.testing.fake_lsf import FakeLsf, FakeLsfError, Host, Params, Queue

DATA = Path(__file__).parent.parent / "data" / "lsf"
DIALECTS = ["ibm10", "ibm10-consistent", "ibm9", "volclava"]
QUEUES = (
    Queue(name="normal"),
    Queue(name="regr", priority=40),
    Queue(name="short", run_limit_minutes=60, task_limit=2, memory_limit_mb=1000),
    Queue(name="secret", users=("nobody-else",)),
)
pytestmark = pytest.mark.timeout(60)
Start = Callable[..., FakeLsf]
SLEEP = ("sleep", "1000")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start clusters that end with the test."""
    with ExitStack() as stack:

        def one(**settings: object) -> FakeLsf:
            parent = tmp_path / f"cluster{len(list(tmp_path.iterdir()))}"
            parent.mkdir()
            return stack.enter_context(FakeLsf(parent, **{"queues": QUEUES, **settings}))  # type: ignore[arg-type]  # passed through

        yield one


@pytest.fixture
def lsf(start: Start) -> FakeLsf:
    return start()


class Pipe:
    """A named pipe: a job writes lines to it, a test waits for them; neither waits for the other to open it."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._path = path
        self._stream = os.fdopen(os.open(path, os.O_RDWR), "r+b", buffering=0)

    def __str__(self) -> str:
        return str(self._path)

    def line(self) -> str:
        return self._stream.readline().decode().strip()

    def tell(self, line: str) -> None:
        self._stream.write(f"{line}\n".encode())

    def close(self) -> None:
        self._stream.close()


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Pipe]:
    pipe = Pipe(tmp_path / "fifo")
    yield pipe
    pipe.close()


def submit(lsf: FakeLsf, *words: object, **settings: object) -> int:
    answer = lsf.run("bsub", *words, **settings)  # type: ignore[arg-type]  # passed through
    assert answer.stderr == ""
    match = re.fullmatch(r"Job <(\d+)> is submitted to (default )?queue <\w+>\.\n", answer.stdout)
    assert match is not None, answer
    return int(match[1])


def running(lsf: FakeLsf, *words: object) -> int:
    """Submit a job that runs, and return its id."""
    job = submit(lsf, *(words or SLEEP))
    lsf.wait_until(lambda jobs: any(each.id == job and each.state == "RUN" and each.pid for each in jobs))
    return job


def is_alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in {"Z", "X"}


def process_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


@pytest.fixture(scope="module")
def one_of_each(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, FakeLsf]]:
    with ExitStack() as stack:
        yield {
            dialect: stack.enter_context(FakeLsf(tmp_path_factory.mktemp(dialect), dialect=dialect, queues=QUEUES))
            for dialect in ("ibm10", "volclava")
        }


def unwrapped(text: str) -> str:
    return re.sub(r"\n {21}", "", text)


# F1 and F17: texts, streams, statuses.


def play(lsf: FakeLsf, transcript: str) -> None:
    """Run a transcript against the cluster and hold each answer against it."""
    text = (DATA / transcript).read_text(encoding="utf-8")
    for block in re.split(r"\n\n+", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip()):
        call: list[str] = []
        expected = {">": "", "!": ""}
        status = ""
        for line in block.split("\n"):
            match line[:1]:
                case "@":
                    _, job, state = line.split()
                    lsf.wait_for(job, state)
                case "$":
                    call = shlex.split(line[2:])
                case "=":
                    dialect, _, wanted = line[1:].partition(" ")
                    status = wanted if dialect in {"", lsf.config.dialect} else status
                case mark:
                    expected[mark] += line[2:] + "\n"
        if call:
            answer = lsf.run(call[0], *call[1:])
            if status.endswith("usage"):
                assert (answer.returncode, answer.stdout, "Usage: bjobs" in answer.stderr) == (255, "", True)
            else:
                stdout = re.sub(r" +$", "", answer.stdout, flags=re.MULTILINE) if call[0] == "bjobs" else answer.stdout
                assert (call, stdout, answer.stderr, answer.returncode) == (
                    call,
                    expected[">"],
                    expected["!"],
                    int(status),
                )


@pytest.mark.parametrize("dialect", DIALECTS)
def test_f1_f17_all_dialects_say_the_common_part_word_for_word(start: Start, dialect: str) -> None:
    play(start(dialect=dialect), "common.transcript")


@pytest.mark.parametrize("dialect", DIALECTS[:3])
def test_f1_f17_ibm_says_its_part_word_for_word(start: Start, dialect: str) -> None:
    play(start(dialect=dialect), "ibm.transcript")


def test_f1_volclava_lacks_what_it_lacks(start: Start) -> None:
    lsf = start(dialect="volclava")
    for command, *words in (
        ["bsub", "-rn", "true"],
        ["bsub", "-cwd", "/", "true"],
        ["bsub", "-env", "none", "true"],
        ["bjobs", "-noheader", "-o", "jobid"],
        ["bparams", "-a"],
        ["badmin", "showconf", "mbd"],
    ):
        answer = lsf.run(command, *words)
        assert (words, answer.stdout, answer.returncode) == (words, "", 255)
        assert f"Usage: {command}" in answer.stderr
    unknown = lsf.run("bjobs", "-o", "jobid jobindex")
    assert (unknown.stderr, unknown.returncode) == ("<jobindex> in the format string is not a valid field name.\n", 99)
    assert lsf.run("bsub", "-M", "4GB", "true").stderr == "4GB: Bad MEMLIMIT specification. Job not submitted.\n"


def test_f1_lsid_names_product_cluster_and_master(one_of_each: dict[str, FakeLsf]) -> None:
    assert one_of_each["ibm10"].run("lsid").stdout == (
        "IBM Spectrum LSF Standard 10.1.0.12, Dec 15 2021\n\nMy cluster name is fake\nMy master name is login1\n"
    )


def test_f1_an_emulation_may_have_no_lsid(start: Start) -> None:
    assert "lsid" not in os.listdir(start(params=Params(lsid_exists=False)).bin)


def test_f1_k_waits_and_returns_the_status_of_the_job(lsf: FakeLsf) -> None:
    answer = lsf.run("bsub", "-K", "exit 7")
    assert answer.stdout == "Job <101> is submitted to default queue <normal>.\n"
    assert answer.stderr == "<<Waiting for dispatch ...>>\n<<Job is finished>>\n"
    assert answer.returncode == 7


def test_f1_k_of_a_job_killed_while_pending_returns_126(lsf: FakeLsf) -> None:
    waiting = subprocess.Popen(
        ["bsub", "-K", "-H", "true"], env=lsf.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lsf.wait_for(101, "PSUSP")
    lsf.run("bkill", 101)
    _, stderr = waiting.communicate(timeout=30)
    assert (stderr, waiting.returncode) == ("<<Waiting for dispatch ...>>\n<<Terminated while pending>>\n", 126)


def test_f1_i_shows_the_output_of_the_job(lsf: FakeLsf) -> None:
    answer = lsf.run("bsub", "-I", "echo out; exit 3")
    assert answer.stdout == "Job <101> is submitted to default queue <normal>.\nout\n"
    assert answer.stderr == "<<Waiting for dispatch ...>>\n<<Starting on hostA>>\n"
    assert answer.returncode == 3


def test_f1_a_pack_tells_of_each_line_and_returns_0(start: Start, tmp_path: Path) -> None:
    lsf = start(params=Params(lsb_max_pack_jobs=300))
    (tmp_path / "pack").write_text("-q nosuch true\n-J a true\n", encoding="utf-8")
    answer = lsf.run("bsub", "-pack", tmp_path / "pack")
    assert answer.stdout == (
        "Line#2 Job <101> is submitted to default queue <normal>.\n2 lines parsed, 1 jobs submitted, 1 errors found.\n"
    )
    assert answer.stderr == "Line#1 nosuch: No such queue. Job not submitted.\n"
    assert answer.returncode == 0
    assert start().run("bsub", "-pack", tmp_path / "pack").returncode == 255


def test_f1_quiet_bsub_says_nothing(lsf: FakeLsf) -> None:
    answer = lsf.run("bsub", "true", env={"BSUB_QUIET": "Y"})
    assert (answer.stdout, answer.stderr, answer.returncode) == ("", "", 0)
    assert lsf.job(101).command == "true"


def test_f1_b_says_when_the_job_will_be_scheduled(lsf: FakeLsf) -> None:
    answer = lsf.run("bsub", "-b", "12:31:23:59", "true")
    assert re.fullmatch(r"Job will be scheduled after \w{3} Dec 31 23:59:00 \d{4}\n", answer.stderr)
    assert answer.returncode == 0


# F2: a strict reader.


@pytest.mark.parametrize("words", [["--name", "x", "true"], ["-Jx", "true"], ["-nonsense", "true"], ["-q"], ["-rnx"]])
def test_f2_an_unknown_option_means_usage_and_255(one_of_each: dict[str, FakeLsf], words: list[str]) -> None:
    lsf = one_of_each["ibm10"]
    before = lsf.jobs()
    answer = lsf.run("bsub", *words)
    assert (answer.stdout, answer.returncode) == ("", 255)
    assert "Usage: bsub" in answer.stderr
    assert len(lsf.jobs()) == len(before)


@pytest.mark.parametrize(
    "resreq",
    [
        "select[mem>100 && type==any] rusage[mem=10:swp=1] span[hosts=1]",
        "mem > 100",
        "select[(mem>100 || tmp>1) && hname!='hostX']",
        "rusage[mem=1GB]",
        "rusage[mem=10/host,tmp=1]",
        "rusage[mem=10:duration=1:decay=1]",
        "order[-slots]",
        "span[ptile=2]",
    ],
)
def test_f2_a_sound_resource_requirement_is_accepted(one_of_each: dict[str, FakeLsf], resreq: str) -> None:
    submit(one_of_each["ibm10"], "-H", "-R", resreq, "true")


@pytest.mark.parametrize(
    "resreq",
    [
        "",
        "rusage[mem=1] rusage[mem=2]",
        "mem>1 select[mem>2]",
        "select[mem>1",
        "select[mem>1]]",
        "select[(mem>1]",
        "select[mem=1]",
        "select[mem>1 & mem>2]",
        "select[mem>1 and mem>2]",
        "select[hname!='hostX]",
        '"select[mem>1]"',
        "rusage[mem]",
        "rusage[mem=abc]",
        "rusage[duration=1]",
        "rusage[nosuchresource=1]",
        "span[hosts=2]",
        "span[]",
        "nosuch[mem=1]",
        "select[host-x]]",
    ],
)
@pytest.mark.parametrize("dialect", ["ibm10", "volclava"])
def test_f2_an_unsound_resource_requirement_is_refused(
    one_of_each: dict[str, FakeLsf], resreq: str, dialect: str
) -> None:
    answer = one_of_each[dialect].run("bsub", "-R", resreq, "true")
    assert (answer.stdout, answer.returncode) == ("", 255)
    assert answer.stderr.endswith(". Job not submitted.\n")
    if dialect == "volclava":
        assert answer.stderr == "Bad resource requirement syntax. Job not submitted.\n"


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (["-W", "90s"], "90s: Bad RUNLIMIT specification"),
        (["-W", "0"], "0: Bad RUNLIMIT specification"),
        (["-W", "-5"], "-5: Bad RUNLIMIT specification"),
        (["-M", "4Gig"], "4Gig: Bad MEMLIMIT specification"),
        (["-M", "1.5"], "1.5: Bad MEMLIMIT specification"),
        (["-n", "0"], "0: Bad processor count specification"),
        (["-n", "4,2"], "4,2: Bad processor count specification"),
        (["-q", "short", "-n", "3"], "Too many processors requested"),
        (["-q", "short", "-M", "2000000"], "MEMLIMIT: Cannot exceed queue's hard limit(s)"),
        (["-J", "a[0-3]"], "a[0-3]: Bad job name or array specification"),
        (["-J", "a[1"], "a[1: Bad job name or array specification"),
        (["-J", "a[1-1001]"], "Job array index too large"),
        (["-m", "nosuch"], "nosuch: Bad host name, host group name or cluster name"),
        (["-w", "nonsense"], "Bad dependency condition"),
        (["-sp", "high"], "high: Bad argument for option -sp"),
    ],
)
def test_f2_a_value_that_makes_no_sense_is_refused(
    one_of_each: dict[str, FakeLsf], words: list[str], refusal: str
) -> None:
    answer = one_of_each["ibm10"].run("bsub", *words, "true")
    assert (answer.stdout, answer.stderr, answer.returncode) == ("", f"{refusal}. Job not submitted.\n", 255)


def test_f2_a_site_may_ask_for_a_project(start: Start) -> None:
    lsf = start(params=Params(require_project=True))
    assert lsf.run("bsub", "true").stderr == (
        "Project name must be specified using bsub -P\nRequest aborted by esub. Job not submitted.\n"
    )
    submit(lsf, "-P", "a project", "true")


def test_f2_an_esub_may_refuse_everything(start: Start) -> None:
    answer = start(params=Params(esub_rejects="no mail here")).run("bsub", "true")
    assert (answer.stderr, answer.returncode) == ("no mail here\nRequest aborted by esub. Job not submitted.\n", 255)


def test_f2_a_closed_queue_takes_no_job(lsf: FakeLsf) -> None:
    lsf.ctl.close_queue("regr")
    assert lsf.run("bsub", "-q", "regr", "true").stderr == "regr: Queue has been closed. Job not submitted.\n"
    assert "Closed:Active" in lsf.run("bqueues", "regr").stdout
    lsf.ctl.open_queue("regr")
    submit(lsf, "-q", "regr", "true")


# F3: forms of giving the command.


def test_f3_words_are_joined_and_read_by_a_shell_from_a_job_file(lsf: FakeLsf, tmp_path: Path) -> None:
    lsf.wait_for(submit(lsf, "-o", tmp_path / "out", "echo", "a  b;", "echo", "$LSB_JOBFILENAME"), "DONE")
    told = (tmp_path / "out").read_text(encoding="utf-8")
    assert re.search(r"^a b\n\S+/\.lsbatch/\d{10}\.101\n", told, re.MULTILINE)


def test_f3_a_script_from_stdin_carries_options_and_the_command_line_wins(lsf: FakeLsf, tmp_path: Path) -> None:
    script = f"#!/bin/sh\n#BSUB -J from-script\n#BSUB -q regr -o {tmp_path}/out\nread line && echo no\necho yes\n"
    answer = lsf.run("bsub", "-J", "from-line", stdin=script)
    assert answer.stdout == "Job <101> is submitted to queue <regr>.\n"
    assert lsf.wait_for(101).name == "from-line"
    assert (tmp_path / "out").read_text(encoding="utf-8").endswith("follows:\n\nyes\n")


def test_f3_options_in_a_script_file_count_only_where_the_site_reads_them(lsf: FakeLsf, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n#BSUB -J named\ntrue\n", encoding="utf-8")
    script.chmod(0o755)
    lsf.wait_for(submit(lsf, script), "DONE")
    submit(lsf, script, env={"LSB_BSUB_PARSE_SCRIPT": "Y"})
    assert [job.name for job in lsf.jobs()] == [str(script), "named"]


def test_f3_a_script_that_the_host_cannot_see_ends_with_127(start: Start, tmp_path: Path) -> None:
    shared, local = tmp_path / "shared", tmp_path / "scratch"
    for place in (shared, local):
        place.mkdir()
        (place / "script").write_text("#!/bin/sh\ntrue\n", encoding="utf-8")
        (place / "script").chmod(0o755)
    lsf = start(params=Params(shared_roots=(str(shared),)))
    assert lsf.wait_for(submit(lsf, shared / "script")).state == "DONE"
    lost = lsf.wait_for(submit(lsf, "-e", shared / "err", local / "script"))
    assert (lost.state, lost.exit_code) == ("EXIT", 127)
    assert (
        (shared / "err").read_text(encoding="utf-8").endswith(f": line 8: {local}/script: No such file or directory\n")
    )


# F4: what the job sees.


def environ_of_job(lsf: FakeLsf, output: Path, *words: object, **settings: object) -> dict[str, str]:
    job = submit(lsf, *words, f"env -0 > {output}", **settings)
    lsf.wait_for(job, "DONE")
    return dict(each.split("=", 1) for each in output.read_text(encoding="utf-8").split("\0") if each)


def test_f4_a_job_gets_the_submitters_environment_and_lsfs_own(lsf: FakeLsf, tmp_path: Path) -> None:
    seen = environ_of_job(
        lsf, tmp_path / "env", "-J", "name", "-n", "2", "-o", "/dev/null", env={"MINE": "a\nb", "LSB_JOBID": "7"}
    )
    wanted = {
        "MINE": "a\nb",
        "LSB_JOBID": "101",
        "LSB_JOBINDEX": "0",
        "LSB_JOBNAME": "name",
        "LSB_QUEUE": "normal",
        "LSB_HOSTS": "hostA hostA",
        "LSB_MCPU_HOSTS": "hostA 2 ",
        "LSB_DJOB_NUMPROC": "2",
        "LSB_MAX_NUM_PROCESSORS": "2",
        "LSB_SUB_HOST": "login1",
        "LSB_OUTPUTFILE": "/dev/null",
        "LS_SUBCWD": os.path.dirname(lsf.directory),
        "LS_JOBPID": str(lsf.job(101).pid),
        "HOME": f"{lsf.directory}/home",
    }
    assert {name: seen.get(name) for name in wanted} == wanted
    assert "LSB_RESTART" not in seen


def test_f4_env_chooses_what_is_copied(lsf: FakeLsf, tmp_path: Path) -> None:
    mine = {"KEPT": "1", "DROPPED": "2"}
    seen = environ_of_job(lsf, tmp_path / "some", "-env", "all, ~DROPPED, ADDED=3", env=mine)
    assert {name: seen.get(name) for name in ("KEPT", "DROPPED", "ADDED")} == {
        "KEPT": "1", "DROPPED": None, "ADDED": "3",
    }  # fmt: skip
    assert "KEPT" not in environ_of_job(lsf, tmp_path / "none", "-env", "none", env=mine)


def test_f4_a_job_leads_a_session_of_its_own_with_the_hosts_umask(lsf: FakeLsf, tmp_path: Path) -> None:
    command = f"umask > {tmp_path}/umask; ps -o sid= -p $$ > {tmp_path}/sid"
    old = os.umask(0o077)
    try:
        job = submit(lsf, command)
    finally:
        os.umask(old)
    pid = lsf.wait_for(job, "DONE").pid
    assert (tmp_path / "umask").read_text(encoding="utf-8").strip() == "0022"
    assert int((tmp_path / "sid").read_text(encoding="utf-8")) == pid


def test_f4_a_job_without_its_directory_runs_in_tmp(start: Start, tmp_path: Path) -> None:
    unmounted = tmp_path / "unmounted"
    unmounted.mkdir()
    lsf = start(hosts=[Host(name="hostA", lacks=(str(unmounted),))])
    lsf.wait_for(submit(lsf, f"pwd > {tmp_path}/one", cwd=unmounted), "DONE")
    lsf.wait_for(submit(lsf, "-cwd", tmp_path / "nowhere", f"pwd > {tmp_path}/two"), "DONE")
    assert [(tmp_path / name).read_text(encoding="utf-8") for name in ("one", "two")] == ["/tmp\n", "/tmp\n"]


def test_f4_or_exits_with_2_where_the_site_says_so(lsf: FakeLsf, tmp_path: Path) -> None:
    job = submit(lsf, "-cwd", tmp_path / "nowhere", "true", env={"LSB_EXIT_IF_CWD_NOTEXIST": "Y"})
    ended = lsf.wait_for(job)
    assert (ended.state, ended.exit_code, ended.reason) == ("EXIT", 2, "TERM_CWD_NOTEXIST")


# F5: hosts, queues, licences.


def test_f5_slots_are_full_until_a_job_ends(start: Start) -> None:
    lsf = start(hosts=[Host(name="hostA", slots=1)])
    first = running(lsf)
    second = submit(lsf, *SLEEP)
    waiting = lsf.wait_until(lambda jobs: jobs[-1].pend_reason == "slots")
    assert waiting[-1].state == "PEND"
    assert "Job slot limit reached;" in lsf.run("bjobs", "-p", second).stdout
    assert "closed_Full" in lsf.run("bhosts").stdout
    lsf.run("bkill", first)
    lsf.wait_for(second, "RUN")


def test_f5_one_tick_starts_all_that_fit(start: Start) -> None:
    lsf = start(hosts=[Host(name="hostA", slots=3)], params=Params(mbd_sleep_time=100))
    submit(lsf, "-J", "a[1-4]", *SLEEP)
    jobs = lsf.wait_until(lambda jobs: any(job.state == "RUN" for job in jobs))
    assert [job.state for job in jobs] == ["RUN", "RUN", "RUN", "PEND"]


def test_f5_memory_is_reserved_per_host_or_per_task(start: Start) -> None:
    hosts = [Host(name="hostA", slots=4, memory_mb=1000)]
    by_host = start(hosts=hosts)
    running(by_host, "-n", "2", "-R", "rusage[mem=400]", *SLEEP)
    running(by_host, "-n", "2", "-R", "rusage[mem=400]", *SLEEP)
    by_task = start(hosts=hosts, params=Params(resource_reserve_per_task=True))
    running(by_task, "-n", "2", "-R", "rusage[mem=400]", *SLEEP)
    submit(by_task, "-n", "2", "-R", "rusage[mem=400]", *SLEEP)
    assert by_task.wait_until(lambda jobs: jobs[-1].pend_reason != "new")[-1].state == "PEND"


def test_f5_the_site_chooses_the_unit_of_memory(start: Start) -> None:
    lsf = start(hosts=[Host(name="hostA", memory_mb=1000)], params=Params(lsf_unit_for_limits="GB"))
    submit(lsf, "-R", "rusage[mem=1]", "true")
    assert lsf.wait_until(lambda jobs: jobs[-1].pend_reason != "new")[-1].pend_reason == "slots"
    assert "LSF_UNIT_FOR_LIMITS = GB" in lsf.run("badmin", "showconf", "mbd").stdout


def test_f5_a_licence_is_held_by_the_job_or_for_its_duration(start: Start) -> None:
    lsf = start(licences={"sim": 1}, speed=600)
    running(lsf, "-R", "rusage[sim=1:duration=1]", *SLEEP)
    second = submit(lsf, "-R", "rusage[sim=1]", *SLEEP)
    lsf.wait_for(second, "RUN")
    submit(lsf, "-R", "rusage[sim=1]", "true")
    assert lsf.wait_until(lambda jobs: jobs[-1].pend_reason == "resources")[-1].state == "PEND"


def test_f5_a_higher_priority_goes_first_and_a_queue_is_first_come_first_served(start: Start) -> None:
    lsf = start(hosts=[Host(name="hostA", slots=1)])
    blocker = running(lsf)
    names = [submit(lsf, "-q", queue, "true") for queue in ("normal", "normal", "regr")]
    lsf.run("bkill", blocker)
    done = lsf.wait_until(lambda jobs: all(not job.is_live for job in jobs))
    assert [job.id for job in sorted(done[1:], key=lambda job: job.started_at)] == [names[2], names[0], names[1]]


def test_f5_select_chooses_the_host(lsf: FakeLsf) -> None:
    job = running(lsf, "-R", "select[hname!='hostA']", *SLEEP)
    assert lsf.job(job).hosts == ("hostB",)
    submit(lsf, "-R", "select[hname!='hostA' && hname!='hostB']", "true")
    assert lsf.wait_until(lambda jobs: jobs[-1].pend_reason == "select")[-1].state == "PEND"


def test_f5_several_slots_spread_unless_span_says_one_host(lsf: FakeLsf) -> None:
    spread = running(lsf, "-n", "5", *SLEEP)
    assert sorted(lsf.job(spread).hosts) == ["hostA"] * 4 + ["hostB"]
    submit(lsf, "-n", "4", "-R", "span[hosts=1]", "true")
    assert lsf.wait_until(lambda jobs: jobs[-1].pend_reason == "hosts")[-1].state == "PEND"


def test_f5_a_host_rests_between_two_starts_if_the_site_says_so(start: Start) -> None:
    lsf = start(hosts=[Host(name="hostA")], params=Params(job_accept_interval=10_000))
    running(lsf)
    submit(lsf, "true")
    assert lsf.wait_until(lambda jobs: jobs[-1].pend_reason == "accept")[-1].state == "PEND"


def test_f5_a_black_hole_eats_every_job(start: Start) -> None:
    lsf = start(hosts=[Host(name="hostA", broken=3)])
    assert lsf.wait_for(submit(lsf, *SLEEP)).exit_code == 3
    lsf.ctl.mend_host("hostA")
    assert lsf.wait_for(submit(lsf, "true")).state == "DONE"


def test_f5_a_dependency_holds_a_job_back(lsf: FakeLsf) -> None:
    first = submit(lsf, "-H", "-J", "first", "exit 1")
    submit(lsf, "-w", "ended(first)", "true")
    lsf.wait_until(lambda jobs: jobs[-1].pend_reason == "depend")
    lsf.run("bresume", first)
    assert lsf.wait_for(102).state == "DONE"


# F6: states.


def test_f6_a_stopped_job_is_really_stopped(lsf: FakeLsf) -> None:
    job = running(lsf)
    lsf.run("bstop", job)
    assert lsf.wait_for(job, "USUSP").pid == lsf.job(job).pid
    assert process_state(lsf.job(job).pid) == "T"
    lsf.run("bresume", job)
    assert lsf.wait_for(job, "RUN").state == "RUN"
    assert process_state(lsf.job(job).pid) != "T"


def test_f6_the_system_suspends_too(lsf: FakeLsf) -> None:
    job = running(lsf)
    lsf.ctl.suspend(job)
    assert " SSUSP " in lsf.run("bjobs", job).stdout
    assert process_state(lsf.job(job).pid) == "T"
    lsf.ctl.resume(job)
    lsf.wait_for(job, "RUN")


@pytest.mark.parametrize(("how", "state"), [("suspend", "SSUSP"), ("kill", "EXIT")])
def test_f6_a_preempted_job_is_suspended_or_killed(lsf: FakeLsf, how: str, state: str) -> None:
    job = running(lsf)
    lsf.ctl.preempt(job, how)
    ended = lsf.wait_for(job, state)
    assert ended.reason == ("TERM_PREEMPT" if how == "kill" else "")


def test_f6_a_preempted_job_may_be_requeued_under_its_id(lsf: FakeLsf) -> None:
    job = running(lsf)
    lsf.ctl.preempt(job, "requeue")
    again = lsf.wait_until(lambda jobs: jobs[-1].start_count == 2 and jobs[-1].state == "RUN")
    assert [each.id for each in again] == [job]


def test_f6_a_held_job_is_psusp_until_it_is_resumed(lsf: FakeLsf) -> None:
    job = submit(lsf, "-H", "true")
    assert lsf.job(job).state == "PSUSP"
    lsf.run("bresume", job)
    assert lsf.wait_for(job).state == "DONE"


def test_f6_members_of_a_chunk_wait_for_the_first(start: Start) -> None:
    lsf = start(queues=[Queue(name="normal", chunk_size=3)])
    lsf.run("badmin", "qinact", "normal")
    jobs = [submit(lsf, *SLEEP) for _ in range(3)]
    exempt = submit(lsf, "-W", "31", *SLEEP)
    lsf.run("badmin", "qact", "normal")
    lsf.wait_for(jobs[1], "WAIT")
    assert [lsf.wait_for(job, "RUN", "WAIT").state for job in (*jobs, exempt)] == ["RUN", "WAIT", "WAIT", "RUN"]
    assert "CHUNK_JOB_SIZE:  3" in lsf.run("bqueues", "-l").stdout
    lsf.run("bkill", jobs[0])
    lsf.wait_for(jobs[1], "RUN")
    assert lsf.job(jobs[2]).state == "WAIT"


def test_f6_an_unknown_job_goes_on_and_may_be_known_again(lsf: FakeLsf) -> None:
    job = running(lsf)
    lsf.ctl.lose_host("hostA")
    assert lsf.wait_for(job, "UNKWN").start_count == 1
    assert is_alive(lsf.job(job).pid)
    assert "unreach" in lsf.run("bhosts").stdout
    lsf.ctl.recover("hostA")
    assert lsf.wait_for(job, "RUN").start_count == 1


def test_f6_an_unknown_job_may_turn_out_to_have_ended_well(lsf: FakeLsf, fifo: Pipe) -> None:
    job = running(lsf, f"read line < {fifo}")
    lsf.ctl.unknown(job)
    fifo.tell("go on")
    assert lsf.job(job).state == "UNKWN"
    lsf.ctl.recover(job)
    assert lsf.wait_for(job).state == "DONE"


def test_f6_a_zombi_lives_on(lsf: FakeLsf) -> None:
    job = running(lsf)
    lsf.ctl.zombie(job)
    assert " ZOMBI " in lsf.run("bjobs", job).stdout
    assert is_alive(lsf.job(job).pid)


# F7: killing.

STUBBORN = """
import os, signal, sys
pipe = os.open(sys.argv[1], os.O_WRONLY)
tell = lambda number, _: os.write(pipe, signal.Signals(number).name.encode() + b"\\n")
for number in (signal.SIGCONT, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, tell)
os.write(pipe, b"ready\\n")
while True:
    signal.pause()
"""


@pytest.fixture
def stubborn(lsf: FakeLsf, fifo: Pipe, tmp_path: Path) -> Callable[..., int]:
    """Submit a job that survives each signal it can, and tells of it through the pipe."""
    (tmp_path / "stubborn").write_text(STUBBORN, encoding="utf-8")

    def submitted(*words: object, on: FakeLsf = lsf) -> int:
        job = submit(on, *words, sys.executable, "-S", tmp_path / "stubborn", fifo)
        assert fifo.line() == "ready"
        return job

    return submitted


def test_f7_bkill_sends_cont_int_term_kill_and_bjobs_says_run_meanwhile(
    lsf: FakeLsf, stubborn: Callable[..., int], fifo: Pipe
) -> None:
    job = stubborn()
    assert lsf.run("bkill", job).stdout == f"Job <{job}> is being terminated\n"
    assert {fifo.line(), fifo.line()} == {"SIGINT", "SIGCONT"}
    assert lsf.job(job).state == "RUN"
    assert fifo.line() == "SIGTERM"
    ended = lsf.wait_for(job)
    assert (ended.state, ended.exit_signal, ended.reason) == ("EXIT", 9, "TERM_OWNER")


def test_f7_a_job_that_is_being_killed_already_is_in_progress(start: Start, stubborn: Callable[..., int]) -> None:
    lsf = start(params=Params(job_terminate_interval=100_000))
    job = stubborn(on=lsf)
    assert lsf.run("bkill", job).returncode == 0
    again = lsf.run("bkill", job)
    assert (again.stderr, again.returncode) == (f"Job <{job}>: Operation is in progress\n", 255)
    assert " RUN " in lsf.run("bjobs", job).stdout


def test_f7_a_job_that_obeys_int_gets_no_term(lsf: FakeLsf) -> None:
    job = running(lsf)
    lsf.run("bkill", job)
    ended = lsf.wait_for(job)
    assert (ended.exit_code, ended.exit_signal) == (130, None)
    assert "Signal <TERM>" not in lsf.run("bhist", "-l", job).stdout


def test_f7_several_slots_get_kill_only(lsf: FakeLsf, stubborn: Callable[..., int], fifo: Pipe) -> None:
    job = stubborn("-n", "2")
    lsf.run("bkill", job)
    assert lsf.wait_for(job).exit_signal == signal.SIGKILL
    fifo.tell("nothing was told before this")
    assert fifo.line() == "nothing was told before this"


def test_f7_unless_the_site_wants_the_sequence(start: Start, stubborn: Callable[..., int], fifo: Pipe) -> None:
    lsf = start(params=Params(lsb_use_sequential_signal=True))
    job = stubborn("-n", "2", on=lsf)
    lsf.run("bkill", job)
    assert sorted(fifo.line() for _ in range(3)) == ["SIGCONT", "SIGINT", "SIGTERM"]
    lsf.wait_for(job)


def test_f7_s_sends_one_signal(lsf: FakeLsf, stubborn: Callable[..., int], fifo: Pipe) -> None:
    job = stubborn()
    assert lsf.run("bkill", "-s", "TERM", job).stdout == f"Job <{job}> is being signaled\n"
    assert fifo.line() == "SIGTERM"
    assert lsf.job(job).state == "RUN"


def test_f7_a_pending_job_exits_without_code_or_process(lsf: FakeLsf) -> None:
    job = submit(lsf, "-H", "true")
    lsf.run("bkill", job)
    ended = lsf.job(job)
    assert (ended.state, ended.exit_code, ended.exit_signal, ended.pid) == ("EXIT", None, None, 0)
    assert lsf.run("bjobs", "-noheader", "-o", "exit_code exit_reason delimiter='^'", job).stdout == (
        "-^TERM_OWNER: job killed by owner\n"
    )
    assert ": Exited;\n" in lsf.run("bhist", "-l", job).stdout


def test_f7_r_forgets_the_job_and_its_process_goes_on(lsf: FakeLsf) -> None:
    job = running(lsf)
    pid = lsf.job(job).pid
    assert lsf.run("bkill", "-r", job).returncode == 0
    assert (lsf.job(job).state, lsf.job(job).reason) == ("EXIT", "TERM_FORCE_OWNER")
    assert is_alive(pid)


def test_f7_an_unknown_job_is_killed_when_its_host_is_back(lsf: FakeLsf) -> None:
    job = running(lsf)
    lsf.ctl.lose_host("hostA")
    lsf.run("bkill", job)
    assert lsf.job(job).state == "UNKWN"
    lsf.ctl.recover("hostA")
    assert lsf.wait_for(job).reason == "TERM_OWNER"


def test_f7_bkill_without_ids_kills_the_last_job_and_0_kills_all(lsf: FakeLsf) -> None:
    jobs = [submit(lsf, "-H", "-J", name, "true") for name in ("pool1", "pool2", "other", "last")]
    assert lsf.run("bkill").stdout == f"Job <{jobs[3]}> is being terminated\n"
    assert lsf.run("bkill", "-J", "pool*").stdout == f"Job <{jobs[1]}> is being terminated\n"
    assert lsf.run("bkill", "-J", "pool*", "0").stdout == f"Job <{jobs[0]}> is being terminated\n"
    assert lsf.run("bkill", "0").stdout == f"Job <{jobs[2]}> is being terminated\n"


def test_f7_a_process_in_a_session_of_its_own_escapes_unless_it_is_tracked(start: Start, fifo: Pipe) -> None:
    lsf = start(params=Params(signal_escapees=True))
    job = submit(lsf, f"setsid sh -c 'echo $$ > {fifo}; exec sleep 1000' & wait")
    escapee = int(fifo.line())
    lsf.run("bkill", job)
    lsf.wait_for(job)
    assert lsf.leaks() == []
    assert not is_alive(escapee)


def test_f7_a_queue_may_have_a_signal_of_its_own(start: Start, fifo: Pipe, stubborn: Callable[..., int]) -> None:
    lsf = start(queues=[Queue(name="normal", terminate_control="TERM")])
    job = stubborn(on=lsf)
    lsf.run("bkill", job)
    assert fifo.line() == "SIGTERM"
    assert fifo.line() == "SIGTERM"
    lsf.ctl("kill", job)


# F8: limits.


def test_f8_the_run_limit_sends_usr2_and_an_unready_job_exits_140(start: Start) -> None:
    lsf = start(speed=1000)
    ended = lsf.wait_for(submit(lsf, "-W", "1", *SLEEP))
    assert (ended.exit_code, ended.reason) == (140, "TERM_RUNLIMIT")
    assert (ended.finished_at - ended.started_at) * 1000 >= 60


def test_f8_a_job_that_ignores_usr2_is_killed_ten_minutes_later(start: Start, fifo: Pipe) -> None:
    lsf = start(speed=2000)
    job = submit(lsf, "-W", "1", f"trap 'echo usr2 > {fifo}' USR2; while :; do sleep 0.02; done")
    assert fifo.line() == "usr2"
    assert lsf.job(job).state == "RUN"
    ended = lsf.wait_for(job)
    assert (ended.exit_signal, ended.reason) == (9, "TERM_RUNLIMIT")
    assert (ended.finished_at - ended.started_at) * 2000 >= 660


def test_f8_wa_warns_before_the_limit(start: Start, fifo: Pipe) -> None:
    lsf = start(speed=1000)
    submit(lsf, "-W", "3", "-wa", "USR1", "-wt", "2", f"trap 'echo usr1 > {fifo}' USR1; while :; do sleep 0.02; done")
    assert fifo.line() == "usr1"


def test_f8_the_limit_of_the_queue_holds_for_jobs_without_one(start: Start) -> None:
    lsf = start(speed=1000, queues=[Queue(name="normal", run_limit_minutes=1)])
    assert lsf.wait_for(submit(lsf, *SLEEP)).reason == "TERM_RUNLIMIT"


def test_f8_the_memory_limit_kills_what_has_too_much(lsf: FakeLsf) -> None:
    hungry = f"{sys.executable} -c 'held = bytearray(200_000_000); input()' < /dev/zero"
    sound = running(lsf, "-M", "100MB", *SLEEP)
    ended = lsf.wait_for(submit(lsf, "-M", "100MB", hungry))
    assert ended.reason == "TERM_MEMLIMIT"
    assert lsf.job(sound).state == "RUN"
    assert "TERM_MEMLIMIT: job killed after reaching LSF memory usage limit" in unwrapped(
        lsf.run("bacct", "-l", ended.id).stdout
    )


def test_f8_memory_of_a_process_that_left_the_session_counts_where_it_is_tracked(start: Start, fifo: Pipe) -> None:
    lsf = start(params=Params(signal_escapees=True))
    hungry = "import os, time; print(os.getpid(), flush=True); held = b'x' * 200_000_000; time.sleep(300)"
    away = f'env -u FAKE_LSF_JOB setsid --wait {sys.executable} -c "{hungry}" > {fifo}'
    job = submit(lsf, "-M", "100MB", away)
    escapee = int(fifo.line())
    assert lsf.wait_for(job).reason == "TERM_MEMLIMIT"
    assert not is_alive(escapee)


def test_f8_the_cpu_limit_sends_xcpu(start: Start) -> None:
    lsf = start(speed=1000)
    assert lsf.wait_for(submit(lsf, "-c", "1", "while :; do :; done")).reason == "TERM_CPULIMIT"


# F9: output.


def test_f9_output_comes_at_the_end_behind_a_report(lsf: FakeLsf, fifo: Pipe, tmp_path: Path) -> None:
    output = tmp_path / "out-%J-%I"
    job = submit(lsf, "-J", "name", "-o", output, f"echo told; echo wrong >&2; echo > {fifo}; exit 3")
    fifo.line()
    lsf.wait_for(job, "EXIT")
    told = (tmp_path / f"out-{job}-0").read_text(encoding="utf-8")
    assert told.startswith(f"Sender: LSF System <root@hostA>\nSubject: Job {job}: <name> in cluster <fake> Exited\n")
    assert "\nExited with exit code 3.\n\nResource usage summary:\n" in told
    assert told.endswith("\nThe output (if any) follows:\n\ntold\nwrong\n")


def test_f9_nothing_is_in_the_file_while_the_job_runs(lsf: FakeLsf, fifo: Pipe, tmp_path: Path) -> None:
    job = submit(lsf, "-o", tmp_path / "out", f"echo told; echo > {fifo}; sleep 1000")
    fifo.line()
    assert not (tmp_path / "out").exists()
    assert lsf.run("bpeek", job).stdout == "<< output from stdout >>\ntold\n"


def test_f9_unless_the_site_writes_directly(lsf: FakeLsf, fifo: Pipe, tmp_path: Path) -> None:
    submit(lsf, "-o", tmp_path / "out", f"echo told; echo > {fifo}; sleep 1000", env={"LSB_STDOUT_DIRECT": "Y"})
    fifo.line()
    assert (tmp_path / "out").read_text(encoding="utf-8") == "told\n"


def test_f9_e_keeps_stderr_apart_and_o_appends_but_oo_overwrites(lsf: FakeLsf, tmp_path: Path) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    for option in ("-o", "-o"):
        lsf.wait_for(submit(lsf, option, out, "-e", err, "echo told; echo wrong >&2"), "DONE")
    assert out.read_text(encoding="utf-8").count("Successfully completed.") == 2
    assert f"PS:\n\nRead file <{err}> for stderr output of this job.\n" in out.read_text(encoding="utf-8")
    assert err.read_text(encoding="utf-8") == "wrong\nwrong\n"
    lsf.wait_for(submit(lsf, "-oo", out, "-eo", err, "echo wrong >&2"), "DONE")
    assert out.read_text(encoding="utf-8").count("Successfully completed.") == 1
    assert err.read_text(encoding="utf-8") == "wrong\n"


def test_f9_a_path_that_ends_in_a_slash_is_a_directory(lsf: FakeLsf, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    job = submit(lsf, "-o", f"{tmp_path}/logs/", "echo told")
    lsf.wait_for(job, "DONE")
    assert (tmp_path / "logs" / f"{job}.out").read_text(encoding="utf-8").endswith("told\n")


def test_f9_output_without_a_file_is_mailed(lsf: FakeLsf) -> None:
    lsf.wait_for(submit(lsf, "echo told"), "DONE")
    (mail,) = Path(lsf.directory, "mail").iterdir()
    assert mail.read_text(encoding="utf-8").endswith("told\n")


# F10: memory of the past.


def test_f10_a_job_vanishes_from_bjobs_after_clean_period_but_not_from_bhist(start: Start) -> None:
    lsf = start(params=Params(clean_period=5))
    job = submit(lsf, "exit 3")
    lsf.wait_until(lambda jobs: jobs[-1].is_cleaned)
    assert lsf.run("bjobs", "-a", job).stderr == f"Job <{job}> is not found\n"
    assert lsf.run("bjobs", "-a").stderr == "No job found\n"
    told = unwrapped(lsf.run("bhist", "-l", job).stdout)
    assert ": Dispatched to <hostA>;\n" in told
    assert re.search(r": Starting \(Pid \d+\);\n", told)
    assert re.search(r": Exited with exit code 3\. The CPU time used is \d+\.\d seconds;\n", told)


def test_f10_bhist_wraps_at_80_columns_in_the_midst_of_words(lsf: FakeLsf) -> None:
    submit(lsf, "-H", "-J", "x" * 200, "true")
    lines = lsf.run("bhist", "-l", "101").stdout.splitlines()
    head = lines[1:5]
    assert [len(line) for line in head[:3]] == [80, 80, 80]
    assert [line[:21].strip() for line in head[1:4]] == ["", "", ""]
    assert "x" * 200 in head[0] + "".join(line[21:] for line in head[1:])


def test_f10_bhist_tells_the_time_spent_in_each_state(start: Start) -> None:
    lsf = start(speed=1000)
    lsf.wait_for(submit(lsf, "sleep", "0.1"))
    lines = lsf.run("bhist", "-a").stdout.splitlines()
    assert lines[1].split() == ["JOBID", "USER", "JOB_NAME", "PEND", "PSUSP", "RUN", "USUSP", "SSUSP", "UNKWN", "TOTAL"]
    assert int(lines[2].split()[-5]) >= 100


def test_f10_ids_start_again_and_are_used_again(start: Start) -> None:
    lsf = start(params=Params(first_jobid=2, max_jobid=3, clean_period=1))
    first = submit(lsf, "-J", "first", "true")
    lsf.wait_until(lambda jobs: jobs[-1].is_cleaned)
    ids = [submit(lsf, "-H", "-J", f"later{number}", "true") for number in range(3)]
    assert (first, ids) == (2, [3, 1, 2])
    assert lsf.run("bjobs", "-noheader", "-o", "job_name", "2").stdout.strip() == "later2"


# F11: arrays and tables.


def test_f11_an_array_is_one_id_with_elements(lsf: FakeLsf) -> None:
    job = submit(lsf, "-J", "a[1-3,5]%2", *SLEEP)
    lsf.wait_until(lambda jobs: [each.state for each in jobs].count("RUN") == 2)
    rows = lsf.run("bjobs", "-noheader", "-o", "jobid jobindex job_name stat delimiter=','", job).stdout
    assert rows == "101,1,a[1],RUN\n101,2,a[2],RUN\n101,3,a[3],PEND\n101,5,a[5],PEND\n"
    assert lsf.run("bkill", "101[1]").stdout == "Job <101[1]> is being terminated\n"
    lsf.wait_for("101[3]", "RUN")
    assert lsf.run("bkill", "101[9]").stderr == "Job <101[9]>: No matching job found\n"


def test_f11_an_element_knows_its_index(lsf: FakeLsf, tmp_path: Path) -> None:
    submit(lsf, "-J", "a[7]", "-o", tmp_path / "%J.%I", "echo index $LSB_JOBINDEX $LSB_JOBNAME")
    lsf.wait_for("101[7]", "DONE")
    assert (tmp_path / "101.7").read_text(encoding="utf-8").endswith("index 7 a[7]\n")


def test_f11_names_are_found_by_pattern(lsf: FakeLsf) -> None:
    for name in ("dfm-ab-p-1", "dfm-ab-p-2", "other"):
        submit(lsf, "-H", "-J", name, "true")
    answer = lsf.run("bjobs", "-a", "-json", "-o", "job_name", "-J", "dfm-ab-*")
    assert json.loads(answer.stdout) == {
        "COMMAND": "bjobs", "JOBS": 2, "RECORDS": [{"JOB_NAME": "dfm-ab-p-1"}, {"JOB_NAME": "dfm-ab-p-2"}],
    }  # fmt: skip
    assert lsf.run("bjobs", "-noheader", "-o", "jobid", "-aJ", "*ab*").stdout.split() == ["101", "102"]


def test_f11_the_default_table_cuts_and_continues(start: Start) -> None:
    lsf = start(
        params=Params(first_jobid=123456789, max_jobid=2**31 - 2),
        hosts=[Host(name="hostA", slots=2), Host(name="hostB")],
    )
    job = running(lsf, "-J", "a-rather-long-name", "-n", "5", *SLEEP)
    header, first, second = lsf.run("bjobs").stdout.splitlines()
    assert header == "JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME"
    assert re.fullmatch(
        r"3456789 \S+ +RUN   normal     login1      4\*hostB     \*long-name \w{3} [ \d]\d \d\d:\d\d", first
    )
    assert second == " " * 45 + "hostA"
    wide = lsf.run("bjobs", "-w").stdout.splitlines()[1]
    assert wide.split()[:7] == [str(job), lsf.run("bjobs", "-noheader", "-o", "user").stdout.strip(), "RUN", "normal",
                                "login1", "4*hostB:hostA", "a-rather-long-name"]  # fmt: skip


def test_f11_a_pending_job_has_no_host_in_the_table_and_a_dash_in_the_wide_one(lsf: FakeLsf) -> None:
    submit(lsf, "-H", "-J", "name", "true")
    assert lsf.run("bjobs").stdout.splitlines()[1].split()[5] == "name"
    assert lsf.run("bjobs", "-w").stdout.splitlines()[1].split()[5:7] == ["-", "name"]


def test_f11_json_wants_a_format_and_no_noheader(lsf: FakeLsf) -> None:
    for words in (["-json"], ["-json", "-noheader", "-o", "jobid"]):
        answer = lsf.run("bjobs", *words)
        assert (answer.stdout, answer.returncode) == ("", 255)


def test_f11_variables_of_the_user_change_the_answer(lsf: FakeLsf) -> None:
    submit(lsf, "-H", "true")
    answer = lsf.run("bjobs", env={"LSB_BJOBS_FORMAT": "stat jobid delimiter=';'"})
    assert answer.stdout == "STAT;JOBID\nPSUSP;101\n"


# F13 and F14: restarts and lost hosts.


def test_f13_jobs_go_on_while_mbatchd_is_away_and_are_taken_up_again(lsf: FakeLsf, fifo: Pipe) -> None:
    goes_on = running(lsf)
    ends_meanwhile = running(lsf, f"read line < {fifo}; exit 3")
    pids = [lsf.job(job).pid for job in (goes_on, ends_meanwhile)]
    lsf.ctl.down()
    fifo.tell("end")
    assert is_alive(pids[0])
    lsf.ctl.up()
    assert lsf.wait_for(ends_meanwhile).exit_code == 3
    assert (lsf.job(goes_on).state, lsf.job(goes_on).pid) == ("RUN", pids[0])
    lsf.run("bkill", goes_on)
    assert lsf.wait_for(goes_on).reason == "TERM_OWNER"


def test_f13_after_a_restart_jobs_may_be_unknown_for_a_time(lsf: FakeLsf) -> None:
    job = running(lsf)
    lsf.ctl.restart_mbatchd(unknown_seconds=30)
    assert lsf.job(job).state == "UNKWN"
    assert lsf.wait_for(job, "RUN").start_count == 1


def test_f13_a_command_meanwhile_tries_ntries_times(lsf: FakeLsf) -> None:
    lsf.ctl.down()
    answer = lsf.run("bsub", "true", env={"LSB_NTRIES": "3"})
    assert answer.stderr == (
        "batch system daemon not responding ... still trying\n" * 2 + "Connection refused by server\n"
    )
    assert (answer.stdout, answer.returncode) == ("", 255)


def test_f13_or_waits_until_it_is_back(lsf: FakeLsf) -> None:
    lsf.ctl.down()
    waiting = subprocess.Popen(
        ["bsub", "true"], env=lsf.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert waiting.stderr is not None
    assert waiting.stderr.readline() == "batch system daemon not responding ... still trying\n"
    lsf.ctl.up()
    stdout, _ = waiting.communicate(timeout=30)
    assert stdout == "Job <101> is submitted to default queue <normal>.\n"


@pytest.mark.parametrize("twin", [False, True])
def test_f14_a_rerunnable_job_starts_anew_under_its_id(lsf: FakeLsf, twin: bool, tmp_path: Path) -> None:
    job = running(lsf, "-r", f'echo "$LSB_HOSTS $LSB_RESTART" >> {tmp_path}/starts; sleep 1000')
    old = lsf.job(job)
    lsf.ctl.lose_host("hostA", twin=twin)
    lsf.wait_until(lambda jobs: jobs[-1].start_count == 2 and jobs[-1].state == "RUN" and jobs[-1].pid > 0)
    new = lsf.job(job)
    assert (new.id, old.hosts, new.hosts) == (old.id, ("hostA",), ("hostB",))
    assert is_alive(old.pid) == twin
    assert new.abandoned_pids == ((old.pid,) if twin else ())


def test_f14_a_requeue_keeps_the_id_and_says_run_until_the_job_is_gone(
    lsf: FakeLsf, stubborn: Callable[..., int], fifo: Pipe
) -> None:
    job = stubborn()
    assert lsf.run("brequeue", job).stdout == f"Job <{job}> is being requeued \n"
    assert {fifo.line(), fifo.line()} == {"SIGINT", "SIGCONT"}
    assert lsf.job(job).state == "RUN"
    assert [fifo.line(), fifo.line()] == ["SIGTERM", "ready"]
    again = lsf.wait_for(job, "RUN")
    assert (again.id, again.start_count) == (job, 2)


def test_f14_exit_values_of_the_queue_requeue_too(start: Start, tmp_path: Path) -> None:
    lsf = start(queues=[Queue(name="normal", requeue_exit_values=(99,))])
    job = submit(lsf, f"test -e {tmp_path}/mark || {{ touch {tmp_path}/mark; exit 99; }}")
    ended = lsf.wait_for(job)
    assert (ended.state, ended.start_count) == ("DONE", 2)


def test_f14_rn_is_stronger_than_a_rerunnable_queue(start: Start) -> None:
    lsf = start(queues=[Queue(name="normal", rerunnable=True)])
    plain, refuses = running(lsf), running(lsf, "-rn", *SLEEP)
    host = lsf.job(refuses).hosts[0]
    assert lsf.job(plain).hosts[0] in {"hostA", "hostB"}
    lsf.ctl.lose_host(host)
    assert lsf.wait_for(refuses, "UNKWN").start_count == 1


# F15: the log of calls.


def test_f15_each_call_is_logged_with_its_variables_and_status(lsf: FakeLsf) -> None:
    lsf.run("bsub", "-q", "nosuch", "a b", env={"LSB_NTRIES": "1", "SECRET": "x"})
    (call,) = lsf.invocations("bsub")
    assert (call.argv, call.status) == (("-q", "nosuch", "a b"), 255)
    assert call.environ["LSB_NTRIES"] == "1"
    assert "SECRET" not in call.environ
    assert call.ended is not None
    assert call.ended >= call.started


def test_f15_a_call_that_was_killed_has_no_end(lsf: FakeLsf) -> None:
    lsf.inject("bjobs", "hang")
    with pytest.raises(subprocess.TimeoutExpired):
        lsf.run("bjobs", timeout=0.5)
    (call,) = lsf.invocations("bjobs")
    assert (call.ended, call.status) == (None, None)


def test_f15_what_annoys_an_administrator_is_told(lsf: FakeLsf) -> None:
    lsf.run("bjobs")
    lsf.run("bsub", "-H", "bkill 0 -K")
    lsf.run("bkill", "101")
    lsf.assert_polite(max_status_calls_per=15, max_submits=1)
    lsf.run("bjobs")
    lsf.run("bhist")
    lsf.run("bsub", "-K", "-q", "nosuch", "true")
    lsf.run("bkill")
    lsf.run("bkill", "0")
    with pytest.raises(AssertionError) as told:
        lsf.assert_polite(max_status_calls_per=100_000, max_submits=1)
    complaints = str(told.value).splitlines()
    assert complaints[:3] == [
        "bsub -K -q nosuch true: -K is never for a pool",
        "bkill: no ids",
        "bkill 0: all jobs of the user",
    ]
    assert [re.sub(r"[\d.]+ s after", "N s after", line) for line in complaints[3:]] == [
        "bjobs: N s after bjobs", "bhist: N s after bjobs", "2 submissions, more than 1",
    ]  # fmt: skip


# F16: nothing is left.


def test_f16_the_end_kills_what_runs(tmp_path: Path) -> None:
    with FakeLsf(tmp_path, speed=100) as lsf:
        job = running(lsf, "sleep 1000 & sleep 1000")
        pid = lsf.job(job).pid
        assert is_alive(pid)
    assert not is_alive(pid)
    assert not any(lsf.directory in path.read_bytes().decode(errors="replace") for path in command_lines())


def command_lines() -> Iterator[Path]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (entry / "cmdline").exists() and int(entry.name) != os.getpid():
            yield entry / "cmdline"


def test_f16_a_process_that_outlived_its_job_is_an_error_and_killed(tmp_path: Path, fifo: Pipe) -> None:
    escape = f"setsid sh -c 'echo $$ > {fifo}; exec sleep 1000' > /dev/null 2>&1 & sleep 1000"
    escapee = 0

    def leave_one_behind() -> None:
        nonlocal escapee
        with FakeLsf(tmp_path, speed=100) as lsf:
            job = submit(lsf, escape)
            escapee = int(fifo.line())
            lsf.run("bkill", job)
            lsf.wait_for(job)

    with pytest.raises(
        FakeLsfError, match=r"^outlived their jobs:\nprocess \d+ of job 101 <.*>, which is EXIT: sleep 1000$"
    ):
        leave_one_behind()
    assert not is_alive(escapee)


def test_f16_a_deep_directory_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with FakeLsf(deep, speed=100) as lsf:
        assert lsf.wait_for(submit(lsf, "true")).state == "DONE"
