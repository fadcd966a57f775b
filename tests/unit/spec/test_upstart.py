"""Checklist §1.2: the 35 stanzas, and the corpus of jobs that others wrote."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostlab.errors import SpecError
from hostlab.spec.condition import parse_condition, print_condition
from hostlab.spec.job import (
    DEFAULT_UMASK,
    UNLIMITED,
    Cgroup,
    Console,
    Expect,
    Job,
    KillMode,
    Process,
    ResourceLimit,
    Said,
    Step,
    same_but_places,
)
from hostlab.spec.stanzas import STANZAS
from hostlab.spec.upstart import (
    MAX_ERRORS,
    MAX_STANZAS,
    apply_override,
    find_errors,
    find_remarks,
    job_name,
    load_conf,
)

pytestmark = pytest.mark.unit

FUZZ = int(os.environ.get("HOSTLAB_FUZZ", "60"))
SHARED = os.environ.get("HOSTLAB_SHARED", str(Path(__file__).parents[3] / "../shared"))
CORPUS = Path(SHARED, "corpus/upstart-jobs").resolve()


def load(text: str) -> Job:
    return load_conf(text, file="t.conf", name="t")


def failure(text: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        load(text)
    assert caught.value.where is not None
    return caught.value


def test_there_are_35_stanzas() -> None:
    assert len(STANZAS) == 35


def test_text_stanzas() -> None:
    job = load(
        'description "a b"\nauthor me\nversion "1.2"\nusage "VAR=x"\ninstance $VAR\n'
        "chroot /c\nchdir /d\nsetuid u\nsetgid g\n"
    )
    assert (job.description, job.author, job.version, job.usage) == ("a b", "me", "1.2", "VAR=x")
    assert (job.instance, job.chroot, job.directory) == ("$VAR", "/c", "/d")
    assert (job.user, job.group) == ("u", "g")


def test_exec_and_script_replace_each_other() -> None:
    assert load("exec a\nscript\nb\nend script\n").process(Step.MAIN) == Process(script="b\n")
    assert load("script\nb\nend script\nexec a\n").process(Step.MAIN) == Process(exec="a")
    assert load("description x\n").process(Step.MAIN) is None


@pytest.mark.parametrize("step", [Step.PRE_START, Step.POST_START, Step.PRE_STOP, Step.POST_STOP])
def test_every_step_is_exec_or_script(step: Step) -> None:
    assert load(f"{step} exec a 'b'\n").process(step) == Process(exec="a 'b'")
    assert load(f"{step} script\n a\nend script\n").process(step) == Process(script="a\n")
    assert failure(f"{step} run a\n").message == f"unknown stanza '{step} run'"


def test_expect_stop_fork_daemon_none() -> None:
    for word in ("stop", "fork", "daemon", "none"):
        assert load(f"expect {word}\n").readiness.kind is Expect(word)
    error = failure("task\nexpect WHAT\n")
    assert str(error.where) == "t.conf:2:8"


def test_expect_kinds_of_our_own() -> None:
    job = load("expect fd 3\nexpect timeout 10\n")
    assert (job.readiness.kind, job.readiness.fd, job.readiness.deadline_s) == (Expect.FD, 3, 10.0)
    assert load("expect port 80\n").readiness.port == 80
    assert load("expect file /run/x\n").readiness.path == "/run/x"
    assert load("expect notify\n").readiness.kind is Expect.NOTIFY


def test_respawn_alone_sets_the_flag_and_limit_does_not() -> None:
    assert load("respawn\n").respawn.enabled
    limited = load("respawn limit 3 7\n").respawn
    assert (limited.enabled, limited.limit, limited.interval_s) == (False, 3, 7.0)
    default = load("respawn\n").respawn
    assert (default.limit, default.interval_s) == (10, 5.0)
    unlimited = load("respawn limit unlimited\n").respawn
    assert (unlimited.limit, unlimited.interval_s) == (0, 0.0)
    assert failure("respawn limit 3\n").message == "expected token"
    assert failure("respawn limit -3 1\n").message == "illegal limit '-3'"


def test_respawn_delay_is_ours() -> None:
    respawn = load("respawn delay 1 60\n").respawn
    assert (respawn.enabled, respawn.delay_min_s, respawn.delay_max_s) == (False, 1.0, 60.0)
    assert "illegal delay" in failure("respawn delay 5 1\n").message


def test_kill_and_reload() -> None:
    assert (load("").kill.timeout_s, load("").kill.signal, load("").reload_signal) == (5.0, 15, 1)
    job = load("kill timeout 20\nkill signal INT\nreload signal SIGUSR1\nkill mode mixed\n")
    assert (job.kill.timeout_s, job.kill.signal, job.reload_signal) == (20.0, 2, 10)
    assert job.kill.mode is KillMode.MIXED
    assert load("kill signal 34\n").kill.signal == 34
    assert failure("kill signal WHAT\n").message == "illegal signal 'WHAT'"
    assert failure("kill timeout 1s\n").message == "illegal interval '1s'"


def test_normal_exit_keeps_signals_as_signum_shifted() -> None:
    job = load("normal exit 0 2 TERM\nnormal exit SIGHUP\n")
    assert job.normal_exit == (0, 2, 15 << 8, 1 << 8)
    assert failure("normal exit\n").message == "expected token"


def test_console_kinds_and_default_log() -> None:
    assert load("").console is Console.LOG
    for word in ("none", "output", "owner", "log"):
        assert load(f"console {word}\n").console is Console(word)


def test_umask_nice_oom() -> None:
    assert load("").umask is None
    assert DEFAULT_UMASK == 0o022
    assert load("umask 0077\n").umask == 0o077
    assert failure("umask 1000\n").message == "illegal umask '1000'"
    assert failure("umask 8\n").message == "illegal umask '8'"
    assert load("nice -20\n").nice == -20
    assert failure("nice 20\n").message == "illegal nice value '20'"
    assert load("oom score -1000\n").oom_score_adj == -1000
    assert load("oom score never\n").oom_score_adj == -1000
    assert load("oom never\n").oom_score_adj == -1000
    assert load("oom -17\n").oom_score_adj == -1000
    assert load("oom 15\n").oom_score_adj == 1000
    assert load("oom -16\n").oom_score_adj == -941
    assert failure("oom 16\n").message == "illegal oom adjustment '16'"


def test_limits_accumulate_by_resource() -> None:
    job = load("limit nofile 1 2\nlimit core unlimited 0\nlimit nofile 3 unlimited\nlimit as 9\n")
    assert job.limits == (
        ResourceLimit(resource="core", soft=UNLIMITED, hard=0),
        ResourceLimit(resource="nofile", soft=3, hard=UNLIMITED),
        ResourceLimit(resource="as", soft=9, hard=9),
    )
    assert failure("limit files 1 2\n").message == "unknown resource 'files'"


def test_cgroup_is_told_apart_by_argument_count() -> None:
    job = load("cgroup cpu\ncgroup cpu n\ncgroup cpu k v\ncgroup cpu n k v\n")
    assert job.cgroups == (
        Cgroup(controller="cpu"),
        Cgroup(controller="cpu", name="n"),
        Cgroup(controller="cpu", key="k", value="v"),
        Cgroup(controller="cpu", name="n", key="k", value="v"),
    )
    assert failure("cgroup a b c d e\n").message == "unexpected token 'e'"


def test_apparmor_load_is_the_security_process() -> None:
    job = load("apparmor load /etc/p\napparmor switch $P\n")
    assert job.process(Step.SECURITY) == Process(exec="/sbin/apparmor_parser -r -W /etc/p")
    assert job.apparmor_switch == "$P"


def test_manual_forgets_a_start_on_above_it_only() -> None:
    assert load("start on a\nmanual\n").start_on is None
    assert load("start on a\nmanual\n").manual
    again = load("manual\nstart on a\n")
    assert again.start_on == parse_condition("a")
    assert not again.manual


def test_manual_and_debug_do_not_look_at_their_line() -> None:
    assert load("debug task\n").task
    assert failure("manual please\n").message == "unknown stanza 'please'"


def test_env_export_and_emits_accumulate() -> None:
    job = load("env A=1\nenv B=x=y\nenv A=2\nenv C\nexport A B\nexport C\nemits e f*\nemits g\n")
    assert job.environment == (("A", "2"), ("B", "x=y"))
    assert job.inherit == ("C",)
    assert job.export == ("A", "B", "C")
    assert job.emits == ("e", "f*", "g")


def test_env_without_value_takes_back_one_with() -> None:
    job = load("env A=1\nenv A\n")
    assert (job.environment, job.inherit) == ((), ("A",))
    job = load("env A\nenv A=1\n")
    assert (job.environment, job.inherit) == ((("A", "1"),), ())


def test_a_stanza_said_twice_counts_the_second_time() -> None:
    assert load("description a\ndescription b\n").description == "b"
    assert load("start on a\nstart on b\n").start_on == parse_condition("b")


def test_an_unknown_stanza_rejects_the_file_with_a_hint() -> None:
    error = failure("exec a\n  respwan\n")
    assert str(error.where) == "t.conf:2:3"
    assert error.hint == "did you mean 'respawn'?"


def test_the_name_of_a_stanza_may_stand_in_quotes_its_second_word_may_not() -> None:
    assert load('"exec" a\n').process(Step.MAIN) == Process(exec="a")
    assert failure('start "on" a\n').message == "unknown stanza 'start \"on\"'"


def test_a_file_has_a_bounded_number_of_stanzas() -> None:
    assert failure("task\n" * (MAX_STANZAS + 1)).message == "more than 10000 stanzas"


def test_every_stanza_knows_its_line() -> None:
    job = load("# c\n\nstart on (a\n  or b)\nexec x\n")
    assert job.said == (
        Said(stanza="start on", file="t.conf", line=3),
        Said(stanza="exec", file="t.conf", line=5),
    )


def test_override_is_laid_over() -> None:
    job = load_conf(
        "start on a\nenv A=1\nexec x\n",
        file="t.conf",
        name="t",
        override=("manual\nenv B=2\n", "t.override"),
    )
    assert (job.start_on, job.manual, job.exec) == (None, True, "x")
    assert job.environment == (("A", "1"), ("B", "2"))


def test_override_error_names_the_override() -> None:
    job = load("exec x\n")
    with pytest.raises(SpecError) as caught:
        apply_override(job, "exec\n", file="t.override")
    assert str(caught.value.where) == "t.override:1:5"


def test_every_error_of_a_file_is_found_and_the_first_is_what_loading_raises() -> None:
    text = (
        "respwn\nexec\nnice 99 # too much\nrespwan\n"
        "start on (a\n  and)\ntask x\nexec fine\npre-strat exec x\n"
    )
    errors = find_errors(text, file="t")
    places = [str(error.where) for error in errors]
    assert places == ["t:1:1", "t:2:5", "t:3:6", "t:4:1", "t:6:6", "t:7:6", "t:9:1"]
    assert str(errors[0]) == str(failure(text)).replace("t.conf", "t")


def test_what_follows_a_script_without_a_beginning_is_not_reported() -> None:
    text = (
        "pre-start if\n  if true; then\n    nohup x\n  fi\nend script\nunknwon\nexec x\nunknwon\n"
    )
    assert [str(error.where) for error in find_errors(text, file="t")] == ["t:1:11", "t:8:1"]


def test_a_misspelt_stanza_that_only_documents_is_a_remark() -> None:
    text = 'decription "mail"\nexec x\n'
    assert load(text).description == "mail"
    (remark,) = find_remarks(text, file="t")
    assert str(remark.where) == "t:1:1"
    assert "respwan" in failure("respwan\nexec x\n").message


def test_a_step_that_forgot_its_script_is_a_remark_where_its_end_is_said() -> None:
    text = "exec x\npre-start\n  if a; then\n    stop\n  fi\nend script\n"
    assert load(text).process(Step.PRE_START) == Process(script="if a; then\n  stop\nfi\n")
    (remark,) = find_remarks(text, file="t")
    assert str(remark.where) == "t:2:1"


@pytest.mark.parametrize("rest", ["", "  x\n", "script\n  x\nend script\n"])
def test_a_step_without_its_script_is_an_error_where_no_end_is_its_own(rest: str) -> None:
    assert str(failure(f"pre-start\n{rest}").where) == "t.conf:1:10"


def test_after_an_error_at_a_line_s_end_the_next_line_is_read() -> None:
    assert [str(error.where) for error in find_errors("start on a and\nnice x\n", file="t")] == [
        "t:2:1",
        "t:2:6",
    ]


def test_errors_at_the_end_and_without_end_are_bounded() -> None:
    assert find_errors("exec a\n", file="t") == ()
    assert [str(e.where) for e in find_errors("nice 1\nscript\nx\n", file="t")] == ["t:2:1"]
    assert [str(e.where) for e in find_errors('author "a', file="t")] == ["t:1:8"]
    assert len(find_errors("nice a\n" * 200, file="t")) == MAX_ERRORS
    assert len(find_errors("task\n" * (MAX_STANZAS + 1), file="t")) == 1


def test_job_name_is_the_path_without_suffix() -> None:
    assert job_name("net/apache.conf") == "net/apache"
    assert job_name("net/apache.override") == "net/apache"


def corpus() -> list[Path]:
    if not CORPUS.is_dir():
        pytest.skip("the corpus ../shared/corpus/upstart-jobs is not here")
    return sorted(path for path in CORPUS.rglob("*.conf") if path.name != "mdev.conf")


def test_corpus_is_read_or_rejected_at_the_right_line() -> None:
    rejected: dict[str, tuple[int, str]] = {}
    paths = corpus()
    for path in paths:
        name = str(path.relative_to(CORPUS))
        try:
            load_conf(path.read_text(), file=name, name=job_name(name))
        except SpecError as error:
            if error.where:
                rejected[name] = (error.where.line, error.where.text)
    assert len(paths) == 656
    assert rejected == {
        "broken/dbeacon-instance.conf": (6, "expect WHAT"),
        "broken/restorecond.conf": (7, "expect WHAT"),
        "broken/tarantool-instance.conf": (19, "expect WHAT"),
        "speech-dispatcher.conf": (6, "expect WHAT"),
        "syslog/nxlog.conf": (8, "expect #TODO"),
    }


def test_corpus_expressions_are_equal_printed_and_read_again() -> None:
    seen = 0
    for path in corpus():
        try:
            job = load_conf(path.read_text(), file=str(path), name=path.stem)
        except SpecError:
            continue
        for condition in filter(None, (job.start_on, job.stop_on)):
            assert parse_condition(print_condition(condition)) == condition
            seen += 1
    assert seen > 1000


def test_places_do_not_make_jobs_differ() -> None:
    assert same_but_places(load("\nexec x\n"), load("exec x\n"))


LINES = st.one_of(
    st.sampled_from([*STANZAS, "on", "end script", "script", "limit", "exit", "and", "(", ")"]),
    st.text(st.sampled_from(" \t\n\\\"'#ab1$()=-"), max_size=6),
)


@settings(max_examples=FUZZ)
@given(st.lists(LINES, max_size=30), st.sampled_from([" ", "\n"]))
def test_every_text_is_a_job_or_an_error_with_a_place(parts: list[str], glue: str) -> None:
    text = glue.join(parts)
    where = None
    job = Job(name="none")
    try:
        job = load(text)
    except SpecError as error:
        where = error.where
        lines = where.line if where else 0
        assert 1 <= lines <= text.count("\n") + 1
    found = find_errors(text, file="t.conf")
    assert (found[0].where if found else None) == where
    for condition in filter(None, (job.start_on, job.stop_on)):
        assert parse_condition(print_condition(condition)) == condition
