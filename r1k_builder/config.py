"""Everything that decides a build. Each field's docstring is also its `--help` text.

`BuildConfig` holds the settings; switches about one invocation (`--resume`, `--dry-run`, …) are not part of it.
Secrets are named by environment variable and read by the teacher when it connects, never held here.
"""

from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, PositiveInt
from pydantic_core import PydanticCustomError

from r1k_builder.errors import UsageError
from r1k_builder.schema import Record

S1K = "simplescaling/s1K-1.1"
EMBEDDED = "embedded"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
Templates = Literal["paper", "strict"]

KEY_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
PRICE = r"^\d+(\.\d+)?,\d+(\.\d+)?(,\d+(\.\d+)?)?$"


class Price(Record):
    """US dollars per million tokens, on a day."""

    prompt: Decimal
    completion: Decimal
    cached: Decimal | None = None
    """Price of prompt tokens that hit the host's cache; None: as `prompt`."""
    as_of: date | None
    """None: the user's own, by --price."""
    source: str

    def cost(self, prompt: int, completion: int, cached: int = 0) -> Decimal:
        """Dollars for `prompt` tokens (of which `cached` hit the cache) and `completion` tokens (reasoning included)."""
        cached_price = self.prompt if self.cached is None else self.cached
        return ((prompt - cached) * self.prompt + cached * cached_price + completion * self.completion) / 1_000_000


class BatchOffer(Record):
    """How a host sells batches: requests in a file, answered within the window, at a share of their price online."""

    factor: Decimal
    """Share of the online price."""
    window: str = "24h"
    """The `completion_window` that the host takes."""
    as_of: date | None
    """None: the user's own factor, by --batch-factor."""
    source: str


class Preset(Record):
    """What is known of a host before it is asked."""

    base_url: str | None
    model: str | None
    """The host's own id of the model."""
    canonical_model: str | None
    """The model's name in request keys, the same whatever host serves it; None: `model`."""
    key_variable: str | None
    price: Price | None = None
    body: dict[str, Any] = Field(default_factory=dict)
    """What this host wants in each request, beside the sampling parameters, to show its reasoning."""
    idle_timeout: float = 1800.0
    """Seconds without a byte; short only where the host is known to send blank lines while it thinks."""
    batch: BatchOffer | None = None
    """None: this host sells none."""


OPENAIS_OFFER = BatchOffer(
    factor=Decimal("0.5"), as_of=date(2026, 11, 21), source="help.openai.com/en/articles/9197833-batch-api-faq"
)
"""What is taken for the offer of a host that is named by its URL."""

PRESETS = {
    "openrouter": Preset(
        base_url="https://openrouter.ai/api/v1",
        model="deepseek/deepseek-r1",
        canonical_model="deepseek-r1",
        key_variable="OPENROUTER_API_KEY",
        price=Price(
            prompt=Decimal("0.70"),
            completion=Decimal("2.50"),
            as_of=date(2026, 11, 1),
            source="openrouter.ai/deepseek/deepseek-r1",
        ),
    ),
    "fireworks": Preset(
        base_url="https://api.fireworks.ai/inference/v1",
        model="accounts/fireworks/models/deepseek-r1-0528",
        canonical_model="deepseek-r1-0528",
        key_variable="FIREWORKS_API_KEY",
        price=Price(prompt=Decimal("3.00"), completion=Decimal("8.00"), as_of=date(2026, 11, 1), source="fireworks.ai/pricing"),
    ),
    # R1 left this host on 2026-07-24; its rows are V4 Pro's and say so. The peak rate: off-peak is half of it.
    "deepseek": Preset(
        base_url="https://api.deepseek.com",
        model="deepseek-v4-pro",
        canonical_model="deepseek-v4-pro",
        key_variable="DEEPSEEK_API_KEY",
        price=Price(
            prompt=Decimal("1.32"),
            cached=Decimal("0.044"),
            completion=Decimal("3.96"),
            as_of=date(2026, 10, 27),
            source="api-docs.deepseek.com/quick_start/pricing",
        ),
        idle_timeout=300.0,
    ),
    "gemini": Preset(
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        model="gemini-2.5-pro",
        canonical_model="gemini-2.5-pro",
        key_variable="GEMINI_API_KEY",
        price=Price(
            prompt=Decimal("1.25"),
            completion=Decimal("10.00"),
            as_of=date(2026, 11, 1),
            source="ai.google.dev/gemini-api/docs/pricing",
        ),
        body={"extra_body": {"google": {"thinking_config": {"include_thoughts": True}}}},
    ),
    # The one of these that sells batches; neither its prices nor what it takes off them are in its documentation.
    "novita": Preset(
        base_url="https://api.novita.ai/openai/v1",
        model="deepseek/deepseek-r1-0528",
        canonical_model="deepseek-r1-0528",
        key_variable="NOVITA_API_KEY",
        batch=BatchOffer(
            factor=Decimal(1), window="48h", as_of=date(2026, 11, 21), source="novita.ai/docs/guides/llm-batch-api"
        ),
    ),
    "vllm": Preset(
        base_url="http://127.0.0.1:8000/v1", model=None, canonical_model=None, key_variable=None, batch=OPENAIS_OFFER
    ),
    EMBEDDED: Preset(
        base_url=None,  # served by the command itself, on a free port of loopback
        model="r1k-embedded-solver",
        canonical_model="r1k-embedded-solver",
        key_variable=None,
        price=Price(prompt=Decimal(0), completion=Decimal(0), as_of=date(2026, 11, 1), source="runs on this machine"),
    ),
}


