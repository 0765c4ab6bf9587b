"""Hide the libraries' messages that a user cannot act on."""

import logging
import warnings


def quiet_libraries() -> None:
    """Show only errors of Lightning and the hub client, and none of Lightning's warnings."""
    for name in ("lightning.pytorch", "lightning.fabric", "httpx", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
