"""The demonstration: real servers, a real data set replayed as live traffic, a verified summary."""
