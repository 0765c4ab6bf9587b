"""The schemas of tasks: each has its own keys, the arguments of its class."""

from typing import Annotated, Literal

from pydantic import Field, Tag

from icot.config.section import TARGET, OfAnotherPackage, Section

Chain = Literal["long", "short", "tree"]


class MultiplicationConfig(Section):
    """``icot.tasks.multiplication.Multiplication``: two numbers of ``digits`` digits."""

    target: Literal["icot.tasks.multiplication.Multiplication"] = Field(alias=TARGET)
    """The task's class."""
    digits: int = Field(ge=2)
    """N, the digits of each operand."""
    chain: Chain = "long"
    """Long multiplication, the same without the zeros of a shift, or Appendix C's tree of sums."""
    train_size: int | None = Field(None, ge=1)
    """Training examples; null is the published 808,000, or all if there are fewer."""
    valid_size: int | None = Field(None, ge=1)
    """Validation examples; null is the published 1,000, or a tenth of all if that is fewer."""
    test_size: int | None = Field(None, ge=0)
    """Test examples; null is the published 1,000, or a tenth of all if that is fewer."""
    seed: int = Field(3456, ge=0)
    """Random seed of the operands."""
    easy_share: float = Field(0.0, ge=0, le=1)
    """Share of training questions whose multiplier keeps its leading digit and only some others."""
    easy_held_out: float = Field(0.0, ge=0, le=1)
    """The same share of the held-out questions."""


class MixedMultiplicationConfig(Section):
    """``icot.tasks.mixed_digits.MixedMultiplication``: operands of different numbers of digits."""

    target: Literal["icot.tasks.mixed_digits.MixedMultiplication"] = Field(alias=TARGET)
    """The task's class."""
    min_digits: int = Field(1, ge=1)
    """Digits of the smallest operands."""
    max_digits: int = Field(3, ge=1)
    """Digits of the largest operands."""
    pairs: Literal["all", "square"] = "all"
    """All pairs of numbers of digits, or N x N only."""
    weights: Literal["pairs", "questions"] = "pairs"
    """Each pair gets equally many questions, or in proportion to how many there are."""
    chain: Chain = "long"
    """As in Multiplication."""
    order: Literal["reversed", "plain", "reversed_product"] = "reversed"
    """Least significant digit first, most significant first, or the latter in the question only."""
    padding: bool = False
    """Write operands with zeros up to max_digits, and the answer up to twice that."""
    curriculum: list[tuple[int, float]] | None = None
    """Phases of an epoch, each the most digits of its operands and its share of the training
    examples, as [[2, 0.3], [3, 0.7]]; null mixes all."""
    train_size: int | None = Field(None, ge=1)
    """Training examples over all pairs; null is 808,000, or all if there are fewer."""
    valid_size: int | None = Field(None, ge=1)
    """Validation examples over all pairs; null is 1,000, or a tenth of all if that is fewer."""
    test_size: int | None = Field(None, ge=0)
    """Test examples over all pairs; null is 1,000, or a tenth of all if that is fewer."""
    seed: int = Field(3456, ge=0)
    """Random seed of the operands and their order."""
    easy_share: float = Field(0.0, ge=0, le=1)
    """As in Multiplication."""
    easy_held_out: float = Field(0.0, ge=0, le=1)
    """As in Multiplication."""


class GeneratedOptions(Section):
    """The keys of all tasks whose examples are drawn one by one."""

    train_size: int | None = Field(None, ge=1)
    """Training examples; null is 100,000, or all if there are fewer."""
    valid_size: int | None = Field(None, ge=1)
    """Validation examples; null is 1,000, or a tenth of all if that is fewer."""
    test_size: int | None = Field(None, ge=0)
    """Test examples; null is 1,000, or a tenth of all if that is fewer."""
    seed: int = Field(3456, ge=0)
    """Random seed of the examples."""


class ParityConfig(GeneratedOptions):
    """``icot.tasks.parity.Parity``: is the number of ones at hidden positions odd?"""

    target: Literal["icot.tasks.parity.Parity"] = Field(alias=TARGET)
    """The task's class."""
    bits: int = Field(16, ge=1)
    """Bits of a question, without the distractors."""
    hidden: int | None = Field(None, ge=1)
    """How many of the bits count, drawn by the seed; null is all of them."""
    distractors: int = Field(0, ge=0)
    """More bits behind them, none of which counts."""