BENCHMARKS = "aime24,math500,gpqa-diamond"
"""The benchmarks that a build is compared with if it names none: the paper's."""


def _plain_url(url: str) -> str:
    """Settings are written down, so a URL may hold no secret; and what stands behind the path would be cut in two."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PydanticCustomError("url", "is no http:// or https:// URL with a host")
    if parts.username is not None or parts.password is not None:
        raise PydanticCustomError("url", "holds a user name or password: put the key in an environment variable instead")
    if parts.query or parts.fragment:
        raise PydanticCustomError("url", "has a query or a fragment: give the URL up to /v1")
    return url


Url = Annotated[str, AfterValidator(_plain_url)]


def _each_once(urls: tuple[str, ...]) -> tuple[str, ...]:
    """An endpoint that is named twice would be taken for two, and get twice what it can do."""
    plain = [url.rstrip("/") for url in urls]
    if len(set(plain)) < len(plain):
        raise PydanticCustomError("url", "names the same endpoint twice: give each once")
    return urls


Urls = Annotated[
    tuple[Url, ...],
    Field(min_length=1),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    AfterValidator(_each_once),
]
"""One URL, or several."""


def host_of(url: str) -> str:
    """The host's name, with its port, for provenance."""
    return urlsplit(url).netloc.rpartition("@")[2]


