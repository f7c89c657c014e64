"""What protects files, processes and readers: whole writes, claims, signals and limits."""
