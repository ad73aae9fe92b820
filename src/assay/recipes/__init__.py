"""One file a published method. A file here is a recipe; nothing else needs to know of it."""
