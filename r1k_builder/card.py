"""The dataset card: README.md of the dataset folder, rendered from what the build counted.

Every value that the template prints is escaped unless the template itself marks it as safe: names and reasons come from
models, hosts and datasets, and may not break the YAML, the Markdown, or bring in HTML. What is generated stands between
`r1k:begin NAME` and `r1k:end NAME` comments; what a user writes outside of them is the user's, and stays.
"""

import re
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup

from r1k_builder.columns import SCHEMAS
from r1k_builder.config import BuildConfig
from r1k_builder.figures import FIGURES

MARK = "r1k:begin"
"""Stands in every card that this module has rendered."""

LICENSES = {"simplescaling/s1K-1.1": "mit", "simplescaling/s1K": "apache-2.0", "embedded": "apache-2.0"}
"""The sources' licenses as their own cards name them; of any other source it is `unknown`."""

LONGEST_TEXT = 300
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_SPECIAL = re.compile(r"[\\`*<>\[\]|!$~]|&(?=[#\w])")


def render_card(manifest: Mapping[str, Any], config: BuildConfig, facts: Mapping[str, Any], name: str) -> str:
    """The card's text. The same arguments give the same text.

    `manifest` is what `export.write_dataset` returns, with the `figures` that stand in the folder; `name` is the folder's,
    or OWNER/NAME of a repository on the Hub. Of `facts` it needs `version` (r1k's), `source_fingerprint`, `prompt_versions`
    (a mapping of stage to version), `requests` (how many were sent in all), `cost` (dollars, None: unknown), `tokens`
    (`prompt` and `completion`), `asked` (the days of the first and the last answer, or none), `returned_models` (each with
    its answers), `replayed` (None, or `answers` by their origin, `rows_asked_here`, and some of them: `asked_here`)
    and `benchmarks` (`benchmarks.described`'s); `batched` (answers that came in batches) may be left out.
    Raises jinja2.UndefinedError where one is missing."""
    environment = SandboxedEnvironment(
        undefined=StrictUndefined, finalize=_escape, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    template = environment.from_string((_templates() / "README.md.jinja").read_text(encoding="utf-8"))
    listed = {config_name: entry for config_name, entry in manifest["configs"].items() if entry["rows"]}
    default = "reverse" if "reverse" in listed else next(iter(listed), None)
    on_hub = "/" in name
    return template.render(
        manifest=manifest,
        configs=listed,
        default=default,
        config=config,
        facts=facts,
        name=name,
        data=f"hf://datasets/{name}" if on_hub else name,
        on_hub=on_hub,
        figures={file: words for file, (_, words) in FIGURES.items() if file in manifest["figures"]},
        dataset_info=_dataset_info(listed),
        source=_without_folder(config.source),
        without_folder=_without_folder,
        license=LICENSES.get(config.source, "unknown"),
        size=_size_category(
            sum(listed[config_name]["rows"] for config_name in ("forward", "reverse") if config_name in listed)
        ),
    )


def _without_folder(where: str) -> str:
    """A Hub id as it is; of a file its name, as a card holds no paths of a machine."""
    return Path(where).name if Path(where).exists() else where


# -- what is the user's


_SECTION = re.compile(
    r"^(?P<open>(?:# |<!-- )r1k:begin (?P<name>[a-z]+)(?: -->)?)\n(?P<text>.*?)^(?:# |<!-- )r1k:end (?P=name)(?: -->)?$",
    re.DOTALL | re.MULTILINE,
)


def has_card(text: str) -> bool:
    """Whether `text` is a card of ours whose generated sections can be told: each begins once, and ends."""
    names = [found["name"] for found in _SECTION.finditer(text)]
    return bool(names) and len(set(names)) == len(names) == text.count(MARK) == text.count("r1k:end")


def read_card(path: Path) -> str | None:
    """The card of ours at `path`; None where what lies there is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
    return text if has_card(text) else None


def free_text(card: str) -> str:
    """What of a card stands outside its generated sections."""
    return _SECTION.sub(lambda found: found["open"], card)


def merge_card(fresh: str, written: str) -> str:
    """`written`, a card with a user's own text in it, with every generated section as in `fresh`.

    A section that `written` lacks comes in behind the one that is before it in `fresh`; one that `fresh` lacks goes.
    A key of the metadata that the user has written outside the generated ones stands for the generated one."""
    sections = {found["name"]: found[0] for found in _SECTION.finditer(fresh)}
    merged = _SECTION.sub(lambda found: sections.get(found["name"], ""), written)
    before = None
    for name, section in sections.items():
        if not re.search(rf"r1k:begin {name}\b", merged):
            place = merged.index(sections[before]) + len(sections[before]) if before else 0
            merged = f"{merged[:place]}\n\n{section}{merged[place:]}"
        before = name
    return _without_doubles(merged)


def _without_doubles(card: str) -> str:
    """The card without those generated keys of the metadata that the user gives, too: YAML allows each key once."""
    found = next((found for found in _SECTION.finditer(card) if found["name"] == "metadata"), None)
    if found is None:
        return card
    outside = card[: found.start()] + card[found.end() :].partition("\n---")[0]
    given = set(re.findall(r"^(\w+):", outside, re.MULTILINE))
    kept = [block for block in re.split(r"^(?=\w)", found["text"], flags=re.MULTILINE) if block.partition(":")[0] not in given]
    return card[: found.start("text")] + "".join(kept) + card[found.end("text") :]


# -- parts


def _dataset_info(configs: Mapping[str, Any]) -> Markup:
    """`dataset_info` of the metadata, in YAML. `num_bytes` are those of the rows uncompressed, in Parquet's encoding.

    Each configuration has its features in full: `datasets` takes them apart in place, so that YAML's references would
    leave the second one without."""
    info = [
        {
            "config_name": name,
            "features": _columns(SCHEMAS[name]),
            "splits": [{"name": "train", "num_bytes": _sum(entry, "uncompressed"), "num_examples": entry["rows"]}],
            "download_size": _sum(entry, "bytes"),
            "dataset_size": _sum(entry, "uncompressed"),
        }
        for name, entry in configs.items()
    ]
    return Markup(yaml.safe_dump({"dataset_info": info}, sort_keys=False).rstrip())  # noqa: S704  # names are ours


def _columns(schema: pa.Schema | pa.StructType) -> list[dict[str, Any]]:
    return [{"name": field.name, **_type(field.type)} for field in schema]


def _type(kind: pa.DataType) -> dict[str, Any]:
    """A column's type as `datasets` writes it."""
    if pa.types.is_list(kind):
        return {"list": _columns(kind.value_type)}
    if pa.types.is_struct(kind):
        return {"struct": _columns(kind)}
    return {"dtype": "float64" if pa.types.is_float64(kind) else str(kind)}


def _sum(entry: Mapping[str, Any], name: str) -> int:
    return sum(file[name] for file in entry["files"])


def _templates() -> Traversable:
    """`dataset_card/`: inside the installed package, or beside it in a checkout."""
    packaged = resources.files("r1k_builder") / "dataset_card"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "dataset_card"


def _size_category(rows: int) -> str:
    """The Hub's `size_categories` value for so many rows."""
    return next((name for limit, name in _SIZES if rows < limit), "n>1M")


def _escape(value: object) -> object:
    """`value` as inert Markdown text on one line, cut at LONGEST_TEXT characters; Markup passes as it is."""
    if isinstance(value, Markup):
        return value
    text = str(value)
    if len(text) > LONGEST_TEXT:
        text = text[:LONGEST_TEXT] + "…"
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", line)
