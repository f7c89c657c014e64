"""The tables and figures of the papers, with measured beside published numbers."""
