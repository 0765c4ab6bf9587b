"""A split tokenized once: a flat, memory-mapped store with the span of every chain.

One example is the token sequence

    {question} <eos> {cot} <eos> #### {answer} <eos>
    ^offsets[i]      ^cot_start ^cot_end            ^offsets[i+1]

``tokens`` holds all of them end to end; ``cot_start`` and ``cot_end`` count from an example's own
start, half-open. A store lives in the cache under the hash of what determines it: the task's
fingerprint, the tokenizer and the format version; so a second start reads the index alone.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from icot.errors import DataError
from icot.tasks.base import Example, Split, Task

FORMAT_VERSION = 1
INDEX = "index.json"
ARRAYS = {"offsets": np.int64, "cot_start": np.int32, "cot_end": np.int32}
SEPARATORS = 3  # <eos> tokens in every example


@dataclass(frozen=True)
class TokenizedSplit:
    """The tokens of one split, memory-mapped.

    Attributes:
        tokens: [total] token ids, all examples end to end.
        offsets: [n + 1] where each example starts in ``tokens``.
        cot_start, cot_end: [n] each example's chain, half-open, from its own start.
        index: what the store says of itself (counts, longest example and chain, fingerprint).
        folder: where it lies.
    """

    tokens: NDArray[Any]
    offsets: NDArray[np.int64]
    cot_start: NDArray[np.int32]
    cot_end: NDArray[np.int32]
    index: dict[str, Any]
    folder: Path

    def __len__(self) -> int:
        return int(self.index["examples"])

    @property
    def identity(self) -> str:
        """A hash of what decides every token: the text and the tokenizer."""
        content = {k: self.index["key"][k] for k in ("task", "tokenizer")}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return int(self.index["longest"])

    @property
    def longest_cot(self) -> int:
        """Tokens of the longest chain."""
        return int(self.index["longest_cot"])


def tokenized(
    task: Task, split: Split, tokenizer: PreTrainedTokenizerBase, cache_dir: Path
) -> TokenizedSplit:
    """The tokens of a split, from the cache or made and cached now.

    Raises:
        DataError: a bad line, or an example whose text contains the separator.
    """
    key = {
        "format": FORMAT_VERSION,
        "task": dict(task.fingerprint(split)),
        "tokenizer": tokenizer_fingerprint(tokenizer),
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    folder = cache_dir / f"{task.name}-{split}-{digest}"
    if not (folder / INDEX).is_file():
        _build(task, split, tokenizer, folder, key)
    return _open(folder)


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of everything that decides how text becomes tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab())
    return hashlib.sha256(f"{tokenizer.eos_token_id} {content}".encode()).hexdigest()


def separator_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The end-of-sequence token, which separates question, chain and answer."""
    token_id = tokenizer.eos_token_id
    assert isinstance(token_id, int)
    return token_id


def tokenize(
    examples: list[Example], tokenizer: PreTrainedTokenizerBase
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens of all ``examples`` end to end, and each one's length, by one batched call.

    Raises:
        DataError: an example whose text contains the separator.
    """
    eos = str(tokenizer.eos_token)
    texts = [example.text(eos) for example in examples]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        rows: Iterable[list[int]] = [
            encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)
        ]
    else:
        rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(texts))
    tokens = np.fromiter((t for row in rows for t in row), dtype=np.int64, count=lengths.sum())
    return tokens, lengths


def spans(
    tokens: NDArray[Any], lengths: NDArray[np.int64], eos_token_id: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The chain of each example: after its first separator, up to its second, half-open.

    Raises:
        ValueError: an example that does not hold exactly three separators; the message is its row.
    """
    separators = np.flatnonzero(tokens == eos_token_id)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    counts = np.diff(np.searchsorted(separators, starts))
    if (counts != SEPARATORS).any():
        raise ValueError(int(np.flatnonzero(counts != SEPARATORS)[0]))
    own = separators.reshape(-1, SEPARATORS) - starts[:-1, None]
    return (own[:, 0] + 1).astype(np.int32), own[:, 1].astype(np.int32)


def _build(
    task: Task, split: Split, tokenizer: PreTrainedTokenizerBase, folder: Path, key: dict[str, Any]
) -> None:
    """Tokenize into a temporary folder, then move it into place in one step."""
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.int32)
    eos_token_id = separator_id(tokenizer)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        total = n = longest = longest_cot = 0
        files = {name: (partial / f"{name}.bin").open("wb") for name in ("tokens", *ARRAYS)}
        files["offsets"].write(np.zeros(1, dtype=np.int64).tobytes())
        for examples in task.chunks(split):
            if not examples:
                continue
            tokens, lengths = tokenize(examples, tokenizer)
            try:
                cot_start, cot_end = spans(tokens, lengths, eos_token_id)
            except ValueError as error:
                bad = examples[int(str(error))]
                raise DataError(
                    f"task {task.name}, {split}: an example contains the separator "
                    f"{tokenizer.eos_token!r} in its own text: {bad.line()[:200]!r}"
                ) from None
            files["tokens"].write(tokens.astype(dtype).tobytes())
            files["offsets"].write((total + np.cumsum(lengths)).tobytes())
            files["cot_start"].write(cot_start.tobytes())
            files["cot_end"].write(cot_end.tobytes())
            total, n = total + len(tokens), n + len(examples)
            longest = max(longest, int(lengths.max()))
            longest_cot = max(longest_cot, int((cot_end - cot_start).max()))
        for file in files.values():
            file.close()
        index = {
            "examples": n,
            "tokens": total,
            "longest": longest,
            "longest_cot": longest_cot,
            "skipped_lines": task.skipped(split),
            "dtype": dtype.name,
            "key": key,
        }
        (partial / INDEX).write_text(json.dumps(index, indent=2))
        try:
            os.replace(partial, folder)  # noqa: PTH105  atomic
        except OSError:
            if not (folder / INDEX).is_file():
                raise
            # Another process has built the same store meanwhile.
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _open(folder: Path) -> TokenizedSplit:
    index = json.loads((folder / INDEX).read_text())

    def array(name: str, dtype: Any, size: int) -> NDArray[Any]:
        if size == 0:
            return np.empty(0, dtype=dtype)
        return np.memmap(folder / f"{name}.bin", dtype=dtype, mode="r", shape=(size,))

    n = index["examples"]
    sizes = {"offsets": n + 1, "cot_start": n, "cot_end": n}
    arrays = {name: array(name, dtype, sizes[name]) for name, dtype in ARRAYS.items()}
    tokens = array("tokens", index["dtype"], index["tokens"])
    return TokenizedSplit(tokens=tokens, index=index, folder=folder, **arrays)
