"""Every text of the fake, and the exit statuses that go with them: the one file to hold against the real commands.

Marks of where a text comes from: [IBM] the manual of Spectrum LSF 10.1 or an older Platform LSF, [VOLC] seen on
volclava 2.2 (an open-source descendant), [site] reported by users of a site, [free] worded here because no source had
it: nothing may depend on a [free] text. Fields in braces are filled in by `str.format`.
"""

# What bsub says when it accepts.
SUBMITTED_DEFAULT = "Job <{id}> is submitted to default queue <{queue}>."  # [VOLC] [IBM] stdout
SUBMITTED = "Job <{id}> is submitted to queue <{queue}>."  # [VOLC] [IBM] stdout; with -q or LSB_DEFAULTQUEUE
SCHEDULED_AFTER = "Job will be scheduled after {ctime}"  # [VOLC] [IBM] stderr, with -b
WAITING_FOR_DISPATCH = "<<Waiting for dispatch ...>>"  # [VOLC] stderr, with -K and -I
STARTING_ON = "<<Starting on {host}>>"  # [VOLC] stderr, with -I
JOB_IS_FINISHED = "<<Job is finished>>"  # [VOLC] stderr, with -K
TERMINATED_WHILE_PENDING = "<<Terminated while pending>>"  # [VOLC] stderr, with -K and -I; status 126
STATUS_TERMINATED_WHILE_PENDING = 126
PACK_LINE = "Line#{line} {text}"  # [VOLC] both streams
PACK_SUMMARY = "{lines} lines parsed, {submitted} jobs submitted, {errors} errors found."  # [VOLC] stdout, status 0

# bsub: refused. Whatever the reason: status 255, stdout empty, stderr `<reason>. Job not submitted.` [VOLC] [IBM]
STATUS_REFUSED = 255
NOT_SUBMITTED = "{reason}. Job not submitted."
NO_SUCH_QUEUE = "{queue}: No such queue"  # [VOLC] [site]
USER_CANNOT_USE_QUEUE = "{queue}: User cannot use the queue"  # [VOLC]
QUEUE_IS_CLOSED = "{queue}: Queue has been closed"  # [VOLC] lsb.err
BAD_RESREQ = "Bad resource requirement syntax"  # [VOLC]
DUPLICATE_SECTION = 'Error near "{section}" : duplicate section'  # [site]
ERROR_IN_SELECT = 'Error in select section: Expected number, string, name, or "("'  # [site]
ERROR_IN_RUSAGE = "Error in rusage section"  # [site]
AMPERSAND_ALONE = "'&' cannot be used in the resource requirement section"  # [site]
TOO_MANY_PROCESSORS = "Too many processors requested"  # [VOLC] [site]
EXCEEDS_QUEUE_LIMIT = "{limit}: Cannot exceed queue's hard limit(s)"  # [VOLC] [IBM]; RUNLIMIT, MEMLIMIT
BAD_LIMIT = "{value}: Bad {limit} specification"  # [VOLC]; RUNLIMIT, MEMLIMIT, CPULIMIT
BAD_PROCESSORS = "{value}: Bad processor count specification"  # [free]
BAD_ARGUMENT = "{value}: Bad argument for option -{option}"  # [free]
BAD_DEPENDENCY = "Bad dependency condition"  # [free]
BAD_JOB_NAME = "{value}: Bad job name or array specification"  # [free]
ARRAY_TOO_LARGE = "Job array index too large"  # [free]
NO_SUCH_HOST = "{host}: Bad host name, host group name or cluster name"  # [VOLC] lsb.err
NO_SERVICE_CLASS = "Service class does not exist"  # [site]
PROJECT_REQUIRED = "Project name must be specified using bsub -P"  # [site]
REQUEST_ABORTED_BY_ESUB = "Request aborted by esub"  # [VOLC]; free text of the site comes before it
EMPTY_COMMAND = "No command is specified"  # [free]
PACK_IS_OFF = "Job packs are not enabled"  # [free]; LSB_MAX_PACK_JOBS=0, the default [IBM]
# [VOLC] stderr
PENDING_THRESHOLD = "User <{user}>: Pending job threshold reached. Retrying in {seconds} seconds..."
PENDING_THRESHOLD_FINAL = "User <{user}>: Pending job threshold reached"  # [free]; the last of LSB_NTRIES tries
PENDING_THRESHOLD_TRIES = 6  # [VOLC] gives up; IBM tries for ever

