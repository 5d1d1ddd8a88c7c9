"""r1k-build: options -> BuildConfig -> build; and `status`, `export`, `verify`, `review`, `push`, `compact`."""

import argparse
import asyncio
import difflib
import os
import re
import shlex
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pydantic import ValidationError
from rich.console import Console

from r1k_builder import __version__, progress, recheck
from r1k_builder.account import check_cap, dollars
from r1k_builder.batch import check_offers, waiting_text
from r1k_builder.benchmarks import bring as bring_benchmarks
from r1k_builder.build import (
    Note,
    Opened,
    Plan,
    Report,
    all_rows,
    allowed,
    ask,
    assembling,
    cost_by_step,
    drift,
    identity,
    make_plan,
    open_build,
    reach_source,
    saved_config,
    write,
)
from r1k_builder.compact import compact
from r1k_builder.config import PRESETS, BuildConfig, TeacherConfig
from r1k_builder.database import local_error
from r1k_builder.errors import Interrupted, LocalError, R1kError, UsageError
from r1k_builder.folder import BuildFolder
from r1k_builder.hub import Target, find_published, push
from r1k_builder.journal import Journal, JournalView, copy_journal
from r1k_builder.journals import Journals
from r1k_builder.leaks import KINDS
from r1k_builder.replay import end_of, flow_version
from r1k_builder.review import command as review
from r1k_builder.schema import Stage
from r1k_builder.shards import Shard
from r1k_builder.teacher import read_api_key

if TYPE_CHECKING:
    from r1k_builder.engine import Engine

EXAMPLES = """\
examples:
  r1k-build --source embedded --teacher embedded --tokenizer none --limit 100    try it: no key, no network, no cost
  export OPENROUTER_API_KEY=...; r1k-build --dry-run             what s1K through DeepSeek-R1 would ask and cost
  r1k-build --max-cost 25                                        build r1k in ./r1k, at most $25
  r1k-build --resume                                             go on after anything: a kill, a full disk, no credit
  r1k-build --source qa.jsonl --base-url http://127.0.0.1:8000/v1 --model my-model --output my-r1k
  r1k-build --source qa.jsonl --base-url http://a:8000/v1 --base-url http://b:8000/v1 --model my-model    two replicas
  r1k-build --resume --samples 4 --judge gemini                  more evidence for the rows there are; asks what is new
  r1k-build --accepted 1000 --until-verified 5 --max-cost 100    exactly 1,000 verified rows, inverted afresh up to 5 times
  r1k-build --teacher novita --batch                             in batches, where a host sells them for less: within days
  r1k-build --resume --shard 3/16 --source qa.jsonl              one of 16 shares of the source, on any machine; then export
  r1k-build --engine ray --ray-address auto --shards 8 --source qa.jsonl    8 shares on a Ray cluster, one limit and budget
  r1k-build status r1k                                           rows, tokens and cost, while it runs or after
  r1k-build export r1k                                           write the folder again from the journal; asks nothing
  r1k-build verify r1k                                           check every row again and say what has changed; asks nothing
  r1k-build review r1k --reviewer anna                           judge a sample of its rows in the browser
  r1k-build compact r1k                                          keep the journals in less room, answers packed
  r1k-build push r1k my-team/r1k                                 one commit to the Hub, checked before and after

exit status: 0 complete, 2 usage or changed settings, 3 rows still owed or fewer than --accepted, 4 stopped by the host,
5 budget reached, 6 local (locked, disk full, read-only), 7 host unreachable, 130 and 143 interrupted, 1 a bug of ours
"""

ASKED_FOR: Mapping[Stage, str] = {"invert": "inversions", "solve": "solutions", "cycle": "ways back", "judge": "judgements"}
"""What the requests of each stage are for."""

FIRST_OPTIONS = ("source", "teacher", "base_url", "model", "limit", "concurrency", "max_cost", "tokenizer")
"""What most builds need, ahead in --help."""

INTERRUPTED = "interrupted; nothing that was answered is lost: type r1k-build --resume to go on"

OF_HOST = ("base_url", "model", "key_variable", "price", "batch_factor")
"""Settings of a teacher that go with its host."""

UNTOLD = ("base_url", "key_variable", "judge_base_url", "judge_key_variable")
"""Settings whose refused value is not repeated on the screen: it may be a key in the wrong place."""

SEVERAL = ("base_url",)
"""Options that may be given several times."""

