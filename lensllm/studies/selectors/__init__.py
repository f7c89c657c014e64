"""How selectors are judged and tuned, and how the prior is learned."""