class AutomatonConfig(GeneratedOptions):
    """``icot.tasks.automaton.Automaton``: the state of a machine after a word."""

    target: Literal["icot.tasks.automaton.Automaton"] = Field(alias=TARGET)
    """The task's class."""
    machine: Literal["cyclic", "s3", "s5", "flip_flop", "grid"] = "s3"
    """A cyclic or symmetric group, a flip-flop, or a row of cells between walls."""
    length: int = Field(12, ge=1)
    """Letters of the longest words."""
    min_length: int | None = Field(None, ge=1)
    """Letters of the shortest words; null is length. Each length is drawn equally often."""
    size: int | None = Field(None, ge=2)
    """Elements of the cyclic group, or cells of the row; null is 5."""


class ModularConfig(GeneratedOptions):
    """``icot.tasks.modular.Modular``: nested expressions modulo a small number."""

    target: Literal["icot.tasks.modular.Modular"] = Field(alias=TARGET)
    """The task's class."""
    operations: int = Field(6, ge=1)
    """Operations of an expression."""
    modulus: int = Field(7, ge=2)
    """All values are modulo this."""


class SumConfig(GeneratedOptions):
    """``icot.tasks.sums.Sum``: the sum of several numbers."""

    target: Literal["icot.tasks.sums.Sum"] = Field(alias=TARGET)
    """The task's class."""
    numbers: int = Field(4, ge=2)
    """How many numbers are added."""
    digits: int = Field(3, ge=1)
    """Digits of each."""


class ProsQAConfig(GeneratedOptions):
    """``icot.tasks.prosqa.ProsQA``: which of two kinds is somebody, by a path through a graph?"""

    target: Literal["icot.tasks.prosqa.ProsQA"] = Field(alias=TARGET)
    """The task's class."""
    kinds: int = Field(16, ge=6, le=36)
    """Kinds in a graph."""
    hops: int = Field(4, ge=1)
    """Sentences of the longest chains, at most half of the kinds."""
    min_hops: int | None = Field(None, ge=1)
    """Sentences of the shortest chains; null is hops. Each length is drawn equally often."""


class ReadOptions(Section):
    """The keys of all tasks whose examples are read."""

    train_size: int | None = Field(None, ge=1)
    """Training examples to use, from the start; null uses all."""
    valid_size: int | None = Field(None, ge=1)
    """Validation examples to use, from the start; null uses all."""
    test_size: int | None = Field(None, ge=0)
    """Test examples to use, from the start; null uses all."""
    on_bad_line: Literal["raise", "skip"] = "raise"
    """At a line, row or record that makes no example: stop with an error, or skip and count it."""


class TextFilesConfig(ReadOptions):
    """``icot.tasks.text_files.TextFiles``: your own lines, ``question||cot #### answer``."""

    target: Literal["icot.tasks.text_files.TextFiles"] = Field(alias=TARGET)
    """The task's class."""
    name: str = "text"
    """The task's name in reports and messages."""
    data_dir: str
    """The folder that holds the files."""
    train_file: str | None = "train.txt"
    """The file of the training split."""
    valid_file: str | None = "valid.txt"
    """The file of the validation split."""
    test_file: str | None = "test.txt"
    """The file of the test split; null for none."""


class RecordsConfig(ReadOptions):
    """``icot.tasks.records.Records``: JSON files, JSON lines, or a data set of the hub."""

    target: Literal["icot.tasks.records.Records"] = Field(alias=TARGET)
    """The task's class."""
    format: Literal["gsm8k", "gsm8k_nl", "svamp", "multiarith", "gsm_hard", "prosqa", "prontoqa"]
    """What the records look like."""
    name: str | None = None
    """The task's name in reports and messages; null is the format."""
    data_dir: str | None = None
    """The folder that holds the files; null reads the data set."""
    train_file: str | None = None
    """The file of the training split, or the data set's name of it; if all three are null, the
    usual names."""
    valid_file: str | None = None
    """The file or name of the validation split."""
    test_file: str | None = None
    """The file or name of the test split."""
    dataset: str | None = None
    """Hub name of a data set, or a folder that ``datasets`` can load."""
    subset: str | None = None
    """The data set's configuration."""
    revision: str | None = None
    """A commit or tag that pins what is downloaded."""
    held_out: int = Field(500, ge=0)
    """Without a validation split, this many last training records become it."""


