"""A build from its settings to its folder: source into the journal, drift refused, rows asked for, dataset written."""

import asyncio
import json
import shlex
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, NoReturn

from r1k_builder import __version__, benchmarks, cycle, flow, invert, solve
from r1k_builder.accepted import Quota
from r1k_builder.account import dollars
from r1k_builder.assemble import Follower, assembled
from r1k_builder.children import relax_collector
from r1k_builder.columns import batched
from r1k_builder.completions import Recorded
from r1k_builder.config import BuildConfig, TeacherConfig
from r1k_builder.errors import DriftError, LocalError, SourceError, UsageError
from r1k_builder.export import BATCH_ROWS, publish
from r1k_builder.figures import draw, get_ready
from r1k_builder.files import told
from r1k_builder.flow import NO_BENCHMARKS
from r1k_builder.folder import BuildFolder
from r1k_builder.hub import Published
from r1k_builder.journal import Journal, JournalView, Lost
from r1k_builder.journals import Journals
from r1k_builder.judge import PROMPT_VERSION
from r1k_builder.lengths import load_ruler
from r1k_builder.pipeline import Pipeline
from r1k_builder.replay import FLOWS, Answers, end_of, flow_version, outcome, replay
from r1k_builder.reviews import Reviews
from r1k_builder.schema import STAGES, Example, ForwardExample, RejectedRow, Request, Stage
from r1k_builder.shards import Shard
from r1k_builder.sketch import bin_of, packed
from r1k_builder.source import Source, open_source
from r1k_builder.verify import failures

ASSUMED_TOKENS: Mapping[Stage, int] = {"invert": 1500, "solve": 8000, "cycle": 4000, "judge": 2500}
"""Completion tokens per request, reasoning included, until the journal knows better: of the first two R1's on s1K's questions,
rounded; the others are guesses."""

JUDGED_BY = 2
"""Requests to a judge for each reverse row; a third where its answer is not plainly the row's."""

ENOUGH_REPLIES = 20
"""Replies of a stage from which its mean is trusted for an estimate."""

FOLLOWED_ROWS = 500
"""Source rows from which a follower makes the dataset behind the run: fewer are made in the second that it takes to start."""

SHORTEST = 1e-3
"""Seconds; answers that came sooner are drawn as if they took so long."""

MOST_LISTED = 1_000
"""Rows that the manifest names one by one."""

MOST_SETTINGS = 20

MOST_NAMED = 20
"""Shards that are named one by one."""

Note = Callable[[str], None]


# -- what it would cost --------------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """What a run would ask for."""

    rows: int
    paid: int
    """Requests whose replies the journal holds."""
    missing: Mapping[Stage, int]
    """Requests to make, by stage."""
    waiting: int
    """Requests that wait in a batch, and are among neither."""
    cost: Decimal | None
    """Expected dollars; None where a price is unknown."""
    basis: str

    @property
    def requests(self) -> int:
        return sum(self.missing.values())

    @property
    def price(self) -> str:
        return f"cost unknown: {self.basis}" if self.cost is None else f"about ${self.cost:.2f}: {self.basis}"


def make_plan(config: BuildConfig, examples: Iterable[ForwardExample], journals: Journals) -> Plan:
    """Walk every row as far as the journal carries it and count what is missing.

    What a missing request leads to counts, too, if all goes well: unparsable replies, retries, inversions that fail a check
    and a judge's third question come on top. Towards `--accepted`, rows that are owed count as if they were verified.
    """
    rows = paid = waits = verified = 0
    waiting = {waiting.key for waiting in journals.waiting()}
    missing: dict[Stage, int] = dict.fromkeys(STAGES, 0)
    read = dict(missing)
    for example in examples:
        rows += 1
        answers = journals.of(example.pair_id)
        for steps in FLOWS:
            end, answered = replay(answers, steps(example, config))
            paid += answered
            if isinstance(end, Request):
                characters = sum(len(message["content"]) for message in end.messages)
                asks = _to_come(end, config) if steps is flow.reverse else {end.stage: 1}
                if end.stage == "solve" and end.sample and _ends(answers, example, config, samples=end.sample):
                    asks = {"solve": asks["solve"]}  # more solutions: what else is asked was answered with fewer
                if end.key in waiting:
                    waits += 1
                    asks[end.stage] -= 1
                for stage, count in asks.items():
                    missing[stage] += count
                    read[stage] += count * characters
        if config.accepted is not None:
            reverse = outcome(answers, config, example, NO_BENCHMARKS).reverse
            verified += reverse is None or (isinstance(reverse, Example) and not failures(reverse.verdict))
            if verified == config.accepted:
                break
    cost, basis = _expected_cost(config, missing, read, journals)
    return Plan(rows, paid, missing, waits, cost, basis)


