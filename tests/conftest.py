"""What all tests share. `stages` is imported first: it fixes threads and instruction sets."""

import stages  # noqa: F401, I001 - before anything heavy

import os

os.environ["HF_HUB_OFFLINE"] = "1"
