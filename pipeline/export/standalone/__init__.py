"""Files that are copied into an export; they import nothing of this package."""
