"""What a tool is: options, columns, rows, and how they are rendered."""
