"""Events with a time: collected from the tools, and written in the forms that timeline programs take."""
