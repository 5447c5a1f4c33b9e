"""Real libraries that train through Lightning, with the kit and without it: what changes, and what is said.

python -m benchmarks.libraries [--only darts] [--preset standard] [--program nbeats]
python -m benchmarks.libraries --page docs/libraries.md --json results.json
"""
