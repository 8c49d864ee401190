"""The platform: requests, and the tree below the root."""