class TeacherConfig(Record):
    """Which model answers, where, and how it is sampled."""

    preset: Literal["openrouter", "fireworks", "deepseek", "gemini", "novita", "vllm", "embedded"] = "openrouter"
    """The host to ask: its URL, model, key variable and price."""
    base_url: Urls | None = None
    """Any OpenAI-compatible endpoint instead of the preset's; one on loopback needs no key. Given several times (replicas of
    one model), each request goes where most is free, and the build goes on while one of them answers."""
    model: str | None = None
    """The host's id of the model, instead of the preset's."""
    key_variable: Annotated[str | None, Field(pattern=KEY_VARIABLE)] = None
    """Environment variable that holds the API key (default: the preset's, or OPENAI_API_KEY with --base-url)."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.6
    """Sampling temperature; `none` sends none. The paper is silent; 0.6 is DeepSeek's advice for R1."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 0.95
    """Nucleus sampling; `none` sends none. The paper is silent; 0.95 is DeepSeek's advice for R1."""
    max_tokens: Annotated[int, Field(gt=0, le=10_000_000)] | None = 32768
    """Most tokens of one answer, reasoning included; `none` leaves it to the host."""
    price: Annotated[str | None, Field(pattern=PRICE)] = None
    """Dollars per million tokens as PROMPT,COMPLETION[,CACHED], where the preset's price is not yours."""
    batch_factor: Annotated[Decimal, Field(gt=0, le=1)] | None = None
    """What a request in a batch costs of its price online (default: the preset's; with --base-url 0.5, OpenAI's)."""

    @property
    def _preset(self) -> Preset:
        return PRESETS[self.preset]

    @property
    def host_model(self) -> str:
        """The model's id as this host knows it. Raises UsageError where none is named."""
        model = self.model or (self._preset.model if self.base_url is None or self.preset == EMBEDDED else None)
        if model is None:
            raise UsageError("no model is named for this host: add --model NAME (the id that the host's /models lists)")
        return model

    @property
    def canonical_model(self) -> str:
        """The model's name in request keys."""
        preset = self._preset
        if preset.canonical_model is not None and self.host_model == preset.model:
            return preset.canonical_model
        return self.host_model

    @property
    def urls(self) -> tuple[str, ...]:
        """The endpoints; none for the embedded teacher, which gets one when it starts."""
        return self.base_url or tuple(filter(None, [self._preset.base_url]))

    @property
    def hosts(self) -> tuple[str, ...]:
        """The endpoints' names for provenance."""
        return tuple(map(host_of, self.urls)) or (EMBEDDED,)

    @property
    def host(self) -> str:
        """The same as one text."""
        return ", ".join(dict.fromkeys(self.hosts))

    @property
    def api_key_variable(self) -> str | None:
        """The environment variable to read the key from; None where the host needs no key."""
        if self.key_variable:
            return self.key_variable
        if self.base_url is not None:
            return None if all(urlsplit(url).hostname in LOOPBACK for url in self.base_url) else "OPENAI_API_KEY"
        return self._preset.key_variable

    @property
    def known_price(self) -> Price | None:
        """The price to count with, or None: unknown, which is never taken for free."""
        if self.price is not None:
            prompt, completion, *cached = (Decimal(part) for part in self.price.split(","))
            return Price(
                prompt=prompt, completion=completion, cached=cached[0] if cached else None, as_of=None, source="--price"
            )
        preset = self._preset
        return preset.price if self.base_url is None and self.host_model == preset.model else None

    @property
    def batch_offer(self) -> BatchOffer | None:
        """How the host sells batches, or None where it does not; of one that is named by its URL that is not known."""
        offer = self._preset.batch if self.base_url is None else OPENAIS_OFFER
        if offer is None or self.batch_factor is None:
            return offer
        return offer.model_copy(update={"factor": self.batch_factor, "as_of": None, "source": "--batch-factor"})

    @property
    def batch_price(self) -> Price | None:
        """`known_price` in a batch."""
        price, offer = self.known_price, self.batch_offer
        if price is None or offer is None:
            return price
        day = f", {offer.as_of}" if offer.as_of else ""
        return Price(
            prompt=price.prompt * offer.factor,
            completion=price.completion * offer.factor,
            cached=None if price.cached is None else price.cached * offer.factor,
            as_of=price.as_of,
            source=f"{price.source}, in batches × {offer.factor}: {offer.source}{day}",
        )

    @property
    def sampling(self) -> dict[str, Any]:
        """The parameters exactly as they are sent beside model and messages."""
        body = self._preset.body if self.base_url is None else {}
        values = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens, **body}
        return {name: value for name, value in values.items() if value is not None}


