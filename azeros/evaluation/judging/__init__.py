"""Judgements by a language model behind an OpenAI-compatible endpoint: asked once, kept, replayed from then on."""
