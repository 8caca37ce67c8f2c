"""VoiceBench as its own evaluator scores it (github.com/MatthewCYM/VoiceBench, commit 5338154)."""