# the system is away or busy
DAEMON_NOT_RESPONDING = "batch system daemon not responding ... still trying"  # [VOLC] stderr, every 10 s, for ever
CONNECTION_REFUSED = "Connection refused by server"  # [VOLC] stderr, 255, once LSB_NTRIES tries are over
LSF_IS_DOWN = "LSF is down. Please wait ..."  # [IBM] [site] stderr
LSF_IS_DOWN_TIMES = 4  # [site]
CANNOT_CONNECT = "Cannot connect to LSF. Please wait ..."  # [IBM]; seen on stdout too [site]
NON_LSF_HOST = "Request from non-LSF host rejected"  # [site] stderr, 255, several times
NON_LSF_HOST_TIMES = 3
QUERY_LIMIT = "Batch system concurrent job query limit exceeded"  # [IBM] stderr
LIBRARY_CALL_FAILED = "Failed in an LSF library call: Communication timeout"  # [site] stderr, 255
STATUS_AWAY = 255

# noise of wrappers and esubs [site]
NOISE_PROJECT = "Job is submitted to <{project}> project."
ESUB_TEXT = "Returning output by mail is not supported on this cluster. Please use the -o option."

# bjobs
BJOBS_HEADER = "JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME"  # [IBM] [VOLC]
BJOBS_WIDTHS = (7, 7, 5, 10, 11, 11, 10, 12)  # of the columns above; one blank between them
NOT_FOUND = "Job <{job}> is not found"  # [VOLC] [IBM] stderr
ARRAY_NOT_FOUND = "Job array <{job}> is not found"  # [VOLC] stderr, for -J with an index
NO_UNFINISHED = "No unfinished job found"  # [VOLC] [IBM] stderr
NO_JOB = "No job found"  # [VOLC] stderr, with -a
NO_RUNNING = "No running job found"  # [VOLC] -r
NO_PENDING = "No pending job found"  # [VOLC] -p
NO_SUSPENDED = "No suspended job found"  # [VOLC] -s
NO_FINISHED = "No DONE/EXIT job found"  # [VOLC] -d
BAD_FIELD = "<{field}> in the format string is not a valid field name."  # [VOLC] stderr
STATUS_BAD_FIELD = 99
JSON_NEEDS_FORMAT = "bjobs: -json is used with -o and without -noheader"  # [free]
# Exit status by dialect: (none found of one id, some not found of several, no ids and nothing live) [VOLC] [IBM]
BJOBS_STATUS = {
    "ibm10": (0, 255, 0),  # the manual's text and its example disagree about the first; params.bjobs_not_found_status
    "ibm9": (0, 255, 0),
    "ibm10-consistent": (255, 255, 255),  # LSB_BJOBS_CONSISTENT_EXIT_CODE=Y
    "volclava": (255, 255, 254),
}
PEND_REASONS = {  # [IBM] [VOLC], abridged
    "new": "New job is waiting for scheduling",
    "slots": "Job slot limit reached",
    "hosts": "Not enough hosts to meet the job's spanning requirement",
    "resources": "Job's requirements for resource reservation not satisfied",
    "select": "Job's resource requirements not satisfied",
    "queue": "The queue is inactivated by its administrator",
    "held": "Job was suspended by the user while pending",
    "accept": "Just started a job recently",
    "array": "The job array has reached its running element limit",
    "depend": "Job dependency condition not satisfied",
    "begin": "The job has a specified start time",
    "requeued": "Requeued the job for the next run",
}
SUSPEND_REASONS = {
    "user": "The job was suspended by user",
    "system": "The job was preempted by a higher priority job",
}

