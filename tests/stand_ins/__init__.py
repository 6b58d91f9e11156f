"""Plug-ins for tests, loaded by their dotted path as a user's own would be."""
