"""Cross-view detection: what one of the kernel's views shows and another does not."""
