"""The frozen language model spread over processes: each keeps a part of every layer, and has the whole of one only while it runs."""

from __future__ import annotations

from typing import Any

import torch


def shard(llm: Any) -> None:
    """Leave this process its part of the frozen parameters of `llm`, on its GPU if it has one; what is trained stays whole.

    The processes have to run `llm`, and to look up its embeddings, equally often from then on: each run gathers the parts of all.
    """
    from torch.distributed.fsdp import fully_shard
    from transformers.modeling_layers import GradientCheckpointingLayer

    trained = {param for param in llm.parameters() if param.requires_grad}
    embeddings, head = llm.get_input_embeddings(), llm.get_output_embeddings()
    vocabulary = [[embeddings, head]] if head.weight is embeddings.weight else [embeddings, head]
    layers = [layer for layer in llm.modules() if isinstance(layer, GradientCheckpointingLayer)]
    for part in [*vocabulary, *layers, llm]:
        fully_shard(part, reshard_after_forward=True, ignored_params=trained)
    # The first module to run counts as the outermost, and embeddings are looked up before `llm` runs.
    with torch.no_grad():
        width = llm.config.get_text_config().hidden_size
        llm(inputs_embeds=torch.zeros(1, 1, width, device=llm.device, dtype=llm.dtype), use_cache=False)
