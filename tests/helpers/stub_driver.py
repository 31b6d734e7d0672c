"""The driver of a sweep of trials that train nothing: `stub_driver.py FILE NAME SECONDS-PER-TRIAL`."""

import sys

from stub_trial import stub_trial

from runner.settings import Settings
from runner.sweep.plan import SweepOptions, plan_sweep
from runner.sweep.run import run_sweep
from runner.terminal.console import make_console


def main(file, name, seconds):
    settings = Settings.from_environment()
    plan = plan_sweep(file, settings, SweepOptions(name=name))
    trainable = stub_trial(float(seconds), plan.data.digests["validation"])
    result = run_sweep(plan, settings, make_console(), trainable)
    make_console().print(
        f"failed {len(result.failed)}, behind {len(result.behind)}, summary {result.summary_run}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
