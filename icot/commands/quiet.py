"""Leave to the user what the user can act on."""

import logging
import warnings


def quiet_libraries() -> None:
    """Silence what the libraries say of themselves."""
    for name in ("lightning.pytorch", "lightning.fabric", "httpx", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
