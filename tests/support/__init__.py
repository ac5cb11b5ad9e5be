"""What several kinds of test share: fixtures that start the real parts."""
