"""The research: studies, the paper's tables and figures, and what they cost to compute."""
