"""What an engine tells of its work, as it does it."""


class Observer:
    """Is told by the engine what happens; does nothing with it unless a subclass does."""

    def on_queue(self, num_waiting: int) -> None:
        """So many requests wait."""

    def on_clips(self, num_known: int, num_encoded: int, encoded_s: float) -> None:
        """Requests brought clips that were known, and others of `encoded_s` seconds that were encoded."""

    def on_step(self, num_rows: int) -> None:
        """So many answers got a token."""

    def on_first_token(self, waited_s: float) -> None:
        """An answer began, `waited_s` after it was asked for."""

    def on_end(self, outcome: str, num_tokens: int, wrote_s: float) -> None:
        """A request ended as `stop`, `length`, `cancelled` or `failed`, `wrote_s` after its first token."""
