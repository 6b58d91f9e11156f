"""Pages and tables from run directories; reads only what `train` and `evaluate` wrote there."""
