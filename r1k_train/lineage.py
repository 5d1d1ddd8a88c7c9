"""What a model's run folder says of it: the base model, and the runs that made it from that."""

import json
import re
from pathlib import Path
from typing import Any


class LineageError(ValueError):
    """A record that is not a run's."""


def lineage(model: str, run: Path | None = None) -> dict[str, Any]:
    """What was evaluated: `base` model, its `size`, and the `steps` that made it from that, oldest first.

    A step is the record of a run: `run.json` (and `recipe.yaml` beside it) in the model's folder or the one above, or `run`.
    The model that it started from may be such a folder itself, and then is the step before.
    """
    steps: list[dict[str, Any]] = []
    seen: set[Path] = set()
    base, file = model, run or _record(model)
    while file and file.resolve() not in seen:
        seen.add(file.resolve())
        step = _step(file)
        steps.insert(0, step)
        started = step["base_model"]
        beside = file.parent / (started or "")
        base = str(beside) if started and not Path(started).is_dir() and beside.is_dir() else started or base
        file = _record(base)
    adapter = Path(base) / "adapter_config.json"
    if adapter.is_file():  # one that no run.json explains
        base = json.loads(adapter.read_text()).get("base_model_name_or_path") or base
    size = re.search(r"(?<![\d.])(\d+(?:\.\d+)?)[bB](?![a-zA-Z])", base.rstrip("/").rsplit("/", 1)[-1])
    return {"name": model, "base": base, "size": f"{size[1]}B" if size else None, "steps": steps}


def _record(model: str) -> Path | None:
    """The record of the run that made a local model."""
    places = (Path(model), Path(model).parent) if Path(model).is_dir() else ()
    return next((place / "run.json" for place in places if (place / "run.json").is_file()), None)


def _step(file: Path) -> dict[str, Any]:
    """`method`, `dataset_config` and `base_model` of a run. Preference rows mean dpo where the record names no method."""
    import yaml

    try:
        said = json.loads(file.read_text())
        beside = file.with_name("recipe.yaml")
        recipe = yaml.safe_load(beside.read_text()) if beside.is_file() else {}
        config = said.get("dataset_config") or (said.get("dataset") or {}).get("config") or recipe.get("dataset_config")
        bases = (said.get("base_model"), recipe.get("adapter"), recipe.get("model_name_or_path"))
        method = said.get("method") or ("dpo" if (config or "").startswith("preference") else "sft")
    except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError) as error:
        raise LineageError(f"{file} is not a run's record ({error}): name another with --run") from error
    return {"method": method, "dataset_config": config, "base_model": next((base for base in bases if base), None)}
