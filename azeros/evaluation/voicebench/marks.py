"""Marks that some systems add to their answers, which the official evaluators take away."""


def without_first(response: str) -> str:
    """Without <1>, <2> or <3> before it; white space goes only where one went."""
    return response[3:].strip() if response.startswith(("<1>", "<2>", "<3>")) else response


def without_last(response: str) -> str:
    """Without <|user|> after it; white space goes only where it went."""
    end = "<|user|>"
    return response.removesuffix(end).strip() if response.endswith(end) else response
