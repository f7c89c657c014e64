"""The commands: their configuration and its checks."""
