"""Research code: studies, the paper's tables and figures, and performance measurements."""
