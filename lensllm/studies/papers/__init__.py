"""The tables and figures of the papers, measured beside published."""
