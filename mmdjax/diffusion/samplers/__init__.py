"""One file a sampler; `loop.py` owns the scan, `registry.py` the names, `multistep.py` the past."""