class BuildConfig(Record):
    """A build. `--resume` alone takes all of it from the folder's manifest."""

    source: Annotated[str, Field(min_length=1)] = S1K
    """Where forward examples come from: a Hub dataset id, a Parquet, JSON or JSONL file, or `embedded`."""
    question_column: str | None = None
    """Column that holds the question, where it is not `question` or `problem`."""
    answer_column: str | None = None
    """Column that holds the reference solution, where it is not `solution` or `answer`."""
    forward_teacher: Literal["deepseek", "gemini"] = "deepseek"
    """Whose reasoning of s1K-1.1 becomes the forward rows."""
    domain: str | None = None
    """Only source rows of this domain (s1K's `cot_type`: math, science, crossword)."""
    split: Literal["train", "heldout"] = "train"
    """Which part of the embedded bank; the parts share no question (a fifth is held out)."""
    limit: PositiveInt | None = None
    """Only the first N source rows; raising it later adds rows, lowering it exports fewer."""
    shuffle_seed: int | None = None
    """Shuffle the source with this seed before --limit; for the embedded bank, the seed of its draws."""
    attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """Samples to ask for, at most, while a reply is unparsable, empty or truncated."""
    tokenizer: str = "Qwen/Qwen2.5-7B-Instruct"
    """Tokenizer for `num_tokens`: a Hub id, a folder, or `none` (lengths are then characters)."""
    benchmarks: str | None = BENCHMARKS
    """Benchmarks whose overlap with the questions is looked for, comma-separated: aime24, math500, gpqa-diamond (from the
    Hub), or NAME=FILE or NAME=HUB_ID of any other; `none` for none. The embedded bank is compared only where this is given."""
    control: Literal["none", "independent"] = "none"
    """`independent` pairs each forward row with a reverse row made from another forward row of its domain."""
    with_completions: bool = False
    """Write every reply of the teacher, too, as the configuration `completions`, for others to build from (`--replay`)."""
    teacher: TeacherConfig = TeacherConfig()

    templates: Templates = "paper"
    """`paper` inverts by the paper's template, verbatim; `strict` by ours: JSON, no "why", never the same unknown."""
    samples: Annotated[int, Field(ge=1, le=64)] = 1
    """Independent solutions of each reverse question; of the answer that most agree on, the earliest is kept."""
    cycle: bool = False
    """Put each reverse answer into its question and ask for the value that the question gave."""
    judge: str | None = None
    """Who judges each reverse row: a preset, a model at the teacher's host, or PRESET:MODEL."""
    judge_base_url: Url | None = None
    """Any OpenAI-compatible endpoint for the judge instead; one on loopback needs no key."""
    judge_key_variable: Annotated[str | None, Field(pattern=KEY_VARIABLE)] = None
    """Environment variable that holds the judge's API key (default: the preset's, or OPENAI_API_KEY with --judge-base-url)."""
    judge_price: Annotated[str | None, Field(pattern=PRICE)] = None
    """The judge's dollars per million tokens as PROMPT,COMPLETION[,CACHED]."""
    judge_temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.0
    """The judge's sampling temperature; `none` sends none."""
    judge_max_tokens: PositiveInt | None = 16384
    """Most tokens of one verdict, reasoning included; `none` leaves it to the host."""
    until_verified: Annotated[int, Field(ge=1, le=20)] = 1
    """Invert afresh, up to this many times in all, while any check fails the reverse row."""
    accepted: PositiveInt | None = None
    """Go on through the source until N rows are in `reverse-verified`; the dataset ends with the N-th."""

    batch: bool = False
    """Ask in batches, which some hosts sell at half the price: answers come within a day; stop and --resume at will."""
    batch_size: Annotated[int, Field(ge=1, le=50_000)] = 50_000
    """Most requests in one batch, where the host takes fewer than OpenAI."""
    concurrency: Annotated[int, Field(ge=1, le=4096)] = 64
    """Most requests in flight at each endpoint; its 429 and 503 shrink that, success restores it."""
    max_cost: Annotated[Decimal, Field(ge=0)] | None = None
    """Stop, resumable, before the folder's whole cost could pass this many dollars."""
    idle_timeout: PositiveFloat | None = None
    """Seconds without a byte from the host before a request is given up (default: the preset's)."""
    deadline: PositiveFloat = 1800.0
    """Seconds that one request may take in all."""
    retry_budget: PositiveFloat = 900.0
    """Seconds over which one request is retried before its row is owed to the next --resume."""
    grace: Annotated[float, Field(ge=0)] = 30.0
    """Seconds that Ctrl-C leaves to the requests in flight."""

    @property
    def rows(self) -> int | None:
        """How many source rows to read: `limit`, and 1,000 where the embedded bank would never end."""
        return 1000 if self.limit is None and self.accepted is None and self.source == EMBEDDED else self.limit

    @cached_property
    def judging(self) -> TeacherConfig | None:
        """The judge as a model to ask; None where none is named. Raises UsageError where it can be none."""
        if self.judge is None:
            return None
        named, _, model = self.judge.partition(":")
        known = named in PRESETS
        preset, model = (named, model) if known else (self.teacher.preset, self.judge)
        at_teachers = not known and self.judge_base_url is None
        if preset == EMBEDDED and self.judge_base_url is None:
            raise UsageError("the embedded solver is no judge: name a model with --judge MODEL --judge-base-url URL")
        return TeacherConfig.model_validate(
            {
                "preset": preset,
                "model": model or None,
                "base_url": self.judge_base_url or (self.teacher.base_url if at_teachers else None),
                "key_variable": self.judge_key_variable or (self.teacher.key_variable if at_teachers else None),
                "temperature": self.judge_temperature,
                "top_p": None,
                "max_tokens": self.judge_max_tokens,
                "price": self.judge_price or (self.teacher.price if at_teachers and model == self.teacher.model else None),
                "batch_factor": self.teacher.batch_factor if at_teachers else None,
            }
        )

    @property
    def models(self) -> list[TeacherConfig]:
        """Every model that the build asks."""
        return [self.teacher, *filter(None, [self.judging])]

    def asked(self, stage: str) -> TeacherConfig:
        """The model that a stage's requests go to."""
        return self.judging or self.teacher if stage == "judge" else self.teacher

    def price(self, stage: str, *, batched: bool) -> Price | None:
        """What a stage's requests cost, or None: unknown."""
        model = self.asked(stage)
        return model.batch_price if batched else model.known_price