FLAGS = ("cycle", "with_completions", "batch")
"""Options that take no value."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands = {"status": run_status, "export": run_export, "verify": run_verify, "review": run_review, "push": run_push}
    commands |= {"compact": run_compact}
    command = commands.get(words[0]) if words else None
    try:
        return command(words[1:]) if command else run_build(words)
    except R1kError as error:
        print(f"r1k-build: {_name_output(str(error), words)}", file=sys.stderr)  # noqa: T201  # where errors meet the user
        return error.exit_code
    except sqlite3.Error as error:
        print(f"r1k-build: {local_error(error, Path('the journal'))}", file=sys.stderr)  # noqa: T201
        return 6
    except BrokenPipeError:  # whoever read the output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print(f"r1k-build: {_name_output(INTERRUPTED, words)}", file=sys.stderr)  # noqa: T201
        return 130


def _name_output(message: str, words: Sequence[str]) -> str:
    """`message` with folder and shard in each command that it says to type: deep down nobody knows where the build lies."""
    named = ""
    for option in ("--output", "--shard"):
        given = [word.removeprefix(f"{option}=") for word in words if word.startswith(f"{option}=")]
        given += [following for word, following in pairwise(words) if word == option]
        named += f" {option} {shlex.quote(given[-1])}" if given else ""
    return re.sub(r"r1k-build --resume(?! --output| --shard)", lambda found: found[0] + named, message)


# -- options -------------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """Errors in one sentence that names the nearest option."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; {self.prog} --help lists the options")

    def parse_all(self, words: Sequence[str]) -> argparse.Namespace:
        found, unknown = self.parse_known_args(words)
        if unknown:
            options = [option for action in self._actions for option in action.option_strings]
            near = difflib.get_close_matches(unknown[0].split("=")[0], options, 1)
            hint = f"did you mean {near[0]}" if near else "it is none of ours"
            self.error(f"unknown argument {unknown[0]}: {hint}")
        return found


def make_parser() -> Parser:
    parser = Parser(
        prog="r1k-build",
        description="Build r1k: invert forward reasoning examples with a teacher, and solve what comes out.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="r1k-build [options] | r1k-build status | export | verify | review | compact [DIR]"
        " | r1k-build push DIR OWNER/NAME",
    )
    parser.add_argument("--version", action="version", version=f"r1k {__version__}")
    build = parser.add_argument_group("this command")
    build.add_argument("--output", metavar="DIR", default="r1k", help="The dataset folder (default: ./r1k).")
    build.add_argument("--resume", action="store_true", help="Go on with the folder's build; alone, with all its settings.")
    build.add_argument("--accept-drift", action="store_true", help="With --resume: ask again what changed settings touch.")
    build.add_argument("--overwrite", action="store_true", help="Start anew; the old journal is kept under .build/.")
    build.add_argument("--dry-run", action="store_true", help="Print settings, requests and expected cost; send nothing.")
    build.add_argument(
        "--shard",
        metavar="I/N",
        help="Build the I-th of N shares of the source, beside the others, here or on other machines; then r1k-build export."
        " --limit counts rows of the whole source; of --max-cost each shard may spend an N-th.",
    )
    build.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="Who runs the build: this process, or --shards processes on a Ray cluster that share one limit and one budget"
        " (default: local; ray needs pip install 'r1k[ray]').",
    )
    build.add_argument("--shards", metavar="N", help="With --engine ray: in how many shards to build.")
    build.add_argument(
        "--ray-address",
        metavar="HOST:PORT",
        help="With --engine ray: the cluster, or 'auto' for the one that this machine is part of (default: one on this machine"
        " alone). Every node sees --output at the same path, and has the API key in the environment of its 'ray start'.",
    )
    build.add_argument(
        "--replay",
        metavar="REPO_OR_FOLDER",
        help="Take the answers that another build publishes (--with-completions): what they cover is not asked again.",
    )
    fields = {**_fields(BuildConfig), **_fields(TeacherConfig)}
    first = parser.add_argument_group("the build")
    more = parser.add_argument_group("more of the build")
    for name in [*FIRST_OPTIONS, *(name for name in fields if name not in FIRST_OPTIONS)]:
        group = first if name in FIRST_OPTIONS else more
        add_field(group, name, fields[name])
    return parser


def add_field(parser: Any, name: str, text: str) -> None:
    """The option of a configuration's field."""
    option = f"--{name.replace('_', '-')}"
    if name in SEVERAL:
        parser.add_argument(option, dest=name, metavar=_metavar(name), action="append", help=text)
    elif name in FLAGS:
        parser.add_argument(option, dest=name, action=argparse.BooleanOptionalAction, default=None, help=text)
    else:
        parser.add_argument(option, dest=name, metavar=_metavar(name), help=text)


METAVARS = {"source": "DATA", "teacher": "PRESET", "max_cost": "DOLLARS", "tokenizer": "NAME", "price": "IN,OUT[,CACHED]"}
"""What stands for an option's value in --help, where its type does not say it; so do the ends of names."""
NAME_ENDS = {"base_url": "URL", "price": METAVARS["price"], "variable": "NAME", "column": "NAME", "model": "NAME"}


def _metavar(name: str) -> str:
    annotation = {**BuildConfig.model_fields, **TeacherConfig.model_fields}.get(name)
    shown = str(annotation.annotation) if annotation is not None else ""
    if choices := re.findall(r"Literal\[(.*?)\]", shown):
        return METAVARS.get(name) or f"{{{choices[0].replace(chr(39), '').replace(', ', ',')}}}"
    ends = [metavar for end, metavar in NAME_ENDS.items() if name.endswith(end)]
    number = "N" if "int" in shown else "X" if "float" in shown else "VALUE"
    return METAVARS.get(name) or (ends[0] if ends else number)


