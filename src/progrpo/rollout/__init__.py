"""Problems in, groups out: generation and verification as training and evaluation share them."""
