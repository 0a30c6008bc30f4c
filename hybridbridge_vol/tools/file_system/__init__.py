"""What the tools for files share: walking the guest's tree, and files that have no name any more."""
