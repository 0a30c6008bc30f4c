"""Cross-view detection: what one of the kernel's lists names and another does not."""
