"""An exported model over HTTP: `--mode=serve`."""
