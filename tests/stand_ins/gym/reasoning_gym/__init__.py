"""What is asked of reasoning-gym, with data sets whose questions tell the seed that they were made from."""