# bkill, bstop, bresume, brequeue
BEING_TERMINATED = "Job <{job}> is being terminated"  # [VOLC] stdout; no -s, or KILL
BEING_SIGNALED = "Job <{job}> is being signaled"  # [VOLC] stdout; other -s
BEING_STOPPED = "Job <{job}> is being stopped"  # [VOLC] stdout
BEING_RESUMED = "Job <{job}> is being resumed"  # [VOLC] stdout
BEING_REQUEUED = "Job <{job}> is being requeued "  # [VOLC] stdout, with the blank
ALREADY_FINISHED = "Job <{job}>: Job has already finished"  # [VOLC] stderr
NO_MATCHING_JOB = "Job <{job}>: No matching job found"  # [VOLC] stderr
IN_PROGRESS = "Job <{job}>: Operation is in progress"  # [VOLC] stderr
NOT_STARTED = "Job <{job}>: Job has not started yet"  # [free]
CANNOT_REQUEUE = "Job <{job}>: Job cannot be requeued"  # [free]
NOTHING_TO_KILL = "No match unfinished job found"  # [free] stderr; bkill 0 or -J with nothing live
BAD_SIGNAL = "{value}: Bad signal name or number"  # [free]
STATUS_ANY_FAILED = 255

# bhist, bacct, bpeek
NO_HISTORY = "No matching job found"  # [VOLC] *stdout*, status 255
STATUS_NO_HISTORY = 255
BHIST_HEADER = "Summary of time in seconds spent in various states:"
BHIST_COLUMNS = "JOBID   USER    JOB_NAME  PEND    PSUSP   RUN     USUSP   SSUSP   UNKWN   TOTAL"
HISTORY_WIDTH = 80  # bhist -l wraps here, in the midst of words
HISTORY_INDENT = " " * 21
EVENT_SUBMITTED = "Submitted from host <{host}>, to Queue <{queue}>, CWD <{cwd}>"
EVENT_DISPATCHED = "Dispatched to <{host}>"
EVENT_STARTING = "Starting (Pid {pid})"
EVENT_RUNNING = "Running with execution home <{home}>, Execution CWD <{cwd}>, Execution Pid <{pid}>"
EVENT_SIGNAL = "Signal <{signal}> requested by user or administrator <{user}>"
EVENT_EXIT_CODE = "Exited with exit code {code}. The CPU time used is {cpu:.1f} seconds"
EVENT_EXIT_SIGNAL = "Exited by signal {signal}. The CPU time used is {cpu:.1f} seconds"
EVENT_EXITED = "Exited"
EVENT_FORCED = "Exited; job has been forced to exit with unknown exit status"
EVENT_DONE = "Done successfully. The CPU time used is {cpu:.1f} seconds"
EVENT_UNKNOWN = "Unknown; unable to reach the execution host"
EVENT_RUNNING_AGAIN = "Running"
EVENT_SUSPENDED = "Suspended: {reason}"
EVENT_PENDING = "Pending: {reason}"
EVENT_COMPLETED = "Completed <{state}>"
EVENT_COMPLETED_REASON = "Completed <exit>; {reason}"
NO_BPEEK = "Job <{job}> : Not yet started."  # [free]

# how a job ended: keyword, number in lsb.acct, words [IBM]
TERM_REASONS = {
    "TERM_PREEMPT": (1, "job killed after preemption"),
    "TERM_WINDOW": (2, "job killed after queue run window is closed"),
    "TERM_LOAD": (3, "job killed after load exceeds threshold"),
    "TERM_OTHER": (4, "member of a chunk job in WAIT state killed and requeued after being switched to another queue"),
    "TERM_RUNLIMIT": (5, "job killed after reaching LSF run time limit"),
    "TERM_DEADLINE": (6, "job killed after deadline expires"),
    "TERM_PROCESSLIMIT": (7, "job killed after reaching LSF process limit"),
    "TERM_FORCE_OWNER": (8, "job killed by owner without time for cleanup"),
    "TERM_FORCE_ADMIN": (9, "job killed by root or LSF administrator without time for cleanup"),
    "TERM_REQUEUE_OWNER": (10, "job killed and requeued by owner"),
    "TERM_REQUEUE_ADMIN": (11, "job killed and requeued by root or LSF administrator"),
    "TERM_CPULIMIT": (12, "job killed after reaching LSF CPU usage limit"),
    "TERM_CHKPNT": (13, "job killed after checkpointing"),
    "TERM_OWNER": (14, "job killed by owner"),
    "TERM_ADMIN": (15, "job killed by root or LSF administrator"),
    "TERM_MEMLIMIT": (16, "job killed after reaching LSF memory usage limit"),
    "TERM_EXTERNAL_SIGNAL": (17, "job killed by a signal external to LSF"),
    "TERM_ZOMBIE": (19, "job exited while LSF is not available"),
    "TERM_SWAP": (20, "job killed after reaching LSF swap usage limit"),
    "TERM_THREADLIMIT": (21, "job killed after reaching LSF thread limit"),
    "TERM_CWD_NOTEXIST": (25, "current working directory is not accessible or does not exist on the execution host"),
    "TERM_REMOVE_HUNG_JOB": (26, "job removed from the LSF system after reaching a job runtime limit"),
    "TERM_ORPHAN_SYSTEM": (27, "orphan job terminated by LSF"),
    "TERM_PRE_EXEC_FAIL": (28, "job killed after reaching pre-execution retry limit"),
    "TERM_RC": (34, "job killed by LSF when an LSF resource connector host is reclaimed"),
}
STATUS_CWD_NOTEXIST = 2  # with LSB_EXIT_IF_CWD_NOTEXIST=Y [IBM]
STATUS_NOT_ON_HOST = 127
NOT_ON_HOST = "{job_file}: line 8: {path}: No such file or directory"  # [site], the job's own stderr

