"""From recordings to manifests and features: audio, log-mel features, lhotse cuts, corpus recipes."""
