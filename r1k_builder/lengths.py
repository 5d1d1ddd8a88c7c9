"""Lengths of texts: in tokens where there is a tokenizer, else in characters."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1k_builder.errors import UsageError

TOKENIZED_AT_ONCE = 1_000_000
"""Characters; an encoding takes some 100 bytes a token."""


@dataclass(frozen=True)
class Ruler:
    """Measures texts, in tokens where there is a tokenizer, else in characters."""

    tokenizer: dict[str, str] | None = None
    """`name` and the `sha256` of its tokenizer.json."""
    notes: tuple[str, ...] = ()
    """Why lengths are characters, where they are."""
    path: Path | None = None
    """Where tokenizer.json stands."""
    _encoder: Any = None

    @property
    def unit(self) -> str:
        return "tokens" if self.tokenizer else "characters"

    def measure(self, texts: Sequence[str]) -> list[int]:
        """The length of each text, without special tokens of the tokenizer's own."""
        if self._encoder is None:
            return [len(text) for text in texts]
        lengths: list[int] = []
        start, total = 0, 0
        for stop, text in enumerate(texts, start=1):
            total += len(text)
            if total >= TOKENIZED_AT_ONCE or stop == len(texts):
                batch = self._encoder.encode_batch_fast(texts[start:stop], add_special_tokens=False)
                lengths.extend(len(encoding) for encoding in batch)
                start, total = stop, 0
        return lengths


def load_ruler(name: str) -> Ruler:
    """The ruler for `--tokenizer NAME`: a Hub id, a folder, a tokenizer.json, or `none`.

    Takes the Hub's cache where it can; a Hub that can't be reached costs one attempt of some seconds and is no error.
    Raises UsageError for a tokenizer.json that is none."""
    if name == "none":
        return Ruler(notes=("num_tokens is null and lengths are characters, as no tokenizer was asked for",))
    local = Path(name) / "tokenizer.json" if Path(name).is_dir() else Path(name)
    path = local if local.is_file() else _from_hub(name)
    if isinstance(path, str):
        return Ruler(notes=(f"num_tokens is null and lengths are characters, as {path}",))
    from tokenizers import Tokenizer  # the processes beside a build start sooner without

    content = path.read_bytes()
    try:
        encoder = Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises nothing narrower
        raise UsageError(f"{path} can't be read as a tokenizer ({error}): name another with --tokenizer, or none") from error
    encoder.no_truncation()
    encoder.no_padding()
    return Ruler({"name": name, "sha256": hashlib.sha256(content).hexdigest()}, (), path, encoder)


def _from_hub(name: str) -> Path | str:
    """tokenizer.json of a Hub model, from the cache or downloaded; or why there is none. The first request is made by hand,
    since `hf_hub_download` would repeat it for half a minute where there is no network."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is httpx's or httpx2's
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
    )

    try:
        cached = try_to_load_from_cache(name, "tokenizer.json")
        if isinstance(cached, str):
            return Path(cached)
        get_hf_file_metadata(hf_hub_url(name, "tokenizer.json"), timeout=5)
        return Path(hf_hub_download(name, "tokenizer.json"))
    except HfHubHTTPError as error:
        return f"the Hub gives no tokenizer.json of {name} (status {error.response.status_code})"
    except HFValidationError:
        return f"{name} holds no tokenizer.json and is no Hub id"
    except (HTTPError, OSError):
        return f"the Hub, which has the tokenizer {name}, could not be reached"