def _fields(model: type[BuildConfig | TeacherConfig]) -> dict[str, str]:
    """Option names and help of a configuration's fields; its docstrings are the help."""
    rename = {"preset": "teacher"}
    found = {}
    for name, field in model.model_fields.items():
        if isinstance(field.default, TeacherConfig):
            continue
        text = (field.description or "").replace("%", "%%").replace("`", "'").replace("\n", " ")
        default = f" (default: {field.default})" if field.default is not None and "default" not in text else ""
        found[rename.get(name, name)] = text + default
    found |= {"teacher": f"{found['teacher']} One of {', '.join(PRESETS)}."} if "teacher" in found else {}
    return found


def given_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings named on the command line, shaped like a BuildConfig."""
    named = {name: value for name, value in vars(options).items() if value is not None}
    rename = {"teacher": "preset"}
    top = {name: _value(text) for name, text in named.items() if name in BuildConfig.model_fields and name != "teacher"}
    of_teacher = {
        rename.get(name, name): _value(text)
        for name, text in named.items()
        if rename.get(name, name) in TeacherConfig.model_fields
    }
    return {**top, "teacher": of_teacher}


def _value(given: str | bool | list[str]) -> str | bool | list[str] | None:
    """`none` stands for no value, but for NAMED_NONE."""
    return None if given in ("none", ["none"]) else given


NAMED_NONE = ("tokenizer", "control")
"""Settings of which `none` is a value."""


WRONG = {
    "greater_than_equal": "must be {ge} or more",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be {le} or less",
    "less_than": "must be less than {lt}",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "decimal_parsing": "must be a number",
    "finite_number": "must be a number",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "is not written as {metavar}",
    "string_too_short": "must not be empty",
    "value_error": "{error}",
}
"""What is wrong with a value, by pydantic's name for it."""


def make_config(given: Mapping[str, Any], saved: Mapping[str, Any] | None = None) -> BuildConfig:
    """`given` on top of `saved`. Raises UsageError in one sentence where a value does not fit its option."""
    saved = saved or {}
    kept = saved.get("teacher", {})
    if given["teacher"].get("preset", kept.get("preset")) != kept.get("preset"):  # another host: what was said of the old one
        kept = {name: value for name, value in kept.items() if name not in OF_HOST}
    teacher = {**kept, **given["teacher"]}
    content = {**saved, **{name: value for name, value in given.items() if name != "teacher"}, "teacher": teacher}
    content |= {name: "none" for name in NAMED_NONE if content.get(name, "") is None}
    try:
        return BuildConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        name = next((str(part) for part in reversed(first["loc"]) if isinstance(part, str)), "?")
        option = "--" + {"preset": "teacher"}.get(name, name).replace("_", "-")
        given_value = "" if name in UNTOLD else f" {first['input']!r}"
        said = WRONG.get(first["type"], "{msg}").format(**first.get("ctx", {}), msg=first["msg"], metavar=_metavar(name))
        raise UsageError(f"{option}{given_value}: {said}; r1k-build --help says what it takes") from None


# -- r1k-build -----------------------------------------------------------------------------------------------------


def run_build(words: Sequence[str]) -> int:
    """Start or resume a build, write its folder, say what there is."""
    options = make_parser().parse_all(words)
    _check_flags(options)
    shard = None if options.shard is None else Shard.parse(options.shard)
    folder, given = BuildFolder(Path(options.output), shard), given_settings(options)
    begun = folder.holds_build or (options.resume and any(map(Path.exists, folder.journals())))
    saved = _saved(folder, given) if begun and not options.overwrite else None
    config = make_config(given, saved)
    _check_shard(config, shard, overwrite=options.overwrite)
    _check_engine(config, options)
    if options.dry_run:
        check_offers(config)
        return _dry_run(folder, config, options.replay, anew=options.overwrite)
    if saved is not None and not options.resume:
        raise UsageError(
            f"{folder.path} holds a build: type r1k-build --resume{_output(folder)} to go on with it,"
            f" or r1k-build --overwrite{_output(folder)} to start anew"
        )
    if not begun and not options.overwrite and folder.lacks_journal:
        raise UsageError(
            f"{folder.path} holds a dataset, and nothing of the journal that it was made from: put {folder.journal} back,"
            f" choose another --output, or type r1k-build --overwrite{_output(folder)} to build another in its place"
        )
    published = None if options.replay is None else find_published(options.replay)
    if saved is None and published is None and options.ray_address is None:
        for model in config.models:
            read_api_key(model.api_key_variable)
    check_cap(config)
    check_offers(config)
    if options.engine == "ray":
        return _build_on_ray(folder, config, options)
    folder.create()
    with folder.building():
        if options.overwrite:
            _set_aside(folder)
        note = partial(_note, folder)
        opened = open_build(folder, config, accept_drift=options.accept_drift, note=note, published=published)
        try:
            return _build(folder, opened, config)
        finally:
            opened.close()


