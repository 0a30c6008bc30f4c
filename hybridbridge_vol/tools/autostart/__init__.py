"""The places from which programs start by themselves: one file for each family of them."""
