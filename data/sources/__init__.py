"""Where labelled images come from: one file a source, all of them in ``registry.SOURCES``."""
