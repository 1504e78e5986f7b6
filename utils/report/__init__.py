"""Many runs, one answer: `python -m utils.report results/` (docs/report.md)."""
