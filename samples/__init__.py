"""Sample images: how they are made. Nothing here is part of the installed package."""
