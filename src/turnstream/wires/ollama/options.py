"""Params that are options of the model in Ollama, and their names there."""

from __future__ import annotations

OPTION_OF = {"max_tokens": "num_predict"}
PARAM_OF = {option: param for param, option in OPTION_OF.items()}
SHARED_OPTIONS = frozenset({"temperature", "top_p", "top_k", "stop"})
OWN_OPTIONS = frozenset(
    {
        "frequency_penalty", "main_gpu", "min_p", "mirostat", "mirostat_eta", "mirostat_tau",
        "num_batch", "num_ctx", "num_gpu", "num_keep", "num_predict", "num_thread",
        "presence_penalty", "repeat_last_n", "repeat_penalty", "seed", "tfs_z", "typical_p",
        "use_mmap",
    }
)  # fmt: skip
