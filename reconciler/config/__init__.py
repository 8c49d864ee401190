"""The user's files: from bytes to nodes with positions, and back."""