def _check_flags(options: argparse.Namespace) -> None:
    """Raise UsageError for what can't be meant."""
    if not options.output:
        raise UsageError("--output '' names no folder; r1k-build --help says what it takes")
    if options.resume and options.overwrite:
        raise UsageError("--resume goes on with the folder's build and --overwrite starts anew: type one of them")
    if options.accept_drift and not options.resume:
        raise UsageError("--accept-drift says how to go on with a build: type it beside --resume")


def _set_aside(folder: BuildFolder) -> None:
    """Make room for another build. What waits at a host would otherwise be forgotten without a word, and billed."""
    with suppress(R1kError, sqlite3.Error), closing(Journals.open(folder.journals())) as journals:
        if batches := journals.batches():
            _note(folder, f"{waiting_text(batches)}: it may be billed, and nobody will fetch its answers")
    if aside := folder.set_aside():
        _note(folder, f"the journal that was here is kept in {aside}")


def _check_shard(config: BuildConfig, shard: Shard | None, *, overwrite: bool) -> None:
    """Raise UsageError for what no share of a source can do alone."""
    if shard is not None and overwrite:
        raise UsageError("--overwrite starts the whole folder anew, not a shard of it: move the folder away, or drop --shard")
    if shard is not None and config.accepted is not None:
        raise UsageError("--accepted counts verified rows through the whole source, which no shard sees: drop it, or --shard")


def _check_engine(config: BuildConfig, options: argparse.Namespace) -> None:
    """Raise UsageError for what does not go with the engine."""
    if options.engine != "ray":
        for name in ("shards", "ray_address"):
            if getattr(options, name) is not None:
                raise UsageError(
                    f"--{name.replace('_', '-')} goes with --engine ray; one share of a source alone is --shard I/N"
                )
        return
    if options.shards is None or not re.fullmatch("[1-9][0-9]{0,3}", options.shards, re.ASCII):
        raise UsageError("--engine ray needs --shards N, from 1 to 9999: as many as there are cores that may be kept busy")
    for name, is_given in (("shard", options.shard), ("replay", options.replay), ("batch", config.batch)):
        if is_given:
            raise UsageError(f"--{name} does not go with --engine ray: drop one of them")
    if config.accepted is not None:
        raise UsageError(
            "--accepted counts verified rows through the whole source, which no shard sees: drop it, or --engine ray"
        )


def _build_on_ray(folder: BuildFolder, config: BuildConfig, options: argparse.Namespace) -> int:
    """Have shards ask on a Ray cluster, then write the dataset here."""
    from r1k_builder.engine import Engine, cluster

    note, began = partial(_note, folder), time.time()
    with cluster(options.ray_address, int(options.shards)):
        folder.create()
        if options.overwrite:
            with folder.building():
                _set_aside(folder)
        engine = Engine(folder, config, int(options.shards), options.accept_drift, note)
        try:
            asyncio.run(_show_engine(engine))
        except R1kError as error:
            if not folder.holds_build:
                with folder.building():  # nothing was begun: it leaves no empty folder behind
                    raise
            folder.log(f"stopped: {error}")
            _say(_stopped_shards(folder, config))
            raise
    with folder.lock():
        report = _write_again(folder, {"teacher": {}})
    _say(summary(folder, report, time.time() - began))
    folder.log(summary(folder, report, time.time() - began))
    return report.exit_code


async def _show_engine(engine: "Engine") -> None:
    def look() -> progress.Snapshot | None:
        return progress.summed(list(engine.snapshots.values())) if engine.snapshots else None

    display = asyncio.create_task(progress.show(look, lambda: engine.stopped_by is not None, Console(stderr=True)))
    try:
        await engine.run()
    finally:
        display.cancel()
        await asyncio.wait([display])


def _stopped_shards(folder: BuildFolder, config: BuildConfig) -> str:
    with closing(Journals.open(path for path in folder.journals() if path.exists())) as journals:
        counted, spent = _count(journals, config), journals.spent()
        cost = progress.cost_text(spent.cost, spent.unpriced, spent.replies)
        done = counted.accepted + counted.rejected
        return f"{done:,} rows are done and {spent.replies:,} answers recorded ({cost}); nothing is lost"


