"""What verl loads in each of its processes: our estimator, trainer modes and policy losses, under the names users write.

verl hides what an entry point raises; here it is logged as an error first, so that "unknown trainer 'progrpo'" has its reason.
VERL_USE_EXTERNAL_PLUGINS=none switches all entry points off.
"""

import logging

try:
    from progrpo.adapters.verl import losses, trainer
except Exception:
    logging.getLogger(__name__).exception(
        "progrpo's plug-in for verl did not load: adv_estimator=progrpo, its trainer modes and policy losses are missing in "
        "this process"
    )
    raise

__all__ = ["losses", "trainer"]