# the report at the head of the -o file [VOLC] [IBM]
REPORT = """Sender: LSF System <root@{host}>
Subject: Job {job}: <{name}> in cluster <{cluster}> {outcome}

Job <{name}> was submitted from host <{from_host}> by user <{user}> in cluster <{cluster}>.
Job was executed on host(s) <{hosts}>, in queue <{queue}>, as user <{user}> in cluster <{cluster}>.
<{home}> was used as the home directory.
<{cwd}> was used as the working directory.
Started at {started}
Results reported at {finished}

Your job looked like:

------------------------------------------------------------
# LSBATCH: User input
{command}
------------------------------------------------------------

{verdict}

Resource usage summary:

    CPU time   : {cpu:10.2f} sec.
    Max Memory : {memory_mb:10d} MB
    Max Processes  : {processes:6d}

"""
SUBJECT_DONE = "Done"
SUBJECT_EXITED = "Exited"
VERDICT_DONE = "Successfully completed."
VERDICT_CODE = "Exited with exit code {code}."
VERDICT_SIGNAL = "Exited by signal {signal}."
OUTPUT_FOLLOWS = "The output (if any) follows:\n\n"
OUTPUT_ABOVE = "The output (if any) is above this job summary.\n\n"
OUTPUT_STDERR = "\n\nPS:\n\nRead file <{path}> for stderr output of this job.\n\n"

# lsid, bhosts, bqueues, ...
PRODUCT = {
    "ibm10": "IBM Spectrum LSF Standard 10.1.0.12, Dec 15 2021",
    "ibm10-consistent": "IBM Spectrum LSF Standard 10.1.0.12, Dec 15 2021",
    "ibm9": "Platform LSF Standard 9.1.3.0, Jul 04 2014",
    "volclava": "volclava project 2.2, Jan 01 2025",
}
LSID = "{product}\n\nMy cluster name is {cluster}\nMy master name is {master}"
BHOSTS_HEADER = "HOST_NAME          STATUS       JL/U    MAX  NJOBS    RUN  SSUSP  USUSP    RSV "
BHOSTS_ROW = "{name:<18} {status:<14} -   {max:>4}   {njobs:>4}   {run:>4}   {ssusp:>4}   {ususp:>4}   {rsv:>4}"
BQUEUES_HEADER = "QUEUE_NAME      PRIO STATUS          MAX JL/U JL/P JL/H NJOBS  PEND   RUN  SUSP "
BQUEUES_ROW = "{name:<15} {prio:>3}  {status:<14}    -    -    -    - {njobs:>5} {pend:>5} {run:>5} {susp:>5}"
BUSERS_HEADER = "USER/GROUP          JL/P    MAX  NJOBS   PEND    RUN  SSUSP  USUSP    RSV "
BUSERS_ROW = "{name:<19}    -      - {njobs:>6} {pend:>6} {run:>6} {ssusp:>6} {ususp:>6}      0"
LSCLUSTERS_HEADER = "CLUSTER_NAME   STATUS   MASTER_HOST               ADMIN    HOSTS  SERVERS"
LSCLUSTERS_ROW = "{name:<14} ok       {master:<25} {admin:<8} {hosts:>5} {hosts:>8}"
NO_QUERY_QUEUE = "{queue}: No such queue"