def _saved(folder: BuildFolder, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the folder's build; none where they can't be read any more and are `given` again."""
    try:
        return saved_config(folder)
    except UsageError:
        if given == {"teacher": {}}:
            raise
        return {}


def _build(folder: BuildFolder, opened: Opened, config: BuildConfig) -> int:
    journal, lost = opened.journal, opened.lost
    if lost.attempts:
        cost = f"; they may have cost up to ${dollars(lost.most):.2f}" if lost.most else ""
        _note(folder, f"{lost.attempts} requests were in flight when the last run ended: they are asked again{cost}")
    asked = {(model.host, model.host_model) for model in config.models}
    if elsewhere := [batch for batch in journal.batches() if (batch.host, batch.model) not in asked]:
        _note(folder, f"{waiting_text(elsewhere)}, whom this build asks no more: go back there to take their answers")
    if folder.shard is not None:
        return _build_shard(folder, opened, config)
    began = time.time()
    with assembling(folder, journal, config) as follower:
        if follower is not None:
            journal.make_room = follower.close
        _ask(folder, opened, config)
        with _interruptible(), progress.writing(folder.path):
            report = write(folder, Journals([journal, *opened.others]), config, follower)
    journal.end_run("complete" if report.exit_code == 0 else "rows owed")
    _say(summary(folder, report, time.time() - began))
    folder.log(summary(folder, report, time.time() - began))
    return report.exit_code


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends what is done here as a Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> NoReturn:
        raise Interrupted(INTERRUPTED, 143)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _ask(folder: BuildFolder, opened: Opened, config: BuildConfig) -> None:
    """Ask for all that is owed. Raises what stopped it, after saying how far it came."""
    asked = allowed(config, opened, folder.shard)
    if asked.max_cost != config.max_cost:
        _note(folder, f"of --max-cost this run may spend ${asked.max_cost:.2f}: the rest is spent, or other shards' share")
    try:
        asyncio.run(ask(opened, asked, lambda pipeline: progress.watch(pipeline, Console(stderr=True))))
    except R1kError as error:
        opened.journal.end_run(type(error).__name__)
        folder.log(f"stopped: {error}")
        _say(_stopped(opened.journal, config))
        raise


def _build_shard(folder: BuildFolder, opened: Opened, config: BuildConfig) -> int:
    """Ask for a shard's rows. The dataset is written when all of them are there, by `r1k-build export`."""
    began = time.time()
    _ask(folder, opened, config)
    counted = _count(Journals([opened.journal]), config)
    opened.journal.end_run("complete" if counted.owed == 0 else "rows owed")
    seconds = progress.duration(time.time() - began)
    lines = [f"{folder.path}, shard {folder.shard}: {counted}  ({seconds})"]
    if counted.owed:
        lines.append(f"  {counted.owed:,} rows are owed: type r1k-build --resume{_output(folder)}")
    else:
        lines.append(f"  when all shards are there:  r1k-build export {shlex.quote(str(folder.path))}")
    _say("\n".join(lines))
    folder.log("\n".join(lines))
    return 3 if counted.owed else 0


class Count(NamedTuple):
    """Source rows by their state."""

    rows: int
    accepted: int
    rejected: int

    @property
    def owed(self) -> int:
        return self.rows - self.accepted - self.rejected

    def __str__(self) -> str:
        return f"{self.rows:,} = {self.accepted:,} accepted + {self.rejected:,} rejected + {self.owed:,} owed"


def _count(journals: Journals, config: BuildConfig) -> Count:
    """The rows that journals hold."""
    states = journals.states(flow_version(config), config.rows)
    rows = journals.source_length(end_of(journals, config))
    return Count(rows, states.get("accepted", 0), states.get("rejected", 0))


def _stopped(journal: Journal, config: BuildConfig) -> str:
    states, spent = journal.states(flow_version(config), config.rows), journal.spent()
    cost = progress.cost_text(spent.cost, spent.unpriced, spent.replies)
    given_up = journal.in_flight(journal.run).attempts
    lost = f"{given_up:,} requests in flight were given up and will be asked again" if given_up else "nothing is lost"
    if batches := journal.batches():
        lost += f"; {waiting_text(batches)}, which goes on with them while this command is away"
    return f"{sum(states.values()):,} rows are done and {spent.replies:,} answers recorded ({cost}); {lost}"


def summary(folder: BuildFolder, report: Report, seconds: float) -> str:
    """What a finished run says: rows, configurations, reasons, cost, and the line to type next."""
    rows, manifest = report.rows, report.manifest
    cost = manifest["cost"]
    price = "cost unknown" if cost["dollars"] is None else f"${float(cost['dollars']):.2f}"
    lines = [
        (
            f"{folder.path}: {rows['read']:,} rows read = {rows['accepted']:,} accepted + {rows['rejected']:,} rejected"
            f" + {rows['failed']:,} owed  ({progress.duration(seconds)}, {cost['replies']:,} answers in all,"
            f" {manifest['tokens']['completion']:,} tokens written, {price})"
        ),
    ]
    made = [f"{name} {made['rows']:,}" for name, made in manifest["configs"].items() if made["rows"]]
    lines += ["  " + " · ".join(made)] if made else []
    lines += [f"  rejected: {count:,} × {reason}" for reason, count in sorted(manifest["rejections"].items())]
    if asked_more(config_of(manifest)):
        lines += funnel(manifest["steps"], manifest["configs"]["reverse-verified"]["rows"])
    if report.short:
        lines.append(f"  {report.short:,} verified rows fewer than --accepted: the source has no more rows to ask for")
    if rows["failed"]:
        lines.append(f"  {rows['failed']:,} rows are owed: type r1k-build --resume{_output(folder)}{_any_shard(folder)}")
    lines += [f"  note: {note}" for note in manifest["notes"]]
    if made:
        lines.append(f'  load it:  load_dataset("{folder.path}")')
    return "\n".join(lines)


def config_of(manifest: Mapping[str, Any]) -> BuildConfig:
    return BuildConfig.model_validate(manifest["config"])


def asked_more(config: BuildConfig) -> bool:
    """Whether a build asks for more than an inversion and a solution of each row."""
    return bool(config.samples > 1 or config.cycle or config.judge or config.until_verified > 1 or config.accepted)


def funnel(steps: Mapping[str, Mapping[str, Any]], verified: int | None) -> list[str]:
    """What each step has cost, a line each; and a verified row, where their number is known."""
    lines = []
    for stage, name in ASKED_FOR.items():
        if step := steps.get(stage):
            cost = "cost unknown" if step["dollars"] is None else f"${float(step['dollars']):.4f}"
            if verified and step["dollars"] is not None:
                cost += f", ${float(step['dollars']) / verified:.6f} a verified row"
            tokens = f"{step['prompt_tokens']:,} tokens read, {step['completion_tokens']:,} written"
            lines.append(f"  {name}: {step['requests']:,} answered, {tokens}, {cost}")
    return lines


def _dry_run(folder: BuildFolder, config: BuildConfig, replayed: str | None, *, anew: bool) -> int:
    """Print the settings, what would be asked and what is paid; write nothing but a temporary journal."""
    _say("settings:")
    for name, value in [*config, *((f"teacher.{name}", value) for name, value in config.teacher)]:
        if name != "teacher":
            _say(f"  {name}: {'none' if value is None else value}")
    _say(f"  asked of: {config.teacher.host_model} at {', '.join(config.teacher.urls) or 'loopback, by this command'}")
    if config.batch and (offer := config.teacher.batch_offer) is not None:
        _say(
            f"  in batches of up to {config.batch_size:,} requests, each answered within {offer.window},"
            f" at {offer.factor} of the price online ({offer.source}{f', {offer.as_of}' if offer.as_of else ''})"
        )
    plan = _plan(folder, config, replayed, anew=anew)
    _say(f"rows: {plan.rows:,}")
    _say(f"requests already paid: {plan.paid:,}")
    if plan.waiting:
        _say(f"requests that wait in a batch: {plan.waiting:,}")
    parts = ", ".join(
        f"{plan.missing[stage]:,} {name}"
        for stage, name in ASKED_FOR.items()
        if plan.missing[stage] or stage in ("invert", "solve")
    )
    _say(f"requests to make: {plan.requests:,} ({parts})")
    _say(f"expected cost: {plan.price}")
    return 0


def _plan(folder: BuildFolder, config: BuildConfig, replayed: str | None, *, anew: bool) -> Plan:
    """What a run would ask for, after the changes that it would be refused for. A new build, and one that would take
    another's answers, is planned in a temporary place."""
    with ExitStack() as stack:
        place = folder.journal
        if anew or not place.exists() or replayed is not None:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory())) / place.name
            if folder.journal.exists() and not anew:
                copy_journal(folder.journal, place)
            journal = Journal(place)
            if replayed is not None:
                published = find_published(replayed)
                journal.take_replies(published.origin, published.replies())
            journal.close()
        view = JournalView(place)
        journals = Journals([view, *(JournalView(path) for path in folder.others() if not anew)])
        stack.enter_context(closing(journals))
        source = reach_source(view, config, _say)
        if source is None:
            return make_plan(config, view.examples(config.rows), journals)
        for change in [] if anew else drift(folder, view, identity(config, source.fingerprint)):
            _say(f"changed: {change}")
        holds = all_rows if folder.shard is None else folder.shard.holds
        return make_plan(config, (example for example in source.examples() if holds(example.pair_id)), journals)


