"""Views of what the engine does; reads any stage, and no stage imports it."""
