"""The dataset card: README.md of the dataset folder, rendered from what the build counted.

Every value that the template prints is escaped unless the template itself marks it as safe: names and reasons come
from models, hosts and datasets, and may not break the YAML, the Markdown, or bring in HTML. What is generated stands
between `r1k:begin NAME` and `r1k:end NAME` comments.
"""

import re
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup

from r1k_builder.config import BuildConfig

MARK = "r1k:begin"
"""Stands in every card that this module has rendered."""

LICENSES = {"simplescaling/s1K-1.1": "mit", "simplescaling/s1K": "apache-2.0", "embedded": "apache-2.0"}
"""The sources' licenses as their own cards name them; of any other source it is `unknown`."""

LONGEST_TEXT = 300
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_SPECIAL = re.compile(r"[\\`*<>\[\]|!$~]|&(?=[#\w])")


def render_card(manifest: Mapping[str, Any], config: BuildConfig, facts: Mapping[str, Any], name: str) -> str:
    """The card's text. The same arguments give the same text.

    `manifest` is what `export.write_dataset` returns and `name` the folder's. Of `facts` it needs `version` (r1k's),
    `source_fingerprint`, `prompt_versions` (a mapping of stage to version), `requests` (how many were sent in all) and
    `cost` (dollars, None: unknown). Raises jinja2.UndefinedError where one is missing."""
    environment = SandboxedEnvironment(
        undefined=StrictUndefined, finalize=_escape, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    template = environment.from_string((_templates() / "README.md.jinja").read_text(encoding="utf-8"))
    listed = {config_name: entry for config_name, entry in manifest["configs"].items() if entry["rows"]}
    default = "reverse" if "reverse" in listed else next(iter(listed), None)
    return template.render(
        manifest=manifest,
        configs=listed,
        default=default,
        config=config,
        facts=facts,
        name=name,
        source=Path(config.source).name if Path(config.source).exists() else config.source,  # no paths of a machine
        license=LICENSES.get(config.source, "unknown"),
        size=_size_category(
            sum(listed[config_name]["rows"] for config_name in ("forward", "reverse") if config_name in listed)
        ),
    )


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