class MultipleChoiceConfig(RecordsConfig):
    """``icot.tasks.multiple_choice.MultipleChoice``: questions with options to choose from."""

    target: Literal["icot.tasks.multiple_choice.MultipleChoice"] = Field(alias=TARGET)  # type: ignore[assignment]
    """The task's class."""
    format: Literal["multiple_choice"] = "multiple_choice"  # type: ignore[assignment]
    """All shapes of records are known by their names."""
    options: int | None = Field(None, ge=2, le=26)
    """The most options of a question: other letters are no answers; null allows all 26."""


class RationalesConfig(Section):
    """``icot.methods.scotd.rationales.Rationales``: a corpus that ``icot.sample`` wrote."""

    target: Literal["icot.methods.scotd.rationales.Rationales"] = Field(alias=TARGET)
    """The task's class."""
    samples: str
    """The folder of the corpus, or a file of such lines."""
    samples_per_question: int | None = Field(None, ge=1)
    """N: use the first so many samples of each question, before any filter; null uses all."""
    train_size: int | None = Field(None, ge=1)
    """Training questions to use, from the start; null uses all."""
    labels: Literal["gold", "teacher"] = "gold"
    """gold learns the right answers, from samples that have them (supervised); teacher learns the
    teacher's answers, right or wrong, and looks at no label (few-shot)."""
    filter: (
        Literal["none", "correct", "random", "diversity", "likelihood", "open_endedness"] | None
    ) = None
    """What is kept; null is correct with gold labels, else none. The last four have a budget."""
    keep: int = Field(5, ge=1)
    """Samples of a question that a filter with a budget keeps."""
    dedup: bool = False
    """Equal rationales of a question with equal answers count once."""
    visit: Literal["one", "all"] = "one"
    """An epoch shows one sample of each question, another one each time, or all of them."""
    selection: Literal["train_holdout", "valid"] = "train_holdout"
    """The valid split: a tenth of the sampled questions, and test is then the sampled task's valid;
    or valid and test of the sampled task."""
    embedding: str | None = None
    """filter=diversity: a model of sentence-transformers; null compares counts of words."""
    seed: int = Field(3456, ge=0)
    """Random seed of what is drawn and held out."""


class OtherTaskConfig(OfAnotherPackage):
    """A task of a user's package, a subclass of ``icot.Task``."""


TASKS: dict[str, type[Section]] = {
    "icot.tasks.multiplication.Multiplication": MultiplicationConfig,
    "icot.tasks.mixed_digits.MixedMultiplication": MixedMultiplicationConfig,
    "icot.tasks.parity.Parity": ParityConfig,
    "icot.tasks.automaton.Automaton": AutomatonConfig,
    "icot.tasks.modular.Modular": ModularConfig,
    "icot.tasks.sums.Sum": SumConfig,
    "icot.tasks.prosqa.ProsQA": ProsQAConfig,
    "icot.tasks.text_files.TextFiles": TextFilesConfig,
    "icot.tasks.records.Records": RecordsConfig,
    "icot.tasks.multiple_choice.MultipleChoice": MultipleChoiceConfig,
    "icot.methods.scotd.rationales.Rationales": RationalesConfig,
}
EachTask = (
    Annotated[MultiplicationConfig, Tag("icot.tasks.multiplication.Multiplication")]
    | Annotated[MixedMultiplicationConfig, Tag("icot.tasks.mixed_digits.MixedMultiplication")]
    | Annotated[ParityConfig, Tag("icot.tasks.parity.Parity")]
    | Annotated[AutomatonConfig, Tag("icot.tasks.automaton.Automaton")]
    | Annotated[ModularConfig, Tag("icot.tasks.modular.Modular")]
    | Annotated[SumConfig, Tag("icot.tasks.sums.Sum")]
    | Annotated[ProsQAConfig, Tag("icot.tasks.prosqa.ProsQA")]
    | Annotated[TextFilesConfig, Tag("icot.tasks.text_files.TextFiles")]
    | Annotated[RecordsConfig, Tag("icot.tasks.records.Records")]
    | Annotated[MultipleChoiceConfig, Tag("icot.tasks.multiple_choice.MultipleChoice")]
    | Annotated[RationalesConfig, Tag("icot.methods.scotd.rationales.Rationales")]
)
