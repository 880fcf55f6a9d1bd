"""What `dfm doctor --runner slurm` asks, and how it judges the answers."""

from tests.data.slurm.recording import Recording

from dfm.api.batch import CommandOutput, Finding, Probe, Standing
from dfm.runner.slurm.dialect import SlurmDialect
from dfm.runner.slurm.options import SlurmOptions


def probe(name: str, options: SlurmOptions | None = None) -> Probe:
    return next(found for found in SlurmDialect(options or SlurmOptions()).probes() if found.name == name)


def test_C21_what_is_asked() -> None:
    options = SlurmOptions(partition="regr,long", accounting=True)
    asked = {found.name: found.command.argv for found in SlurmDialect(options).probes()}
    assert list(asked) == [
        "sbatch",
        "controller",
        "configuration",
        "squeue",
        "submission",
        "partition regr",
        "partition long",
        "accounting",
    ]
    assert asked["sbatch"] == ("sbatch", "--version")
    assert asked["controller"] == ("scontrol", "ping")
    assert asked["configuration"] == ("scontrol", "show", "config")
    assert asked["submission"][:3] == ("sbatch", "--test-only", "--parsable")
    assert asked["partition regr"] == ("scontrol", "-o", "show", "partition", "regr")
    assert asked["accounting"] == ("sacct", "-n", "-X", "-P", "--starttime=now-1hours", "--format=JobID")


def test_S1_another_clusters_settings_are_asked_of_it() -> None:
    options = SlurmOptions(partition="regr", accounting=True, cluster="east")
    asked = {found.name: found.command.argv for found in SlurmDialect(options).probes()}
    assert asked["configuration"] == ("scontrol", "--clusters=east", "show", "config")
    assert asked["partition regr"] == ("scontrol", "--clusters=east", "-o", "show", "partition", "regr")
    assert asked["accounting"][:2] == ("sacct", "--clusters=east")
    assert asked["squeue"][:2] == ("squeue", "--clusters=east")
    assert "--clusters=east" in asked["submission"]


def test_a_healthy_cluster(recorded: Recording) -> None:
    answers = {
        "sbatch": "sbatch-version",
        "controller": "scontrol-ping",
        "configuration": "scontrol-config",
        "squeue": "squeue-unknown-names",
        "submission": "sbatch-test-only",
        "partition normal": "scontrol-partition",
    }
    findings = [
        found
        for name, told in answers.items()
        for found in probe(name, SlurmOptions(partition="normal")).judge(recorded(told))
    ]
    assert {found.standing for found in findings} == {Standing.OK}
    texts = [found.text for found in findings]
    version = {"22.05": "22.05.8", "24.11": "24.11.5"}[recorded.version]
    assert texts[:4] == [
        f"slurm-wlm {version}",
        "Slurmctld(primary) at head1 is UP",
        f"cluster dfm, SLURM {version}",
        "squeue answers",
    ]
    assert "using 1 processors on nodes n1 in partition normal" in texts[4]
    assert texts[5] == "partition normal is UP, jobs of at most 1-00:00:00 on nodes n[1-4]"


def test_sbatch_that_is_not_installed() -> None:
    assert probe("sbatch").judge(CommandOutput(status=127, stdout="", stderr="")) == [
        Finding(
            standing=Standing.ERROR,
            text="sbatch was not found",
            hint="load SLURM's module, or set the command in runner.slurm",
        )
    ]


def test_a_controller_that_is_down(recorded: Recording) -> None:
    assert probe("controller").judge(recorded("scontrol-ping-down")) == [
        Finding(standing=Standing.ERROR, text="Slurmctld(primary) at head1 is DOWN", hint="the controller is down")
    ]
    [finding] = probe("squeue").judge(recorded("squeue-down"))
    assert finding.standing is Standing.ERROR
    assert finding.hint == "the controller is down, or cannot be reached from this host"


def test_one_of_two_controllers_is_enough() -> None:
    told = "Slurmctld(primary) at a is DOWN\nSlurmctld(backup) at b is UP\n"
    standings = [found.standing for found in probe("controller").judge(CommandOutput(status=0, stdout=told, stderr=""))]
    assert standings == [Standing.WARNING, Standing.OK]


def test_a_partition_that_does_not_exist(recorded: Recording) -> None:
    [finding] = probe("partition nosuch", SlurmOptions(partition="nosuch")).judge(
        recorded("scontrol-partition-unknown")
    )
    assert finding.standing is Standing.ERROR
    assert finding.text.endswith("failed (status 1): Partition nosuch not found")
    assert finding.hint == "set the option partition; `sinfo -s` lists what there is"
    [refused] = probe("submission").judge(recorded("sbatch-rejected-partition"))
    assert refused.standing is Standing.ERROR


def test_a_partition_that_is_down() -> None:
    told = "PartitionName=regr MaxTime=1:00 State=DOWN Nodes=n1\n"
    [finding] = probe("partition regr", SlurmOptions(partition="regr")).judge(
        CommandOutput(status=0, stdout=told, stderr="")
    )
    assert (finding.standing, finding.hint) == (Standing.WARNING, "jobs will wait until it is up")


def test_a_cluster_without_accounting_that_is_asked_for(recorded: Recording) -> None:
    options = SlurmOptions(accounting=True)
    [finding] = probe("accounting", options).judge(recorded("sacct-disabled"))
    assert (finding.standing, finding.hint) == (
        Standing.ERROR,
        "leave the option accounting off: this cluster has none",
    )
    findings = probe("configuration", options).judge(recorded("scontrol-config"))
    assert [found.standing for found in findings] == [Standing.OK, Standing.ERROR]


def test_settings_of_the_cluster_that_would_surprise() -> None:
    told = (
        "MinJobAge = 20 sec\nSelectType = select/linear\nSelectTypeParameters = CR_MEMORY\nDefMemPerNode = UNLIMITED\n"
    )
    options = SlurmOptions(memory_per_core=None)
    findings = probe("configuration", options).judge(CommandOutput(status=0, stdout=told, stderr=""))
    assert [found.text for found in findings[1:]] == [
        "a job that asks for no memory gets its node's whole memory here",
        "each job gets whole nodes here",
        "the controller forgets ended jobs after 20 s (MinJobAge): why a worker ended may stay unknown",
    ]
    assert all(found.hint for found in findings[1:])


def test_an_old_squeue_costs_only_exit_codes(recorded: Recording) -> None:
    # It says so with status 0, or with status 1.
    [finding] = probe("squeue").judge(recorded("squeue-unknown-field"))
    assert finding.standing is Standing.WARNING
    [finding] = probe("squeue").judge(recorded("squeue-unknown-option"))
    assert finding.standing is Standing.WARNING


def test_no_answer_in_time() -> None:
    [finding] = probe("controller").judge(CommandOutput(status=143, stdout="", stderr="", is_timed_out=True))
    assert (finding.standing, finding.text) == (Standing.ERROR, "scontrol ping gave no answer in 60 s")
