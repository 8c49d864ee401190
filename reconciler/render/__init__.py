"""Values to text. No decisions."""
