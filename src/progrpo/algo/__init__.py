"""The equations: pure functions of tensors.

Float32 inside, arguments never written to, gradient only where a docstring says so. Dimension letters: P problems,
G completions of one problem, N = P*G sequences in group order, S padded length, V vocabulary.
"""
