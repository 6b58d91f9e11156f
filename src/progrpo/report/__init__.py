"""Pages and tables from run directories; reads only what `train` wrote there."""
