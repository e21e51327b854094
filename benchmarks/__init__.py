"""Speed, side by side with peers."""
