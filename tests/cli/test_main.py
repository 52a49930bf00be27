"""The command line as a whole: its table of commands, its choices, Ctrl-C, and texts that would act on a terminal."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import unicodedata
from dataclasses import replace
from pathlib import Path

import duckdb
import filelock
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Reporter
from corrsteer_core.base.terminal import LONGEST_MESSAGE, message, printable, shortened
from corrsteer_core.cli import choices, main
from corrsteer_core.cli.command import Command, no_arguments
from corrsteer_core.cli.printing import human
from corrsteer_core.cli.table import COMMANDS
from corrsteer_core.correlation.rankings import RANKINGS
from corrsteer_core.engine.export_formats import FORMATS
from corrsteer_core.method import collecting
from corrsteer_core.runs import strategies
from corrsteer_core.runs.poolings import POOLINGS, Pooling
from corrsteer_core.runs.predictions import PREDICTED
from corrsteer_core.saes.presets import PRESETS
from corrsteer_core.storage.database import connect
from corrsteer_core.tasks import JUDGES, SCORERS, TASKS
from corrsteer_core.tasks.base import SHIFTED, SPLITS

ROOT = Path(__file__).parents[2]
ESCAPES = "\x1b[31mred\x07\x9b2J\u202egnp.exe\u2066\u200f\r"
"""Colours, rings, clears the screen, turns the direction, goes back to the start of the line."""
ENDLESS = "x" * 140_000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))


def stated(capsys, *arguments) -> str:
    """What stands on standard error after a command that fails, whichever way."""
    capsys.readouterr()
    try:
        status = main.main([*map(str, arguments)])
    except SystemExit as refused:  # by argparse
        status = refused.code
    assert status in (main.FAILED, 2)
    out, err = capsys.readouterr()
    assert out == ""
    return err


def hidden(text: str) -> list[str]:
    """The characters of a text that act on a terminal, by what Unicode says of them, not by our own list."""
    turning = {"LRE", "LRO", "RLE", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    marks = {"LEFT-TO-RIGHT MARK", "RIGHT-TO-LEFT MARK", "ARABIC LETTER MARK"}
    return [
        one
        for one in text
        if (unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") and one not in "\n\t")
        or unicodedata.bidirectional(one) in turning
        or unicodedata.name(one, "") in marks
    ]


# --- the table -----------------------------------------------------------------------------------


def test_a_command_is_its_entry_in_the_table(monkeypatch, capsys):
    made_up = Command(
        "made-up",
        "do what this test says",
        lambda parser: parser.add_argument("--times", type=int, default=1),
        lambda options, report: {"done": options.times},
    )
    monkeypatch.setitem(COMMANDS, made_up.name, made_up)
    assert main.main(["made-up", "--times", "3"]) == 0
    assert capsys.readouterr().out == "done: 3\n"
    assert "do what this test says" in main.parser("").format_help()


@pytest.mark.parametrize("name", ["", "Fit", "fit now", "-fit"])
def test_a_command_has_a_name_that_can_be_typed(name):
    with pytest.raises(ValueError, match="no name of a command"):
        Command(name, "do it", no_arguments, lambda *_: {})


@pytest.mark.parametrize("help", ["", "Does it."])
def test_a_command_says_what_it_does(help):
    with pytest.raises(ValueError, match="say in one line"):
        Command("fit", help, no_arguments, lambda *_: {})


def test_only_the_arguments_of_the_command_that_is_asked_for_are_added():
    (added,) = (action.choices for action in main.parser("runs")._actions if action.dest == "name")
    assert added.keys() == COMMANDS.keys()
    assert "--strategy" not in added["select"]._option_string_actions
    (added,) = (action.choices for action in main.parser()._actions if action.dest == "name")
    assert "--strategy" in added["select"]._option_string_actions


def test_the_words_before_a_command_do_not_hide_its_arguments(capsys):
    assert "unrecognized arguments: --quick\n" in stated(capsys, "--quick", "features", "RUN", "--top", "3")


def test_commands_are_called_as_they_were_started(monkeypatch):
    assert main.parser("").prog == "python -m corrsteer_core"
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/corrsteer"])
    assert main.parser("").prog == "corrsteer"


# --- choices -------------------------------------------------------------------------------------


def taken(command: str, option: str) -> list[str]:
    """The choices that an option of a command offers."""
    (commands,) = (action.choices for action in main.parser()._actions if action.dest == "name")
    return list(commands[command]._option_string_actions[option].choices)


@pytest.mark.parametrize(
    ("command", "option", "table"),
    [
        ("select", "--strategy", tuple(strategies.STRATEGIES)),
        ("select", "--ranking", (*RANKINGS, PREDICTED)),
        ("features", "--ranking", (*RANKINGS, PREDICTED)),
        ("fit", "--pooling", POOLINGS),
        ("export", "--format", FORMATS),
        ("evaluate", "--split", (*SPLITS, SHIFTED)),
        ("sweep", "--split", (*SPLITS, SHIFTED)),
    ],
)
def test_choices_are_those_of_the_core(command, option, table):
    assert taken(command, option) == list(table)


def test_an_entry_made_in_a_table_can_be_asked_for(monkeypatch):
    monkeypatch.setitem(POOLINGS, "median", Pooling("median", "one in the middle"))
    monkeypatch.setitem(RANKINGS, "luck", lambda Z, y: y)
    monkeypatch.setitem(FORMATS, "morse", replace(FORMATS["json"], name="morse", suffix=".morse"))
    monkeypatch.setitem(strategies.STRATEGIES, "W", replace(strategies.STRATEGIES["S"], name="W"))
    assert "median" in taken("fit", "--pooling")
    assert "luck" in taken("select", "--ranking")
    assert "morse" in taken("export", "--format")
    assert "W" in taken("select", "--strategy")
    asked = main.parser().parse_args(["study", "--rankings", "luck"])
    assert asked.rankings == ("luck",)
    assert "W" in asked.strategies


def test_no_list_of_names_is_written_out_in_the_command_line():
    names = {*RANKINGS, *POOLINGS, *FORMATS, *SCORERS, *JUDGES, *PRESETS, *TASKS} - {"all", "python", "json"}
    allowed = {("saes.py", "overrefusal")}  # whose prompts `check` reads
    for path in (ROOT / "corrsteer_core" / "cli").rglob("*.py"):
        quoted = set(re.findall(r"[\"']([\w-]+)[\"']", path.read_text(encoding="utf-8")))
        assert {(path.name, one) for one in quoted & names} <= allowed
        assert "choices=(" not in path.read_text(encoding="utf-8")


def test_help_lists_tasks_scorers_and_judges(capsys):
    with pytest.raises(SystemExit):
        main.main(["fit", "--help"])
    words = set(re.findall(r"[\w-]+", capsys.readouterr().out.replace("-\n", "-").replace("\n", " ")))
    assert {*choices.tasks(), *choices.scorers(), *choices.judges()} <= {*words, *JUDGES}
    assert set(choices.tasks()) == set(TASKS)
    assert set(choices.scorers()) == {*SCORERS, *JUDGES}


# --- Ctrl-C --------------------------------------------------------------------------------------

CTRL_C = signal.SIGINT


@pytest.fixture
def listening():
    """Ctrl-C as a terminal has it, whoever runs the tests (in the background it is ignored)."""
    before = signal.signal(CTRL_C, signal.default_int_handler)
    yield
    signal.signal(CTRL_C, before)


def wrapped() -> Exception:
    """What a library makes of a Ctrl-C that it catches."""
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as stop:
            raise ValueError("import failed") from stop
    except ValueError as error:
        return error


def in_passing() -> Exception:
    """Of an error that happens while a Ctrl-C is dealt with."""
    try:
        try:
            raise KeyboardInterrupt
        finally:
            raise OSError("closed")
    except OSError as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        duckdb.InterruptException("INTERRUPT Error: Interrupted!"),
        RuntimeError("Query interrupted"),
        wrapped(),
        in_passing(),
    ],
)
def test_ctrl_c_is_one_line_and_its_own_status(capsys, monkeypatch, error):
    def stopped(*_, **__):
        raise error

    monkeypatch.setattr(collecting, "refit", stopped)
    assert main.main(["refit", "RUN", "--quiet"]) == main.CANCELLED == 130
    assert capsys.readouterr() == (
        "",
        "stopped; run the same command again to go on. Nothing of it is kept; it will begin again from the start.\n",
    )


def test_ctrl_c_while_the_command_is_read_is_one_line(capsys, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "parser", stopped)
    assert main.main(["--help"]) == main.CANCELLED
    assert capsys.readouterr().err == "stopped; run the same command again to go on.\n"


def test_ctrl_c_in_a_query_stops_it(capsys, monkeypatch, listening, tmp_path):
    """Whichever threads answer it: DuckDB's own would go on to the end, which this query never reaches."""

    def endless(*_, **__):
        with connect(tmp_path / "any.duckdb") as connection:
            # From here on: while DuckDB opens a database it may swallow what is pressed, and the query would never end.
            threading.Timer(0.5, os.kill, (os.getpid(), CTRL_C)).start()
            connection.execute("SELECT sum(hash(range)) FROM range(1000000000000)")

    monkeypatch.setattr(collecting, "refit", endless)
    assert main.main(["refit", "RUN", "--quiet"]) == main.CANCELLED
    assert capsys.readouterr().err.count("\n") == 1
    assert signal.getsignal(CTRL_C) is signal.default_int_handler, "as it was"


