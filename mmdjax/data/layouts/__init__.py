"""How the field keeps multimodal features in files: a module a layout, each with `open`."""