# -- status, export, verify ----------------------------------------------------------------------------------------

VERIFY_EXAMPLES = """\
examples:
  r1k-build verify                                    check the rows of ./r1k again, with this version's checks
  r1k-build verify my-r1k --benchmarks mine=q.jsonl   and compare the questions with other benchmarks

exit status: 0 checked and written, 2 usage or no build, 3 some rows are still owed, 6 local (locked, disk full, read-only)
"""
SETTINGS = {"export": ("limit", "tokenizer", "control", "benchmarks", "with_completions"), "verify": ("benchmarks",)}
"""What a command that writes a folder again may set anew."""


def folder_argument(command: str, description: str, words: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog=f"r1k-build {command}",
        description=description,
        epilog=VERIFY_EXAMPLES if command == "verify" else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folder", nargs="?", default="r1k", metavar="DIR", help="The dataset folder (default: ./r1k).")
    for name in SETTINGS.get(command, ()):
        add_field(parser, name, _fields(BuildConfig)[name])
    return parser.parse_all(words)


def run_status(words: Sequence[str]) -> int:
    """Print what the journal says of a build, also while it runs."""
    options = folder_argument("status", "What a build has done, spent and owes; also while it runs.", words)
    folder = _built(options)
    config = make_config({"teacher": {}}, saved_config(folder))
    try:
        with closing(Journals.open(filter(Path.exists, folder.journals()))) as journals:
            _say(status(folder, config, journals))
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise
        mend = f"type r1k-build --resume{_output(folder)} to mend it and go on"
        raise LocalError(f"{folder.path}: its journal is damaged ({error}): {mend}") from None
    return 0


class Standing(NamedTuple):
    """How a journal's last run stands."""

    running: bool
    how: str
    in_flight: int


def _standing(folder: BuildFolder, view: JournalView) -> Standing:
    running, runs = folder.at_work(view.path), view.runs()
    number, outcome = (runs[-1][0], runs[-1][3]) if runs else (0, None)
    how = f"run {number} ({outcome or ('under way' if running else 'killed')})"
    return Standing(running, how, view.in_flight(number).attempts if running else 0)


def _shard_lines(config: BuildConfig, journals: Journals, standings: Mapping[Path, Standing]) -> list[str]:
    """A line for each shard, those included that have not begun, and for a build without shards beside them."""
    found = {Shard.of_journal(view.path.name): view for view in journals.views}
    whole = [None] if None in found else []
    lines = []
    for shard in [*whole, *(Shard(number, of) for of in journals.splits for number in range(1, of + 1))]:
        name = "without shards" if shard is None else f"shard {shard}"
        if shard in found:
            lines.append(f"  {name}: {_count(Journals([found[shard]]), config)}, {standings[found[shard].path].how}")
        else:
            lines.append(f"  {name}: not begun here")
    return lines


def status(folder: BuildFolder, config: BuildConfig, view: Journals) -> str:
    """The build in `folder` as its journals tell it."""
    standings = {one.path: _standing(folder, one) for one in view.views}
    running = [standing for standing in standings.values() if standing.running]
    spent, counted = view.spent(), _count(view, config)
    counted = counted._replace(rows=counted.rows + view.lacking(end_of(view, config))[0])
    if view.splits:
        lines = [f"{folder.path}: {len(running)} of {len(view.views)} journals at work"]
        lines += _shard_lines(config, view, standings)
    else:
        how = next((standing.how for standing in standings.values()), "its journal was being mended")
        lines = [f"{folder.path}: {'building' if running else 'not running'}, {how}"]
    lines.append(f"  rows: {counted}")
    flying = sum(standing.in_flight for standing in running)
    lost = view.lost().attempts - flying
    lines.append(f"  requests: {spent.replies:,} answered, {flying:,} in flight, {lost:,} cut off or lost (maybe billed)")
    for batch in view.batches():
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(batch.made))
        lines.append(f"  waiting: {batch.requests:,} requests in {batch.remote or 'a batch'} at {batch.host} since {since}")
    if len(config.teacher.hosts) > 1:
        answers = view.answers_by_host()
        lines.append(f"  endpoints: {progress.shares_text({host: answers.get(host, 0) for host in config.teacher.hosts})}")
    responses = ", ".join(f"{count:,} × {name}" for name, count in sorted(view.responses().items()))
    lines.append(f"  responses: {responses or 'none yet'}")
    written = f"{spent.completion:,} written, {spent.reasoning:,} of them reasoning"
    lines.append(f"  tokens: {spent.prompt:,} read, {spent.cached:,} of them cached; {written}")
    lines.append(f"  cost: {progress.cost_text(spent.cost, spent.unpriced, spent.replies)}")
    if asked_more(config):
        lines += funnel(cost_by_step(view, config), None)
    if running and counted.owed < counted.rows:
        rate = view.tokens_since(time.time() - 60) / 60
        lines.append(f"  last minute: {rate:,.0f} tokens/s")
    if not running and counted.owed:
        lines.append(f"  go on: r1k-build --resume{_output(folder)}{_any_shard(folder)}")
    return "\n".join(lines)


