"""Token stores: examples tokenized once, with the span of every chain, on disk or in memory.

One example is the token sequence

    {question} <eos> {cot} <eos> #### {answer} <eos>
    ^offsets[i]      ^cot_start ^cot_end            ^offsets[i+1]

with BOS before the question where the model expects it (``icot.data.leading_tokens``). ``tokens``
holds all examples end to end; ``cot_start`` and ``cot_end`` (half-open) count from an example's own
start.

``tokenize_split`` caches the store of a task's split, memory-mapped, under the hash of the task's
fingerprint, the tokenizer and the format version. Its index holds a checksum of every file and of
itself; a store that does not match them is rebuilt. ``tokenize_examples`` makes a store of a list
of examples in memory.
"""

import hashlib
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from icot.data.leading_tokens import leading_tokens
from icot.errors import DataError, RunError
from icot.system.files import explain_refusal
from icot.system.locks import lock_file
from icot.tasks.base import Example, Split, Task

log = logging.getLogger(__name__)

FORMAT_VERSION = 3
INDEX = "index.json"
ARRAYS = {"offsets": np.int64, "cot_start": np.int32, "cot_end": np.int32}
BUILT = {INDEX, "tokens.bin", *(f"{name}.bin" for name in ARRAYS)}  # the files of a store
SEPARATORS = 3  # <eos> tokens in every example


@dataclass(frozen=True)
class TokenizedSplit:
    """The tokens of a split (memory-mapped) or of a list of examples (in memory).

    Attributes:
        tokens: [total] token ids, all examples end to end.
        offsets: [n + 1] where each example starts in ``tokens``.
        cot_start, cot_end: [n] each example's chain, half-open, from its own start.
        index: counts, longest example and chain, fingerprint.
        folder: of the files; None in memory.
        texts: [n] the examples as text if the store was made from a list, else None.
    """

    tokens: NDArray[Any]
    offsets: NDArray[np.int64]
    cot_start: NDArray[np.int32]
    cot_end: NDArray[np.int32]
    index: dict[str, Any]
    folder: Path | None = None
    texts: Sequence[Example] | None = None

    def __len__(self) -> int:
        return int(self.index["examples"])

    @property
    def identity(self) -> str:
        """A hash of the text and the tokenizer, which determine every token."""
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


def question_boundaries(store: TokenizedSplit) -> NDArray[np.int64]:
    """Where runs of neighbouring examples with the same question begin, and the end, [G + 1]."""
    first = [0]
    for row in range(1, len(store)):
        length, before = store.cot_start[row], int(store.offsets[row - 1])
        start = int(store.offsets[row])
        same = length == store.cot_start[row - 1] and np.array_equal(
            store.tokens[start : start + length], store.tokens[before : before + length]
        )
        if not same:
            first.append(row)
    return np.array([*first, len(store)])