# usage: stderr, status 255 [VOLC]
STATUS_USAGE = 255
UNKNOWN_OPTION = "{command}: unrecognized option '{option}'"  # [free]
OPTION_NEEDS_VALUE = "{command}: option requires an argument -- '{option}'"  # [free]
USAGE = {
    "bsub": "Usage: bsub [-h] [-V] [-H] [-x] [-r] [-B] [-N] [-I] [-K] [-q queue_name ...] [-n min_proc[,max_proc]] "
    "[-R res_req] [-M mem_limit] [-W [hour:]minute] [-J job_name] [-o out_file] [-e err_file] [-P project_name] "
    "command [argument ...]",
    "bjobs": "Usage: bjobs [-h] [-V] [-w|-l] [-a] [-d] [-p] [-s] [-r] [-J job_name] [-q queue_name] [-u user_name] "
    '[-o "field_name ..."] [jobId ...]',
    "bkill": "Usage: bkill [-h] [-V] [-r] [-s signal_value|signal_name] [-J job_name] [-q queue_name] [0 | jobId ...]",
    "bstop": "Usage: bstop [-h] [-V] [-J job_name] [0 | jobId ...]",
    "bresume": "Usage: bresume [-h] [-V] [-J job_name] [0 | jobId ...]",
    "brequeue": "Usage: brequeue [-h] [-V] [-J job_name] [-d] [-e] [-r] [-a] [-H] [jobId ...]",
    "bhist": "Usage: bhist [-h] [-V] [-l] [-w] [-a] [-d] [-n num_logfiles] [-J job_name] [jobId ...]",
    "bacct": "Usage: bacct [-h] [-V] [-l] [-d] [-e] [jobId ...]",
    "bpeek": "Usage: bpeek [-h] [-V] [-f] [jobId]",
    "bhosts": "Usage: bhosts [-h] [-V] [-w] [host_name ...]",
    "bqueues": "Usage: bqueues [-h] [-V] [-w] [-l] [-u user_name] [queue_name ...]",
    "busers": "Usage: busers [-h] [-V] [-w] [user_name ... | all]",
    "bparams": "Usage: bparams [-h] [-V] [-l] [-a]",
    "badmin": "Usage: badmin showconf mbd | qopen|qclose|qact|qinact queue_name | hopen|hclose host_name | mbdrestart",
    "lsadmin": "Usage: lsadmin showconf lim",
    "lsid": "Usage: lsid [-h] [-V]",
    "lsclusters": "Usage: lsclusters [-h] [-V] [-w]",
}

# shapes of longer answers [IBM] [VOLC], abridged
TIME_SHORT = "%b %e %H:%M"  # SUBMIT_TIME
TIME_EVENT = "%a %b %e %H:%M:%S"  # bjobs -l, bhist -l
TIME_CTIME = "%a %b %e %H:%M:%S %Y"
JOB_INTRODUCTION = "Job <{job}>, Job Name <{name}>, User <{user}>, Project <{project}>"
PEEK_STDOUT = "<< output from stdout >>\n"
EXEC_HOST_SEVERAL = "{count}*{host}"
RUN_TIME = "{seconds:.0f} second(s)"
TIME_LEFT = "{hours:.0f}:{minutes:.0f} L"
BACCT_SUMMARY = (
    "Accounting information about jobs that are:\n  - submitted by users {user},\n  - completed normally or exited"
)
BACCT_TOTALS = " Total number of done jobs: {done:>6}      Total number of exited jobs: {exited:>5}"
BQUEUES_LONG = """
QUEUE: {name}
  -- {name} queue.

PARAMETERS/STATISTICS
PRIO NICE STATUS          MAX JL/U JL/P JL/H NJOBS  PEND   RUN SSUSP USUSP  RSV
 {prio}    0  {status:<14}    -    -    -    - {njobs:>5} {pend:>5} {run:>5} {ssusp:>5} {ususp:>5}    0
{limits}
USERS: {users}
HOSTS:  {hosts}
{extra}"""
BPARAMS = """Default Queues:  {queue}
MBD_SLEEP_TIME used for calculations:  {mbd:g} seconds
Job Checking Interval:  {sbd:g} seconds
Job Accepting Interval:  {accept:g} seconds"""
SHOWCONF = "{daemon} configuration at {ctime}\n"
DONE_WELL = "{what} is {state}"  # badmin qclose and the like [free]
UNIT_WORDS = {"K": "Kbytes", "M": "Mbytes", "G": "Gbytes"}