def _to_come(request: Request, config: BuildConfig) -> dict[Stage, int]:
    """The requests of a reverse row that are missing from `request` on."""
    solutions = max(1, config.samples - request.sample) if request.stage == "solve" else config.samples
    whole: dict[Stage, int] = {
        "invert": 1,
        "solve": solutions,
        "cycle": int(config.cycle),
        "judge": JUDGED_BY if config.judging else 0,
    }
    return {stage: count for stage, count in whole.items() if STAGES.index(stage) >= STAGES.index(request.stage)}


def _ends(answers: Answers, example: ForwardExample, config: BuildConfig, samples: int) -> bool:
    """Whether the journal holds all that a reverse row asks for with so many `samples`."""
    fewer = config.model_copy(update={"samples": samples})
    return not isinstance(replay(answers, flow.reverse(example, fewer))[0], Request)


def _expected_cost(
    config: BuildConfig, missing: Mapping[Stage, int], read: Mapping[Stage, int], journals: Journals
) -> tuple[Decimal | None, str]:
    """Dollars for `missing` requests whose prompts have `read` characters, and what that rests on; None: unknown."""
    spent_by_stage = journals.spent_by_stage()
    cost, bases = Decimal(0), []
    for stage, count in missing.items():
        if not count:
            continue
        spent, price = spent_by_stage.get(stage), config.price(stage, batched=config.batch)
        if spent is not None and spent.replies >= ENOUGH_REPLIES:
            mean, basis = round(spent.completion / spent.replies), f"measured over {spent.replies} replies"
        else:
            mean, basis = ASSUMED_TOKENS[stage], "assumed"
        if price is None:
            model = config.asked(stage)
            return None, f"no price is known for {model.host_model} at {model.host}"
        cost += price.cost(read[stage] // 4, count * mean)
        bases.append(f"{mean:,} tokens per {stage} ({basis})")
    for price in filter(None, (model.batch_price if config.batch else model.known_price for model in config.models)):
        known_from = price.source if price.as_of is None else f"{price.source}, {price.as_of}"
        bases.append(f"${price.prompt}/${price.completion} per million in/out ({known_from})")
    return cost, ", ".join(bases)


# -- what a build is -----------------------------------------------------------------------------------------------


def identity(config: BuildConfig, fingerprint: str) -> dict[str, Any]:
    """Everything whose change would mix settings in one dataset, by the name that a drift message gives it."""
    return {
        "source": fingerprint,
        "question_column": config.question_column,
        "answer_column": config.answer_column,
        "forward_teacher": config.forward_teacher,
        "domain": config.domain,
        "shuffle_seed": config.shuffle_seed,
        "template 1": invert.prompt_version(config.templates),
        "template 2": solve.PROMPT_VERSION,
        "model": config.teacher.canonical_model,
        **{name: getattr(config.teacher, name) for name in ("temperature", "top_p", "max_tokens")},
        "cycle": cycle.PROMPT_VERSION if config.cycle else None,
        **_judge_identity(config.judging),
    }


ADDED = ("cycle", "judge", "judge_temperature", "judge_max_tokens")
"""What a build may take up or leave off without drift: that asks for more, or for less, and makes nothing useless that was paid
for. So do `--samples`, `--until-verified` and `--accepted`, which are no part of the identity for that reason."""


def _added(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether what `name` belongs to was not there before, or is not there any more."""
    part = name.partition("_")[0]
    return not old.get(part) or not new[part]


def _judge_identity(judge: TeacherConfig | None) -> dict[str, Any]:
    if judge is None:
        return dict.fromkeys(ADDED[1:])
    return {
        "judge": f"{judge.canonical_model} ({PROMPT_VERSION})",
        "judge_temperature": judge.temperature,
        "judge_max_tokens": judge.max_tokens,
    }


class Settings(NamedTuple):
    """The settings of a folder's build, whichever of its shards have begun."""

    config: dict[str, Any]
    """As they were given."""
    identity: dict[str, Any]


def saved_settings(folder: BuildFolder) -> Settings:
    """What the manifest says, or else the first journal that can be read. Raises UsageError where none can."""
    try:
        manifest = folder.manifest()
        return Settings(manifest["config"], manifest["identity"])
    except (UsageError, KeyError):
        for path in folder.journals():
            with suppress(sqlite3.DatabaseError, LocalError), closing(JournalView(path)) as view:  # it may be damaged, too
                if (saved := view.get("config")) is not None:
                    return Settings(json.loads(saved), json.loads(view.get("identity") or "{}"))
        raise


def saved_config(folder: BuildFolder) -> dict[str, Any]:
    """The settings of the folder's build, as they were given. Raises UsageError where they can't be read."""
    return saved_settings(folder).config


def drift(folder: BuildFolder, journal: JournalView, new: Mapping[str, Any]) -> list[str]:
    """The settings that a build of the identity `new` would change in the folder's, a line each: name, old, new.

    What its own journal was asked with counts, and what the other shards have.
    """
    changes = changed(json.loads(journal.get("identity") or "{}"), new) if journal.begun() else []
    if changes or (folder.shard is None and not folder.others()):
        return changes
    with suppress(UsageError):
        return changed(saved_settings(folder).identity, new)
    return []


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two identities and may not be mixed, a line each; nothing where `old` is not known."""
    names = [name for name in new if old.get(name) != new[name] and not (name in ADDED and _added(name, old, new))]
    return [f"{name}: {_short(old.get(name))} -> {_short(new[name])}" for name in names if old]


def refuse_drift(changes: list[str], plan: Plan, *, edited: bool = False) -> NoReturn:
    """Raise the DriftError that says what changed and what building it would ask and cost; `edited`: the source's content."""
    back = "give the source its old content back" if edited else "--resume alone"
    listed = "".join(f"\n  {change}" for change in changes)
    raise DriftError(
        f"this folder holds a build of other settings:{listed}\n"
        f"with the new ones {plan.requests:,} requests would be asked ({plan.price}). Type --accept-drift to ask them,"
        f" --output OTHER to leave this build as it is, or {back} to go on with its own settings"
    )


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


# -- the source ----------------------------------------------------------------------------------------------------


Holds = Callable[[str], bool]
"""Whether a row, by its pair_id, is of a share."""


def all_rows(_pair_id: str) -> bool:
    return True


def sync_source(journal: Journal, config: BuildConfig, source: Source, holds: Holds) -> None:
    """Bring the source rows that `config` asks for into the journal; what is there already is not read again."""
    name = json.dumps([source.fingerprint, config.question_column, config.answer_column, config.forward_teacher,
                       config.domain, config.shuffle_seed])  # fmt: skip
    if journal.get("source") != name:
        journal.truncate_source(0)
        journal.set("source", name)
        journal.set("source_ended", "")
    _read_on(journal, config, source, max(AHEAD * config.accepted, FEWEST_READ) if config.accepted else None, holds)


AHEAD = 4
"""Source rows read for each that `--accepted` wants, before it is known how many it takes."""
FEWEST_READ = 256


def _read_on(journal: Journal, config: BuildConfig, source: Source, most: int | None, holds: Holds = all_rows) -> int:
    """Read the source until `most` rows are read (None: all), or `--limit`; how many were read. The journal gets those that
    its share `holds`."""
    known, wanted = journal.source_read(), min(config.rows or 2**62, most or 2**62)
    if journal.get("source_ended") or known >= wanted:
        return 0
    added = journal.add_source(known, islice(source.examples(), known, wanted), holds)
    if known + added < wanted:
        journal.set("source_ended", "yes")
    return added


# -- another build's replies ---------------------------------------------------------------------------------------


class Replayed(NamedTuple):
    """What a build has taken from another."""

    replies: int
    """New here; those that the journal held already are not among them."""
    complete: int
    """Source rows that ask for nothing any more."""
    rows: int
    asked_of: Mapping[str, int]
    """Replies there by model and sampling."""

    def __str__(self) -> str:
        said = f"{self.replies:,} answers taken; with them {self.complete:,} of {self.rows:,} rows are complete"
        if self.complete or not self.rows:
            return said
        settings = "; ".join(f"{count:,} of {name}" for name, count in self.asked_of.items())
        return f"{said}. They were asked of other settings, or of another source ({settings})"


def take_replies(journal: Journal, config: BuildConfig, published: Published, holds: Holds = all_rows) -> Replayed:
    """Fill the journal with the replies that another build has published, then settle the rows that are complete by them.

    Of a share only what was asked for its rows is taken."""
    asked_of: Counter[str] = Counter()

    def counted() -> Iterator[Recorded]:
        for recorded in published.replies():
            if not holds(recorded.reply.pair_id):
                continue
            name = f"{recorded.request.model} {json.dumps(dict(recorded.request.sampling), sort_keys=True)}"[:200]
            asked_of[name if name in asked_of or len(asked_of) < MOST_SETTINGS else "others"] += 1
            yield recorded

    taken = journal.take_replies(published.origin, counted())
    return Replayed(taken, *_settle_complete(journal, config), dict(asked_of.most_common(3)))


def _settle_complete(journal: Journal, config: BuildConfig) -> tuple[int, int]:
    """Settle every row that the journal completes, so that nobody need be asked: no key, no host. Complete rows, and all."""
    version = flow_version(config)
    for examples in batched(journal.examples(config.rows, unless_settled=version), BATCH_ROWS):
        states = {example.pair_id: _state(journal, config, example) for example in examples}
        journal.settle_now({pair_id: state for pair_id, state in states.items() if state is not None}, version)
    return sum(journal.states(version, config.rows).values()), journal.source_length(config.rows)


def _state(journal: JournalView, config: BuildConfig, example: ForwardExample) -> str | None:
    """What the pipeline would settle a row as; None where it has something to ask."""
    ends = [replay(journal, steps(example, config))[0] for steps in FLOWS]
    if any(isinstance(end, Request) for end in ends):
        return None
    return "rejected" if any(isinstance(end, RejectedRow) for end in ends) else "accepted"


# -- a run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """What a run leaves behind; counts are per source row."""

    rows: Mapping[str, int]
    """read, accepted, rejected, failed"""
    manifest: Mapping[str, Any]
    short: int = 0
    """Verified rows that `--accepted` lacks."""

    @property
    def exit_code(self) -> int:
        return 3 if self.rows["failed"] or self.short else 0


class Opened(NamedTuple):
    """A build, or one of its shards, that is ready to ask."""

    journal: Journal
    others: list[JournalView]
    """Those in which its rows may have been answered, too."""
    lost: Lost
    """What the run before left in flight."""
    source: Source | None
    """None where it is out of reach, and not needed."""

    def close(self) -> None:
        for journal in (self.journal, *self.others):
            journal.close()


def open_build(
    folder: BuildFolder, config: BuildConfig, *, accept_drift: bool, note: Note, published: Published | None = None
) -> Opened:
    """Open the journal, refuse drift, bring the source up to date, take what another build has `published`, begin a run.

    Be its only builder (`BuildFolder.building`)."""
    journal = Journal(folder.journal, note)
    if journal.get("config") is None:  # so that `--resume` alone goes on, however soon this run is killed
        journal.set("config", config.model_dump_json())
    others = [JournalView(path, note) for path in folder.others()]
    holds = all_rows if folder.shard is None else folder.shard.holds
    source = reach_source(journal, config, note)
    saved, old = (json.loads(journal.get(name) or "{}") for name in ("config", "identity"))
    fingerprint = source.fingerprint if source is not None else old.get("source", "")
    settings = Settings(json.loads(config.model_dump_json()), identity(config, fingerprint))
    changes = drift(folder, journal, settings.identity)
    if not changes and folder.shard is not None:
        changes = _share_settings(folder, settings)
    if changes and not accept_drift:
        examples = source.examples() if source is not None else journal.examples(config.rows)
        own = (example for example in examples if holds(example.pair_id))
        edited = saved.get("source") == config.source and fingerprint != old.get("source")
        refuse_drift(changes, make_plan(config, own, Journals([journal, *others])), edited=edited)
    journal.set("identity", json.dumps(settings.identity))
    journal.set("config", json.dumps(settings.config))
    if folder.shard is None:
        folder.write_manifest(_manifest(Journals([journal, *others]), config, settings, state="building"))
    elif changes:
        folder.write_manifest(_begun(settings))
    if source is not None:
        sync_source(journal, config, source, holds)
    benchmarks.bring(config, folder.state, note)
    if published is not None:
        note(f"{published.origin}: {take_replies(journal, config, published, holds)}")
    return Opened(journal, others, journal.begin_run(), source)


def _share_settings(folder: BuildFolder, settings: Settings) -> list[str]:
    """Have the manifest say the settings that all shards are built with; what another shard has begun with that may not be
    mixed with them.

    Shards that begin at the same moment with the same settings write the same manifest, or none. One that holds already,
    and a finished dataset's, stays as it is.
    """
    if folder.add_manifest(_begun(settings)):
        return []
    saved = saved_settings(folder)
    changes = changed(saved.identity, settings.identity)
    if not changes and saved != settings:
        folder.write_manifest(_begun(settings))
    return changes


def _begun(settings: Settings) -> dict[str, Any]:
    """The manifest of a folder whose shards are at work: what they have in common."""
    return {"format": 1, "state": "building", "r1k": __version__, **settings._asdict()}


def reach_source(journal: JournalView, config: BuildConfig, note: Note) -> Source | None:
    """The source; or None where it is out of reach and the journal holds all the rows that are asked for."""
    try:
        return open_source(config, note)
    except SourceError as error:
        saved = json.loads(journal.get("config") or "{}")
        enough = journal.get("source_ended") or (config.rows is not None and journal.source_read() >= config.rows)
        if not journal.get("source") or not enough or saved.get("source") != config.source:
            raise
        note(f"{error}; going on with the {journal.source_length():,} rows that the journal holds")
        return None


def allowed(config: BuildConfig, opened: Opened, shard: Shard | None) -> BuildConfig:
    """The settings to ask by: of `--max-cost`, what other journals have not spent, and of that a shard's share. So the whole
    cost stays under it though no shard knows what the others spend."""
    if config.max_cost is None or (shard is None and not opened.others):
        return config
    spent = sum(dollars(journal.spent_at_most()) for journal in opened.others)
    left = max(Decimal(0), config.max_cost - spent) / (1 if shard is None else shard.of)
    return config.model_copy(update={"max_cost": left})


async def ask(opened: Opened, config: BuildConfig, watch: Callable[[Pipeline], Any], *, leased: bool = False) -> None:
    """Ask the models for all that is owed, with `watch(pipeline)` awaited beside it as the display.

    Towards `--accepted`, read on in the source for as long as it takes. `leased`: as `Pipeline` has it; `watch` then lends.
    """
    relax_collector()
    journal = opened.journal
    while await _ask_once(journal, opened.others, config, watch, leased=leased):
        more = 2 * journal.source_read()
        if opened.source is None or not _read_on(journal, config, opened.source, more):
            return


async def _ask_once(
    journal: Journal, others: list[JournalView], config: BuildConfig, watch: Callable[[Pipeline], Any], *, leased: bool
) -> bool:
    """Go through the rows of the journal; whether they were too few."""
    place = journal.path.parent
    quota = None if config.accepted is None else Quota(config.accepted, place, Reviews.of(place))
    compared = NO_BENCHMARKS if quota is None else benchmarks.load(config, place)
    pipeline = Pipeline(config, journal, quota, compared, Journals([journal, *others]), leased=leased)
    display = asyncio.create_task(watch(pipeline))
    try:
        await pipeline.run()
    finally:
        display.cancel()
        await asyncio.wait([display])
        if quota is not None:
            quota.close()
    return pipeline.short


@contextmanager
def assembling(folder: BuildFolder, journal: JournalView, config: BuildConfig) -> Iterator[Follower | None]:
    """Have the dataset made while the teacher is asked, where that is worth a process. Hold the folder's lock."""
    rows = journal.source_length(config.rows)
    owed = rows - sum(journal.states(flow_version(config), config.rows).values())
    if rows < FOLLOWED_ROWS or not owed or config.accepted is not None or folder.others():  # its end is known at the end
        yield None
        return
    if Path(config.tokenizer).exists():
        load_ruler(config.tokenizer)  # one that can't be read is refused now, not when all is paid
    Thread(target=get_ready, daemon=True).start()
    with Follower(folder.path, folder.journal, config) as follower:
        yield follower


def write(folder: BuildFolder, journals: Journals, config: BuildConfig, follower: Follower | None = None) -> Report:
    """Write the dataset folder from its journals alone, the manifest last. Hold the folder's lock.

    Raises UsageError where a journal was asked with other settings than the folder's."""
    settings = saved_settings(folder)
    _refuse_foreign(folder, journals, settings)
    if follower is not None:
        follower.hurry()
    compared = benchmarks.described(config, folder.state)
    known = _manifest(journals, config, settings, state="writing")
    facts = {**_facts(journals, config, known), "benchmarks": compared}
    paths = [view.path for view in journals.views]
    figures: dict[str, bytes] = {}

    def picture(counted: Mapping[str, Any]) -> None:
        figures.update(draw({**counted, **_lacking(journals, config, counted["rows"])}, facts))

    finished = follower and follower.finish(picture)
    making = nullcontext(finished) if finished else assembled(folder.path, paths, config, picture)
    with told(folder.path), making as ready:
        for pair_id in ready.damaged:
            journals.unsettle(pair_id)
        made = {**ready.manifest, **_lacking(journals, config, ready.manifest["rows"], ready.manifest["notes"])}
        publish(ready.stage, folder.path, made, config, facts, figures)
    rows = made["rows"]
    short = max(0, (config.accepted or 0) - made["configs"]["reverse-verified"]["rows"])
    state = "partial" if rows["failed"] or short else "complete"
    written = {"facts": facts, "figures": sorted(figures), "benchmarks": compared}
    manifest = {**known, **made, **written, "state": state}
    folder.write_manifest(manifest)
    return Report(rows, manifest, short)


def _refuse_foreign(folder: BuildFolder, journals: Journals, settings: Settings) -> None:
    """Raise UsageError for a journal that was asked with other settings: rows would be mixed."""
    for view in journals.views:
        changes = changed(json.loads(view.get("identity") or "{}"), settings.identity)
        if changes and len(journals.views) > 1:
            shard = Shard.of_journal(view.path.name)
            named = f"--output {shlex.quote(str(folder.path))}{'' if shard is None else f' --shard {shard}'}"
            raise UsageError(
                f"{view.path} was asked with other settings than the folder's build ({'; '.join(changes)}): type"
                f" r1k-build --resume {named} --accept-drift to ask anew what that touches, or move the file away"
            )


def _lacking(journals: Journals, config: BuildConfig, counts: Mapping[str, int], notes: Sequence[str] = ()) -> dict[str, Any]:
    """The counts and notes of a dataset for which shards are missing: their rows are owed."""
    rows, shards = journals.lacking(end_of(journals, config))
    if not rows:
        return {}
    named = ", ".join(map(str, shards[:MOST_NAMED])) + (", …" if len(shards) > MOST_NAMED else "")
    note = f"{rows:,} rows are owed by shards that have not begun, or not read so far in the source: {named}"
    return {"rows": {**counts, "read": counts["read"] + rows, "failed": counts["failed"] + rows}, "notes": [*notes, note]}


def _described(model: TeacherConfig) -> dict[str, Any]:
    return {"host": model.host, "model": model.host_model, "sampling": model.sampling}


def cost_by_step(journals: Journals, config: BuildConfig) -> dict[str, dict[str, Any]]:
    """What each step of the funnel has cost so far, over all runs: answered requests, tokens, dollars (None: unknown)."""
    return {
        stage: {
            "requests": spent.replies,
            "prompt_tokens": spent.prompt,
            "completion_tokens": spent.completion,
            "dollars": None if config.asked(stage).known_price is None else str(dollars(spent.cost)),
            "unpriced": spent.unpriced,
        }
        for stage, spent in journals.spent_by_stage().items()
    }


def _prompt_versions(config: BuildConfig) -> dict[str, str]:
    versions = {"invert": invert.prompt_version(config.templates), "solve": solve.PROMPT_VERSION}
    versions |= {"cycle": cycle.PROMPT_VERSION} if config.cycle else {}
    return versions | ({"judge": PROMPT_VERSION} if config.judging else {})


def _replayed_facts(journals: Journals, stop: int) -> dict[str, Any] | None:
    """Which answers came from other builds, and which rows do not rest on those alone; None where all were asked here."""
    origins = journals.replayed_from()
    if not origins:
        return None
    count, pair_ids = journals.asked_here(stop, MOST_LISTED)
    return {"answers": origins, "rows_asked_here": count, "asked_here": pair_ids}


def _facts(journals: Journals, config: BuildConfig, known: Mapping[str, Any]) -> dict[str, Any]:
    """What card and figures say beside the rows."""
    seconds: dict[str, Counter[int]] = {}
    for stage, took in journals.seconds():
        seconds.setdefault(stage, Counter())[bin_of(max(took, SHORTEST))] += 1
    return {
        "version": __version__,
        "source_fingerprint": known["identity"].get("source", "unknown"),
        "prompt_versions": _prompt_versions(config),
        "requests": sum(known["responses"].values()) + known["cost"]["lost_attempts"],
        "batched": known["cost"]["replies_in_batches"],
        "cost": known["cost"]["dollars"],
        "tokens": known["tokens"],
        "steps": known["steps"],
        "asked": journals.days(),
        "returned_models": known["teacher"]["returned_models"],
        "replayed": _replayed_facts(journals, end_of(journals, config)),
        "seconds": {stage: packed(counts) for stage, counts in seconds.items()},
    }


def _manifest(journals: Journals, config: BuildConfig, settings: Settings, state: str) -> dict[str, Any]:
    """Everything that is known of a build beside its rows: settings, identity, replies, tokens, cost."""
    spent, price = journals.spent(), config.price("solve", batched=config.batch)
    priced = all(model.known_price for model in config.models)
    return {
        "format": 1,
        "state": state,
        "r1k": __version__,
        **settings._asdict(),
        "teacher": {
            "host": config.teacher.host,
            "model": config.teacher.host_model,
            "endpoints": list(config.teacher.urls),
            "answers_by_host": journals.answers_by_host(),
            "returned_models": journals.returned_models(),
            "sampling": config.teacher.sampling,
        },
        "judge": None if config.judging is None else _described(config.judging),
        "steps": cost_by_step(journals, config),
        "responses": journals.responses(),
        "tokens": {
            "prompt": spent.prompt,
            "cached": spent.cached,
            "completion": spent.completion,
            "reasoning": spent.reasoning,
        },
        "cost": {
            "dollars": str(dollars(spent.cost)) if priced else None,
            "replies": spent.replies,
            "unpriced_replies": spent.unpriced,
            "replies_in_batches": journals.replies_in_batches(),
            "lost_attempts": journals.lost().attempts,
            "price": None if price is None else json.loads(price.model_dump_json()),
        },
    }
