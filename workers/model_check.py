"""`python -m workers.model_check PATH`: whether a worker would use a model, found without loading its weights.

`baton doctor` runs it, so that it says of a model what a worker would say.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from transformers.utils import logging as transformers_logging

from shared.errors import BatonError
from shared.runtime.exit_codes import EX_CONFIG
from workers.engine.loading.model_files import ModelFiles
from workers.engine.text.detokenizer import check_tokenizer
from workers.engine.token_bytes import TokenBytes
from workers.requests.resolver import Resolver


def check_model(path: Path, max_model_len: int | None = None) -> None:
    """Raises BatonError if a worker would refuse the model for its files. The text names the file and the reason."""
    files = ModelFiles(path)
    files.check()
    Resolver.from_files(files, "", max_model_len)
    check_tokenizer(TokenBytes(files.pristine_tokenizer.backend_tokenizer))


def main() -> int:
    """Return the exit status. Writes the reason of a refusal as one line."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    logging.disable()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    longest = os.environ.get("BATON_MAX_MODEL_LEN")
    try:
        check_model(Path(sys.argv[1]), int(longest) if longest else None)
    except BatonError as error:
        sys.stdout.write(" ".join(str(error).split()) + "\n")
        return EX_CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main())
