"""Files that are copied into an exported folder. They import nothing of this package."""
