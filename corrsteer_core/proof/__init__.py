"""What a set's file says of how it was measured, and measuring it again to see whether that holds."""
