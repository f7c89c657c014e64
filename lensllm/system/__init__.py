"""Protection of files, processes and readers: atomic writes, claims, signals and limits."""
