"""A conversation answers as `generate` does on all of its messages, and computes what is new alone."""

from typing import Any

import pytest
import torch

from azeros.errors import ModelError
from azeros.model.conversation import Conversation
from tests.model.conftest import Golden


def wave(duration_s: float, seed: int) -> torch.Tensor:
    return 0.1 * torch.randn(round(16000 * duration_s), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def computed(stage2: Golden, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each call of the language model was given."""
    lengths: list[int] = []
    forward = stage2.model.llm.model.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        given = next(
            value for key in ("inputs_embeds", "input_ids") if (value := kwargs.get(key)) is not None
        )
        lengths.append(given.shape[1])
        return forward(*args, **kwargs)

    monkeypatch.setattr(stage2.model.llm.model, "forward", watched)
    return lengths


def test_turns_are_answered_as_all_messages_at_once(stage2: Golden, computed: list[int]) -> None:
    model, slot = stage2.model, stage2.model.audio_token_wrapped
    system = {"role": "system", "content": "be brief"}
    first, second = wave(2.0, 1), wave(1.0, 2)
    array = {"type": "audio", "array": second, "sampling_rate": 16000}
    turns: list[tuple[Any, list[torch.Tensor]]] = [
        (f"{slot} what is it?", [first]),
        ([{"type": "text", "text": "and"}, array], []),
        ("compare them", []),
    ]
    conversation = Conversation(model, [system])
    messages: list[Any] = [system]
    heard: list[torch.Tensor] = []
    for content, audios in turns:
        written = content if isinstance(content, str) else f"and {slot}"
        heard += audios if isinstance(content, str) else [second]
        messages.append({"role": "user", "content": written})
        (expected,) = model.generate(heard, [messages], max_new_tokens=8)
        whole = computed[0]
        computed.clear()
        assert conversation.ask(content, audios, max_new_tokens=8) == expected
        if len(messages) > 2:
            assert computed[0] < whole / 2
        computed.clear()
        messages.append({"role": "assistant", "content": expected})
    assert [m["role"] for m in conversation.messages] == ["system"] + 3 * ["user", "assistant"]


def test_a_question_that_fails_leaves_no_trace(stage2: Golden) -> None:
    slot = stage2.model.audio_token_wrapped
    conversation, other = Conversation(stage2.model), Conversation(stage2.model)
    for talk in (conversation, other):
        talk.ask(f"{slot} hello", [wave(1.0, 1)], max_new_tokens=4)
    with pytest.raises(ModelError, match="audio slots"):
        conversation.ask(f"{slot} {slot}", [wave(1.0, 2)], max_new_tokens=4)
    with pytest.raises(ModelError, match="no option num_tokens"):
        conversation.ask(slot, [wave(1.0, 2)], num_tokens=4)
    assert conversation.messages == other.messages
    assert conversation.ask("go on", max_new_tokens=8) == other.ask("go on", max_new_tokens=8)
