"""One step each, in their order: its number is its revision. A step that was released stays as it is."""