def test_where_ctrl_c_is_ignored_on_purpose_it_stays_so(monkeypatch):
    before = signal.signal(CTRL_C, signal.SIG_IGN)
    try:
        pressed = []
        monkeypatch.setattr(collecting, "refit", lambda *_, **__: pressed.append(os.kill(os.getpid(), CTRL_C)))
        assert main.main(["refit", "RUN", "--quiet"]) == main.FAILED, "there is no such run"
        assert pressed
        assert signal.getsignal(CTRL_C) is signal.SIG_IGN
    finally:
        signal.signal(CTRL_C, before)


def test_an_error_that_only_mentions_an_interruption_is_still_a_bug(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("the query interrupted itself")

    monkeypatch.setattr(collecting, "refit", broken)
    with pytest.raises(RuntimeError, match="itself"):
        main.main(["refit", "RUN", "--quiet"])


# --- what reaches the terminal -------------------------------------------------------------------


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """An error as it reaches the command line."""
    try:
        raise error from cause
    except BaseException as found:
        return found


@pytest.mark.parametrize(
    ("error", "cause", "passes"),
    [
        (CorrSteerError("There is no task 'x'."), None, False),
        (CorrSteerError("There is no folder x."), FileNotFoundError(errno.ENOENT, "x"), False),
        (CorrSteerError("The model x could not be loaded."), OSError("x is not a valid model identifier"), False),
        (SystemExit(2), None, False),
        (CorrSteerError("The run is being written."), filelock.Timeout("lock"), True),
        (CorrSteerError("It was not written."), OSError(errno.ENOSPC, "No space left"), True),
        (CorrSteerError("The hub cannot be reached."), LocalEntryNotFoundError("x"), True),
        (CorrSteerError("It does not fit."), MemoryError(), True),
        (OSError(errno.ENOSPC, "No space left"), None, True),
        (ValueError("a bug"), None, True),
    ],
)
def test_what_is_wrong_with_the_words_does_not_pass_and_what_the_machine_lacks_may(error, cause, passes):
    assert main.may_pass(raised(error, cause)) is passes


def test_what_acts_on_a_terminal_is_written_out():
    assert printable("\x1b[31m\u202e\udcff\r\n\t") == "\\x1b[31m\\u202e\\udcff\\r\n\t"
    assert printable("a\nb\tc", one_line=True) == "a\\nb\\tc"
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    assert hidden(everything), "the test sees them"
    assert hidden(printable(everything)) == []


def test_texts_of_every_script_stay_as_they_are():
    for text in ("naïve – “quoted” 27 °C", "日本語", "हिन्दी क्\u200dष", "שלום", "العربية", "👩\u200d🚀", "a\n\tb"):
        assert printable(text) == text


def test_a_long_text_keeps_its_beginning_and_its_end():
    text = "The name " + ENDLESS + " is too long; give another."
    short = shortened(text)
    assert len(short) == LONGEST_MESSAGE
    assert short.startswith("The name xxx")
    assert short.endswith("xxx is too long; give another.")
    assert f"({len(text):,} characters in all)" in short
    assert shortened("x" * LONGEST_MESSAGE) == "x" * LONGEST_MESSAGE
    assert len(message("\x1b" * LONGEST_MESSAGE)) == LONGEST_MESSAGE


@pytest.mark.parametrize(
    "arguments",
    [
        ("features", "{}"),
        ("fit", "--task", "{}"),
        ("fit", "--task", "sentiment", "--model", "{}"),
        ("fit", "--preset", "{}", "--task", "sentiment"),
        ("fit", "--scorer", "{}", "--data", "x.csv"),
        ("fit", "--task", "sentiment", "--pooling", "{}"),
        ("fit", "--task", "sentiment", "--layers", "{}"),
        ("fit", "--task", "sentiment", "--progress-file", "/nonexistent/{}"),
        ("evaluate", "--set", "{}"),
        ("export", "--set", "{}", "--format", "json", "--out", "x.json"),
        ("report", "RUN", "--out", "{}"),
        ("saes", "{}"),
        ("describe", "RUN", "--file", "{}"),
        ("{}",),
        ("runs", "{}"),
        ("runs", "--{}"),
    ],
)
@pytest.mark.parametrize("given", [ESCAPES, ENDLESS], ids=["escapes", "endless"])
def test_what_was_typed_is_never_printed_raw_or_whole(capsys, arguments, given):
    error = stated(capsys, *(one.replace("{}", given) for one in arguments))
    assert "error: " in error
    assert hidden(error) == []
    last = error.splitlines()[-1]
    assert len(last) <= LONGEST_MESSAGE + len("python -m corrsteer_core train-sae: error: ")


def test_an_error_with_lines_stays_one_line(capsys, monkeypatch):
    def broken(*_, **__):
        raise CorrSteerError("The file a\nerror: b\x1b[2J is not there.")

    monkeypatch.setattr(collecting, "refit", broken)
    assert stated(capsys, "refit", "RUN", "--quiet") == "error: The file a\\nerror: b\\x1b[2J is not there.\n"


def test_results_do_not_act_on_the_terminal():
    text = human({"unsteered": f"one\ntwo {ESCAPES}", "inner": {"name": ESCAPES}, "rows": [{"a\x1b": f"{ESCAPES}\nx"}]})
    assert hidden(text) == []
    assert "unsteered: one\ntwo " in text
    assert text.splitlines()[-1].endswith("\\nx"), "a cell is a line"
    assert hidden(human([{"name": ESCAPES}])) == []


def test_progress_does_not_act_on_the_terminal(capsys):
    Reporter()(f"loading {ESCAPES}", 1, 2)
    err = capsys.readouterr().err
    assert "loading" in err
    assert hidden(err) == []


def test_argparse_still_ends_with_2(capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["select", "RUN", "--strategy", "X"])
    assert ended.value.code == 2
    assert "invalid choice: 'X' (choose from 'S', 'A', 'P', 'V')" in capsys.readouterr().err


@pytest.mark.parametrize("loading", ["corrsteer_core.cli.main", "corrsteer_core.cli.table", "psutil"])
def test_a_stop_while_the_command_line_still_loads_is_one_line(loading):
    """Loading takes half a second; the stop comes at the first use of a module that is loaded in it."""
    code = f"""
import sys
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == {loading!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Stop())
sys.argv[1:] = ["runs"]
from corrsteer_core.__main__ import main
sys.exit(main())
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (main.CANCELLED, "", "stopped\n")
