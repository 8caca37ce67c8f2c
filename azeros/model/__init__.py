"""The speech LLM: two frozen encoders, two trainable projectors, one frozen language model."""
