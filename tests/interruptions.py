"""Interruptions of what writes a corpus of samples."""

import pytest

from icot.methods.scotd.corpus import CorpusWriter, Sample

append = CorpusWriter.append


def interrupt(monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    """Interrupt the command, as Ctrl-C does, behind ``left`` samples and one more."""
    steps = iter(range(left))

    def interrupted(corpus: CorpusWriter, sample: Sample) -> None:
        append(corpus, sample)
        if next(steps, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr(CorpusWriter, "append", interrupted)