def tokenize_split(
    task: Task, split: Split, tokenizer: PreTrainedTokenizerBase, cache_dir: Path
) -> TokenizedSplit:
    """The tokens of a split, from the cache; tokenizes and caches them if they are missing.

    Raises:
        DataError: a bad line, or an example whose text contains the separator.
        RunError: the cache cannot be written.
    """
    key = {
        "format": FORMAT_VERSION,
        "task": dict(task.fingerprint(split)),
        "tokenizer": tokenizer_fingerprint(tokenizer),
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    name = re.sub(r"[^\w-]", "_", task.name)
    folder = cache_dir / f"{name}-{split}-{digest}"
    index = _intact_index(folder)
    if index is None:
        _remove_killed_builds(cache_dir)
        with explain_refusal(folder), lock_file(_lock_of(folder.name, cache_dir)):
            index = _intact_index(folder)  # another process may have built it
            if index is None:
                if folder.exists():
                    log.warning("%s is damaged and is rebuilt.", folder)
                    shutil.rmtree(folder)
                index = _build(task, split, tokenizer, folder, key)
    return _open(folder, index)


def tokenize_examples(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase
) -> TokenizedSplit:
    """Tokenize ``examples`` into a store in memory; it can be used like one on disk.

    Raises:
        DataError: an example whose text contains the separator.
    """
    chunk = _tokenize_chunk(list(examples), tokenizer, "a list of examples")
    lines = "\n".join(example.line() for example in examples)
    index = {
        "examples": len(examples),
        "tokens": len(chunk.tokens),
        "longest": int(chunk.lengths.max(initial=0)),
        "longest_cot": int((chunk.cot_end - chunk.cot_start).max(initial=0)),
        "skipped_lines": 0,
        "dtype": _token_type(tokenizer).name,
        "key": {
            "format": FORMAT_VERSION,
            "task": {"examples": hashlib.sha256(lines.encode()).hexdigest()},
            "tokenizer": tokenizer_fingerprint(tokenizer),
        },
    }
    return TokenizedSplit(
        tokens=chunk.tokens.astype(_token_type(tokenizer)),
        offsets=np.concatenate([[0], np.cumsum(chunk.lengths)]).astype(np.int64),
        cot_start=chunk.cot_start,
        cot_end=chunk.cot_end,
        index=index,
        texts=tuple(examples),
    )


def kept_examples(
    task: Task, split: Split, tokenizer: PreTrainedTokenizerBase
) -> Iterator[list[Example]]:
    """The examples of a split as text, those that its token store holds, in its order.

    An example that contains the separator is not among them where the task leaves it out.
    """
    eos = str(tokenizer.eos_token)
    for chunk in task.chunks(split):
        yield [e for e in chunk if eos not in e.line() or not task.leaves_out(split, e)]


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of everything that determines how text is tokenized."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab())
    leading = "".join(f"{token} " for token in leading_tokens(tokenizer))
    return hashlib.sha256(f"{leading}{tokenizer.eos_token_id} {content}".encode()).hexdigest()


def separator_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The end-of-sequence token, which separates question, chain and answer."""
    token_id = tokenizer.eos_token_id
    assert isinstance(token_id, int)
    return token_id


def tokenize(
    examples: list[Example], tokenizer: PreTrainedTokenizerBase
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens of all ``examples`` end to end, and the length of each, in one batched call.

    Without the leading tokens.

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
    tokens = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=lengths.sum())
    return tokens, lengths


def detokenize(tokenizer: PreTrainedTokenizerBase, rows: list[list[int]]) -> list[str]:
    """Each row of tokens as text without separators, with single blanks; one batched call."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoded: list[str]
    if backend is not None:
        decoded = backend.decode_batch(rows, skip_special_tokens=True)
    else:
        decoded = [str(tokenizer.decode(row, skip_special_tokens=True)) for row in rows]
    return [" ".join(text.split()) for text in decoded]


def find_chains(
    tokens: NDArray[Any], lengths: NDArray[np.int64], eos_token_id: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The chain of each example, half-open, between its first and second separator.

    Raises:
        ValueError: an example does not have exactly three separators; the message is its row.
    """
    separators = np.flatnonzero(tokens == eos_token_id)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    counts = np.diff(np.searchsorted(separators, starts))
    if (counts != SEPARATORS).any():
        raise ValueError(int(np.flatnonzero(counts != SEPARATORS)[0]))
    own = separators.reshape(-1, SEPARATORS) - starts[:-1, None]
    return (own[:, 0] + 1).astype(np.int32), own[:, 1].astype(np.int32)


@dataclass(frozen=True)
class _Chunk:
    """Some tokenized examples: their tokens end to end, and the length and chain of each [n]."""

    tokens: NDArray[np.int64]
    lengths: NDArray[np.int64]
    cot_start: NDArray[np.int32]
    cot_end: NDArray[np.int32]


def _tokenize_chunk(
    examples: list[Example], tokenizer: PreTrainedTokenizerBase, origin: str
) -> _Chunk:
    """Tokenize ``examples`` and find their chains; ``origin`` names them in an error."""
    tokens, lengths = tokenize(examples, tokenizer)
    try:
        cot_start, cot_end = find_chains(tokens, lengths, separator_id(tokenizer))
    except ValueError as error:
        bad = examples[int(str(error))]
        raise DataError(
            f"{origin}: an example contains the separator {str(tokenizer.eos_token)!r} in its own "
            f"text: {bad.line()[:200]!r}"
        ) from None
    if leading := leading_tokens(tokenizer):
        starts = np.cumsum(lengths) - lengths
        tokens = np.insert(tokens, np.repeat(starts, len(leading)), leading * len(lengths))
        lengths = lengths + len(leading)
        cot_start, cot_end = (column + np.int32(len(leading)) for column in (cot_start, cot_end))
    return _Chunk(tokens, lengths, cot_start, cot_end)


def _token_type(tokenizer: PreTrainedTokenizerBase) -> np.dtype[Any]:
    """The smallest type that holds every token id."""
    return np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.int32)


def _build(
    task: Task, split: Split, tokenizer: PreTrainedTokenizerBase, folder: Path, key: dict[str, Any]
) -> dict[str, Any]:
    """Tokenize into a temporary folder, then rename it; returns the index."""
    dtype = _token_type(tokenizer)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        total = n = longest = longest_cot = 0
        files = {name: (partial / f"{name}.bin").open("wb") for name in ("tokens", *ARRAYS)}
        files["offsets"].write(np.zeros(1, dtype=np.int64).tobytes())
        for examples in kept_examples(task, split, tokenizer):
            if not examples:
                continue
            tokenized = _tokenize_chunk(examples, tokenizer, f"task {task.name}, {split}")
            files["tokens"].write(tokenized.tokens.astype(dtype).tobytes())
            files["offsets"].write((total + np.cumsum(tokenized.lengths)).tobytes())
            files["cot_start"].write(tokenized.cot_start.tobytes())
            files["cot_end"].write(tokenized.cot_end.tobytes())
            total, n = total + len(tokenized.tokens), n + len(examples)
            longest = max(longest, int(tokenized.lengths.max()))
            longest_cot = max(longest_cot, int((tokenized.cot_end - tokenized.cot_start).max()))
        for file in files.values():
            file.close()
        index = {
            "examples": n,
            "tokens": total,
            "longest": longest,
            "longest_cot": longest_cot,
            "skipped_lines": task.skipped(split),
            "notes": list(task.notes(split)),
            "dtype": dtype.name,
            "key": key,
            "sha256": {name: _sha256(partial / f"{name}.bin") for name in files},
        }
        index["seal"] = _seal(index)
        (partial / INDEX).write_text(json.dumps(index, indent=2))
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return index


def _intact_index(folder: Path) -> dict[str, Any] | None:
    """The index of a store whose files match their checksums, else None."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        sealed = index["seal"] == _seal(index)
        if sealed and all(_sha256(folder / f"{n}.bin") == h for n, h in index["sha256"].items()):
            assert isinstance(index, dict)
            return index
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        pass
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seal(index: dict[str, Any]) -> str:
    """The checksum of an index without its seal."""
    content = json.dumps({k: v for k, v in index.items() if k != "seal"}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _lock_of(store: str, cache_dir: Path) -> Path:
    """The file by which one process at a time builds a store; others wait."""
    return cache_dir / f".{store}.lock"


def _remove_killed_builds(cache_dir: Path) -> None:
    """Remove what killed processes have left of stores that nobody builds now."""
    for path in cache_dir.glob(".*-*"):
        store = path.name[1:].rpartition("-")[0]
        # The folder may be one that others use too, /tmp for instance.
        if not re.fullmatch(r".+-[0-9a-f]{24}", store) or not _holds_only(path, BUILT):
            continue
        with suppress(RunError), lock_file(_lock_of(store, cache_dir), str) as held:
            if held:
                shutil.rmtree(path, ignore_errors=True)


def _holds_only(folder: Path, names: set[str]) -> bool:
    try:
        return {path.name for path in folder.iterdir()} <= names
    except OSError:  # no folder, or one that another process has just removed
        return False


def _open(folder: Path, index: dict[str, Any]) -> TokenizedSplit:
    def array(name: str, dtype: Any, size: int) -> NDArray[Any]:
        if size == 0:
            return np.empty(0, dtype=dtype)
        return np.memmap(folder / f"{name}.bin", dtype=dtype, mode="r", shape=(size,))

    n = index["examples"]
    sizes = {"offsets": n + 1, "cot_start": n, "cot_end": n}
    arrays = {name: array(name, dtype, sizes[name]) for name, dtype in ARRAYS.items()}
    return TokenizedSplit(
        tokens=array("tokens", index["dtype"], index["tokens"]),
        offsets=arrays["offsets"],
        cot_start=arrays["cot_start"],
        cot_end=arrays["cot_end"],
        index=index,
        folder=folder,
    )