def run_export(words: Sequence[str]) -> int:
    """Write the dataset folder again from its journal, without a single request."""
    options = folder_argument("export", "Write the dataset folder again from its journal; asks nothing.", words)
    folder, began = _built(options), time.time()
    with folder.lock():
        report = _write_again(folder, given_settings(options))
    _say(summary(folder, report, time.time() - began))
    return report.exit_code


VERIFIES = """\
Check every row again from the journal, write the folder again, and say what each check finds and what has changed.
It asks the teacher nothing: what was answered is read by the checks as they are now."""


def run_verify(words: Sequence[str]) -> int:
    """Run the checks again on a finished folder, write it, print a table of them and what has changed."""
    options = folder_argument("verify", VERIFIES, words)
    folder = _built(options)
    with folder.lock():
        try:
            before = recheck.verdicts_of(folder.path, folder.manifest().get("configs", {}))
        except UsageError:  # the folder was never finished
            before = None
        report = _write_again(folder, given_settings(options))
        now = recheck.verdicts_of(folder.path, report.manifest["configs"])
    _say(recheck.report(report.manifest, before, now or recheck.Verdicts()))
    if report.rows["failed"]:
        _say(f"{report.rows['failed']:,} rows are owed: type r1k-build --resume{_output(folder)}{_any_shard(folder)}")
    return report.exit_code


COMPACTS = """\
Write each journal of a build anew, replies and source rows compressed, and put it in the old one's place. Nothing is lost, also
when it is killed; it needs room for the largest journal beside itself. What builds at the moment is left as it is."""


def run_compact(words: Sequence[str]) -> int:
    """Make the journals smaller."""
    folder = _built(folder_argument("compact", COMPACTS, words))
    with folder.lock():
        for path in filter(Path.exists, folder.journals()):
            with folder.holding(path) as held:
                if not held:
                    _note(folder, f"{path.name} is being written and stays as it is")
                    continue
                before, after = compact(path, partial(_note, folder))
                _say(f"{path}: {before / 1e6:,.1f} MB -> {after / 1e6:,.1f} MB")
    return 0


