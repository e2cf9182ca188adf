"""How fast this machine speaks, for `saywell bench`; harness, report and plot for the benchmarks beside `src`, too."""
