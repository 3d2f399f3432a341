"""One module per claim; ``python -m benchmarks`` runs them and writes RESULTS.md."""
