"""A child process with limits that examines one image after the other."""
