"""Runs compared by what they were evaluated on: numbers and sentences, before anything is drawn."""
