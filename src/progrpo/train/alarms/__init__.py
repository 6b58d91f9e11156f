"""Alarms: what a run says aloud, marks on its page and keeps a rollout of, when its metrics look as they do in runs that fail.

One alarm is one class of `of_rollouts` or `of_training`, its thresholds and a pure function of the metrics logged so far, and a
line in `settings`. docs/alarms.md explains each.
"""
