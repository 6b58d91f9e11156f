"""The paper's tables and figures, filled with what runs have."""
