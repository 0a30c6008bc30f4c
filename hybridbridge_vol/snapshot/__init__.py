"""What a memory image is: file formats, the kernel inside it, its virtual layout."""
