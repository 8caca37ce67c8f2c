"""What the engine does, as Prometheus metrics at /metrics."""

from prometheus_client import Counter, Gauge, Histogram

from azeros.serving.observer import Observer

_SECONDS = (0.025, 0.05, 0.1, 0.15, 0.25, 0.4, 0.6, 1, 1.5, 2.5, 5, 10, 30, 60)
_POWERS = tuple(2**power for power in range(11))

AUDIO_SECONDS = Counter("azeros_audio_seconds", "Audio that was encoded")
CLIPS = Counter("azeros_clips", "Clips of requests: encoded, or known from an earlier one", ["how"])
QUEUE = Gauge("azeros_queue_requests", "Requests that wait", multiprocess_mode="livesum")
BATCH = Histogram("azeros_batch_size", "Answers that get a token together", buckets=_POWERS)
FIRST_TOKEN = Histogram("azeros_time_to_first_token_seconds", "From request to first token", buckets=_SECONDS)
RATE = Histogram("azeros_tokens_per_second", "Speed of one answer after its first token", buckets=_POWERS)
TOKENS = Counter("azeros_tokens", "Tokens of answers")
RESPONSES = Counter("azeros_http_responses", "Answers of /v1 and /generate", ["endpoint", "status"])
REQUESTS = Counter("azeros_requests", "Requests by how they ended", ["outcome"])


class Metrics(Observer):
    """Counts what it is told."""

    def on_queue(self, num_waiting: int) -> None:
        """Set the gauge."""
        QUEUE.set(num_waiting)

    def on_clips(self, num_known: int, num_encoded: int, encoded_s: float) -> None:
        """Count clips and their seconds."""
        CLIPS.labels("known").inc(num_known)
        CLIPS.labels("encoded").inc(num_encoded)
        AUDIO_SECONDS.inc(encoded_s)

    def on_step(self, num_rows: int) -> None:
        """Note the size of the batch."""
        BATCH.observe(num_rows)

    def on_first_token(self, waited_s: float) -> None:
        """Note the time."""
        FIRST_TOKEN.observe(waited_s)

    def on_end(self, outcome: str, num_tokens: int, wrote_s: float) -> None:
        """Count the request and its tokens."""
        REQUESTS.labels(outcome).inc()
        TOKENS.inc(num_tokens)
        if num_tokens > 1:
            RATE.observe((num_tokens - 1) / max(wrote_s, 1e-9))
