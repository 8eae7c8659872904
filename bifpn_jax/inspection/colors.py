"""Colours that people with any kind of colour vision can tell apart (Okabe and Ito, 2008)."""

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