def _built(options: argparse.Namespace) -> BuildFolder:
    folder = BuildFolder(Path(options.folder))
    if not folder.holds_build and not (folder.rows_read and folder.journals()):  # a journal that was damaged may hold nothing
        raise UsageError(f"{folder.path} holds no build: start one with  r1k-build --output {folder.path}")
    return folder


def _write_again(folder: BuildFolder, given: Mapping[str, Any]) -> Report:
    """The folder from its journals, with the settings that are `given` anew. Hold its lock."""
    config = make_config(given, saved_config(folder))
    note = partial(_note, folder)
    if "benchmarks" in given:
        bring_benchmarks(config, folder.state, note)
    with ExitStack() as stack:
        journals = Journals(_sound(folder, path, note, stack) for path in folder.journals())
        stack.enter_context(closing(journals))
        _refuse_loss(folder, journals, config)
        if journals.splits:
            bring_benchmarks(config, folder.state, note)
        stack.enter_context(progress.writing(folder.path))
        return write(folder, journals, config)


def _refuse_loss(folder: BuildFolder, journals: Journals, config: BuildConfig) -> None:
    """Raise LocalError where fewer source rows could be read back from damaged journals than the dataset was made of."""
    made_of = folder.rows_read
    held = journals.source_length(config.rows) + journals.lacking(end_of(journals, config))[0]
    if held < min(made_of, config.rows or made_of):
        raise LocalError(
            f"{folder.path}: the journal holds {held:,} of the {made_of:,} source rows that its dataset was made of: it stays"
            f" as it is; type r1k-build --resume{_output(folder)} to read the source again and ask what is lost"
        )


def _sound(folder: BuildFolder, path: Path, note: Note, stack: ExitStack) -> JournalView:
    """A journal as it can be read, damage mended first; of a shard that is at work, what it holds by now."""
    if path == folder.journal or stack.enter_context(folder.holding(path)):
        return Journal(path, note)
    note(f"{path.name} is being written: the rows that it has not finished are owed")
    return JournalView(path, note)


def review_parser() -> Parser:
    parser = Parser(
        prog="r1k-build review",
        description=review.DESCRIPTION,
        epilog=review.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    review.add_options(parser)
    return parser


def run_review(words: Sequence[str]) -> int:
    """Serve the page for human review, or report what reviewers said."""
    return review.review(review_parser().parse_all(words), _say)


# -- push ----------------------------------------------------------------------------------------------------------


def push_arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="r1k-build push",
        description="Put a built folder on the Hugging Face Hub, in one commit that is checked before and after.",
        epilog="The token is that of `hf auth login`, or HF_TOKEN; HF_ENDPOINT names another Hub. A push that was interrupted"
        " goes on where it was; one of bytes that are there already makes no commit.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", metavar="DIR", help="The dataset folder.")
    parser.add_argument("repo_id", metavar="OWNER/NAME", help="The dataset repository; it is made where there is none.")
    parser.add_argument("--private", action="store_true", help="Make the repository private; refuse one that is public.")
    parser.add_argument("--revision", metavar="BRANCH", help="Push to this branch (default: main); it is made from main.")
    parser.add_argument("--tag", help="Name the commit, as in v1.0.")
    parser.add_argument("--create-pr", action="store_true", help="Open a pull request instead of committing to main.")
    parser.add_argument("--dry-run", action="store_true", help="Check everything and list the files; send nothing.")
    parser.add_argument(
        "--allow",
        metavar="KIND",
        action="append",
        default=[],
        choices=sorted(KINDS),
        help=f"What looks like a secret of this kind is none; may be given again. One of {', '.join(sorted(KINDS))}.",
    )
    return parser.parse_all(words)


def run_push(words: Sequence[str]) -> int:
    """Publish a folder."""
    options = push_arguments(words)
    target = Target(options.repo_id, options.private, options.revision, options.tag, options.create_pr, tuple(options.allow))
    folder = BuildFolder(Path(options.folder))
    if not folder.state.is_dir():
        raise UsageError(f"{folder.path} holds no build: start one with  r1k-build --output {folder.path}")
    with folder.lock():
        push(folder, target, _say, dry_run=options.dry_run)
    return 0


def _output(folder: BuildFolder) -> str:
    output = "" if folder.path == Path("r1k") else f" --output {shlex.quote(str(folder.path))}"
    return output if folder.shard is None else f"{output} --shard {folder.shard}"


def _any_shard(folder: BuildFolder) -> str:
    """What names the shard in a command to type, where there are shards: status says which of them owe rows."""
    return " --shard I/N" if any(map(Shard.of_journal, (path.name for path in folder.journals()))) else ""


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # the command's own output


def _note(folder: BuildFolder, line: str) -> None:
    print(f"r1k-build: {line}", file=sys.stderr, flush=True)  # noqa: T201  # a note beside the output
    folder.log(line)
