"""AIR-Bench as its own scripts ask and score it (github.com/OFA-Sys/AIR-Bench, commit 9832476)."""
